"""Every kind of stream keeps every promise of a stream; and the suite that says so finds those that do not."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest

import zio
from tests.zio.helpers_tls import CLIENT, NAME, SERVER, both, server_context
from zio.net import Stream
from zio.testing import SimNetwork, SimStream, check_stream, memory_stream_pair, run_virtual

Pair = tuple[Stream, Stream]


def accepted(listener: Any, connect: Callable[[], Stream]) -> Pair:
    with listener:
        connecting = zio.spawn(connect)
        return listener.accept(), connecting.join()


def tcp_pair() -> Pair:
    listener = zio.net.listen("127.0.0.1", 0)
    return accepted(listener, lambda: zio.net.connect("127.0.0.1", listener.port))


def tls_pair() -> Pair:
    theirs, ours = tcp_pair()
    serving = zio.spawn(theirs.start_tls, SERVER)
    return ours.start_tls(CLIENT, NAME), serving.join()


def unix_pairs(folder: Path) -> Callable[[], Pair]:
    numbers = itertools.count()

    def make() -> Pair:
        path = folder / str(next(numbers))
        return accepted(zio.net.listen_unix(path), lambda: zio.net.connect_unix(path))

    return make


def simulated_pairs() -> Callable[[], Pair]:
    numbers = itertools.count(1)

    def make() -> Pair:
        port = next(numbers)
        return accepted(zio.net.listen("server", port), lambda: zio.net.connect("server", port))

    return make


def test_tcp() -> None:
    zio.run(check_stream, tcp_pair)


def test_unix_sockets(tmp_path: Path) -> None:
    zio.run(check_stream, unix_pairs(tmp_path))


def test_tls_over_tcp() -> None:
    zio.run(check_stream, tls_pair)


def test_tls_over_memory() -> None:
    zio.run(check_stream, lambda: both(5000))


@pytest.mark.parametrize("limit", [1000, 65536])
def test_memory_streams(limit: int) -> None:
    zio.run(check_stream, lambda: memory_stream_pair(limit))


def test_memory_streams_that_nothing_could_pass_are_refused() -> None:
    with pytest.raises(ValueError, match="limit=0 must be 1 or more"):
        zio.run(memory_stream_pair, 0)


def test_memory_streams_of_a_part_of_a_byte_are_refused() -> None:
    with pytest.raises(TypeError, match=r"limit=1\.5 must be a whole number"):
        zio.run(memory_stream_pair, 1.5)


def test_memory_streams_in_virtual_time() -> None:
    run_virtual(check_stream, memory_stream_pair, seed=1)


@pytest.mark.parametrize("seed", range(3))
def test_simulated_network_with_latency_and_pieces(seed: int) -> None:
    network = SimNetwork(seed, latency=0.01, jitter=0.005, split_reads=0.2, split_writes=0.1, buffer=1 << 20)
    run_virtual(check_stream, simulated_pairs(), seed=seed, network=network)


@pytest.mark.parametrize("seed", range(3))
def test_tls_over_a_network_with_latency_and_pieces(seed: int) -> None:
    """No split writes: ``close`` announces the end only where there is room. No tickets: those still on the way when
    the client closes have the connection reset, and some systems drop what had arrived before."""
    plain = simulated_pairs()
    context = server_context()
    context.num_tickets = 0

    def make() -> Pair:
        theirs, ours = plain()
        serving = zio.spawn(theirs.start_tls, context)
        return ours.start_tls(CLIENT, NAME), serving.join()

    network = SimNetwork(seed, latency=0.001, jitter=0.005, split_reads=0.2, buffer=1 << 18)
    run_virtual(check_stream, make, seed=seed, network=network)


# The suite itself: streams that keep all promises but one, which their docstrings quote.


class Wrapper(Stream):
    """A stream over a stream in memory, which keeps the promises. Its subclasses break one each."""

    def __init__(self, inner: SimStream) -> None:
        self.inner = inner

    def recv(self, n: int) -> bytes:
        if self._rest and self.checked(n):
            data, self._rest = self._rest[:n], self._rest[n:]
            return data
        return self.inner.recv(n)

    def checked(self, n: int) -> bool:
        if not isinstance(n, int):
            raise TypeError
        if n < 0:
            raise ValueError
        return True

    def send_all(self, data: bytes | bytearray | memoryview) -> None:
        try:
            self.inner.send_all(data)
        finally:
            self.partly_sent = self.inner.partly_sent

    def send_some(self, data: bytes | bytearray | memoryview) -> int:
        return self.inner.send_some(data)

    def wait_writable(self) -> None:
        self.inner.wait_writable()

    def shutdown_write(self) -> None:
        self.inner.shutdown_write()

    def close(self) -> None:
        self.inner.close()


def wrapped(kind: Callable[[SimStream], Stream]) -> Callable[[], Pair]:
    def make() -> Pair:
        one, other = memory_stream_pair(10_000)
        return Wrapper(one), kind(other)

    return make


def test_a_stream_over_a_stream() -> None:
    zio.run(check_stream, wrapped(Wrapper))


class Doubles(Wrapper):
    """All bytes arrive, once and in order"""

    def send_all(self, data: bytes | bytearray | memoryview) -> None:
        super().send_all(data)
        if len(data) == 16385:
            super().send_all(bytes(data)[-1:])


class TooMuch(Wrapper):
    """no more than was asked for"""

    def recv(self, n: int) -> bytes:
        return super().recv(n + 1 if n == 3 else n)


class BytearrayGiven(Wrapper):
    """as bytes"""

    def recv(self, n: int) -> bytes:
        return bytearray(super().recv(n)) if n == 3 else super().recv(n)  # type: ignore[return-value]


class KeepsBuffers(Wrapper):
    """keeps none of them"""

    kept: bytes | bytearray | memoryview = b""

    def send_all(self, data: bytes | bytearray | memoryview) -> None:
        if isinstance(data, bytearray):
            self.kept = data
        else:
            super().send_all(self.kept)
            super().send_all(data)
            self.kept = b""


class KeepsParts(Wrapper):
    """send_vectored sends several buffers as one"""

    def send_vectored(self, parts: Iterable[bytes | bytearray | memoryview]) -> None:
        for part in list(parts)[:2]:
            self.send_all(part)
        self.send_all(bytes(300_008))


class MovesTheFile(Wrapper):
    """whose own position does not count"""

    def send_file(self, file: Any, offset: int = 0, count: int | None = None) -> int:
        file.seek(offset)
        data = file.read() if count is None else file.read(count)
        self.send_all(data)
        return len(data)


class ForgetsWhatWentOut(Wrapper):
    """partly_sent is how much of it the peer will read"""

    def send_all(self, data: bytes | bytearray | memoryview) -> None:
        try:
            self.inner.send_all(data)
        except BaseException:
            self.partly_sent = self.inner.partly_sent + 1
            raise


class GrowsBuffer(Wrapper):
    """recv_into fills a buffer of the caller's"""

    def recv_into(self, buffer: bytearray | memoryview) -> int:
        data = self.recv(len(buffer))
        buffer[:] = data
        return len(data)


class NeverFull(Wrapper):
    """send_all waits while nobody reads"""

    def send_all(self, data: bytes | bytearray | memoryview) -> None:
        self.inner.out.link.buffer = 1 << 30
        super().send_all(data)


class NeverFullAtOnce(Wrapper):
    """send_some never waits; wait_writable waits"""

    def send_some(self, data: bytes | bytearray | memoryview) -> int:
        return len(data)


class WritableAlways(Wrapper):
    """so do all later calls"""

    def wait_writable(self) -> None:
        if not self.inner.closed:
            self.inner.wait_writable()


class NoHalfClose(Wrapper):
    """the other way stays open"""

    def shutdown_write(self) -> None:
        self.inner.close()


class EndsOnce(Wrapper):
    """then b"", again and again"""

    ended = False

    def recv(self, n: int) -> bytes:
        data = super().recv(n)
        if not data and self.ended:
            raise EOFError
        self.ended = not data
        return data


class SendsAfterTheEnd(Wrapper):
    """After shutdown_write"""

    def send_all(self, data: bytes | bytearray | memoryview) -> None:
        if not self.inner.out.finished:
            super().send_all(data)


class LosesLastWords(Wrapper):
    """What was sent before close arrives"""

    def close(self) -> None:
        self.inner.connection.reset()
        self.inner.close()


class LeavesWaiters(Wrapper):
    """close wakes those who wait in the stream"""

    def close(self) -> None:
        if self.inner._in.reader is None:
            super().close()


class StaysOpen(Wrapper):
    """The end of a with block closes the stream"""

    def __exit__(self, *exc_info: object) -> None:
        """Leaves it open."""


class WaitsForTheDead(Wrapper):
    """does not wait for ever"""

    def send_all(self, data: bytes | bytearray | memoryview) -> None:
        try:
            super().send_all(data)
        except ConnectionResetError:
            zio.sleep(3600)


class EatsWhenCancelled(Wrapper):
    """A recv that was cancelled while it waited has taken nothing"""

    eats = False

    def recv(self, n: int) -> bytes:
        if self.eats and n == 4:
            self.eats = False
            return super().recv(n)[1:]
        try:
            return super().recv(n)
        except zio.Cancelled:
            self.eats = True
            raise


class NoCheckpoint(Wrapper):
    """also where they need not wait"""

    def recv(self, n: int) -> bytes:
        if self.inner._in.unread:
            return self.inner._in.read(n)
        return super().recv(n)


class DropsParts(Wrapper):
    """leave what had come to be read"""

    def recv_exactly(self, n: int) -> bytes:
        data = b""
        while len(data) < n:
            data += self.recv(n - len(data))
        return data


class ShortOfExactly(Wrapper):
    """recv_exactly gives so many bytes, or EOFError"""

    def recv_exactly(self, n: int) -> bytes:
        try:
            return super().recv_exactly(n)
        except EOFError as error:
            return bytes(error.args[1])


class Unbounded(Wrapper):
    """beyond the bound"""

    def recv_until(self, separator: bytes, max_bytes: int) -> bytes:
        return super().recv_until(separator, 100)


class TakesNegativeSizes(Wrapper):
    """A size or separator that makes no sense is refused at once"""

    def checked(self, n: int) -> bool:
        return True


class WaitsBeforeRefusing(Wrapper):
    """A size or separator that makes no sense is refused at once"""

    def recv_until(self, separator: bytes, max_bytes: int) -> bytes:
        self._rest = self.recv(100) + self._rest
        return super().recv_until(separator, max_bytes)


class ManyReaders(Wrapper):
    """A second reader gets zio.Busy"""

    def recv(self, n: int) -> bytes:
        while self.inner._in.reader is not None:
            zio.sleep(0.001)
        return super().recv(n)


class ManyWriters(Wrapper):
    """A second writer gets zio.Busy"""

    def send_all(self, data: bytes | bytearray | memoryview) -> None:
        while self.inner.out.writer is not None:
            zio.sleep(0.001)
        super().send_all(data)


class AnyThread(Wrapper):
    """A plain thread that reads or sends gets a RuntimeError"""

    def send_all(self, data: bytes | bytearray | memoryview) -> None:
        try:
            super().send_all(data)
        except RuntimeError as error:
            if isinstance(error, zio.Busy):
                raise


class KeepsItsTurn(Wrapper):
    """lets other tasks go on"""

    def recv(self, n: int) -> bytes:
        loop = zio.lowlevel.here().loop
        if n == 1 and self.inner._in.unread and loop.budget > 0:
            return self.inner._in.read(n)
        return super().recv(n)


BROKEN = Wrapper.__subclasses__()


@pytest.mark.parametrize("kind", BROKEN, ids=lambda kind: kind.__name__)
def test_a_broken_promise_is_found_and_named(kind: type[Wrapper]) -> None:
    with pytest.raises(AssertionError) as caught:
        run_virtual(check_stream, wrapped(kind))
    assert str(kind.__doc__) in str(caught.value)
