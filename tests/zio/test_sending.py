"""Sending many buffers and files, what is known of a send that was cut off, bounded reading, options of TCP."""

from __future__ import annotations

import io
import os
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, TypeVar

import pytest

import zio
from tests.zio.helpers_streams import fill, reset, stream_and_peer
from tests.zio.helpers_tls import both
from zio.lowlevel import here
from zio.net import SocketStream
from zio.testing import memory_stream_pair, wait_all_parked

T = TypeVar("T")

KINDS = ["tcp", "unix", "tls", "memory", "pipe"]


def run(fn: Callable[[], T]) -> T:
    def limited() -> T:
        with zio.timeout(45):
            return fn()
        raise AssertionError

    return zio.run(limited)


@contextmanager
def pair(kind: str, tmp_path: Path) -> Iterator[tuple[Any, Any]]:
    """Two connected streams."""
    if kind == "memory":
        one, other = memory_stream_pair()
    elif kind == "pipe":
        other, one = zio.fs.pipe()  # type: ignore[assignment]
    elif kind == "tls":
        one, other = both()  # type: ignore[assignment]
    else:
        listener = zio.net.listen("127.0.0.1", 0) if kind == "tcp" else zio.net.listen_unix(tmp_path / "socket")
        with listener:
            where = ("127.0.0.1", listener.port) if kind == "tcp" else (tmp_path / "socket",)
            connect: Any = zio.net.connect if kind == "tcp" else zio.net.connect_unix
            one = connect(*where)
            other = listener.accept()
    with one, other:
        yield one, other


def received_while(send: Callable[[], object], stream: Any, size: int) -> bytes:
    """What arrives at ``stream``, ``size`` bytes of it, while another task sends."""
    sender = zio.spawn(send)
    received: bytes = stream.recv_exactly(size)
    sender.join()
    return received


# Many buffers.


@pytest.mark.parametrize("kind", KINDS)
def test_more_buffers_than_the_system_takes_at_once_arrive_in_order(kind: str, tmp_path: Path) -> None:
    parts = [b"%06d," % number for number in range(5000)]

    def main() -> None:
        assert len(parts) > os.sysconf("SC_IOV_MAX")
        with pair(kind, tmp_path) as (one, other):
            assert received_while(lambda: one.send_vectored(parts), other, 35_000) == b"".join(parts)

    run(main)


@pytest.mark.parametrize("kind", KINDS)
def test_buffers_larger_than_the_room_are_sent_in_pieces(kind: str, tmp_path: Path) -> None:
    parts = [bytes([number]) * 300_000 for number in range(30)]

    def main() -> None:
        with pair(kind, tmp_path) as (one, other):
            assert received_while(lambda: one.send_vectored(parts), other, 9_000_000) == b"".join(parts)

    run(main)


@pytest.mark.parametrize("kind", KINDS)
def test_buffers_of_any_kind_and_empty_ones_are_taken(kind: str, tmp_path: Path) -> None:
    def parts() -> Iterator[Any]:
        yield b""
        yield bytearray(b"one ")
        yield from [b""] * 2000
        yield memoryview(b"two ")
        yield memoryview(b"xxxxthree").cast("c")[4:]
        yield b""

    def main() -> None:
        with pair(kind, tmp_path) as (one, other):
            one.send_vectored([])
            one.send_vectored([b"", b""])
            assert received_while(lambda: one.send_vectored(parts()), other, 13) == b"one two three"

    run(main)


def test_they_leave_in_one_call() -> None:
    def main() -> None:
        with socket.create_server(("127.0.0.1", 0)) as server:
            sock = Counting()
            sock.connect(server.getsockname())
            peer, _ = server.accept()
            with SocketStream(sock, here().loop) as stream, peer:
                stream.send_vectored([b"a"] * 100)
                assert sock.calls == [100]
                assert peer.recv(200) == b"a" * 100

    run(main)


class Counting(socket.socket):
    """Counts the buffers of each call."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[int] = []

    def sendmsg(self, buffers: Any, *args: Any) -> int:
        self.calls.append(len(buffers))
        return super().sendmsg(buffers, *args)


# What is known of a send that was cut off.


@pytest.mark.parametrize("how", ["all", "vectored", "file"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_cancelled_send_tells_how_much_had_gone_out(kind: str, how: str, tmp_path: Path) -> None:
    data = os.urandom(20_000_000)
    (tmp_path / "file").write_bytes(data)
    sends: dict[str, Callable[[Any], object]] = {
        "all": lambda stream: stream.send_all(data),
        "vectored": lambda stream: stream.send_vectored([data[:1000], data[1000:]]),
        "file": lambda stream: stream.send_file(tmp_path / "file"),
    }

    def main() -> None:
        with pair(kind, tmp_path) as (one, other):
            sender = zio.spawn(sends[how], one)
            head = other.recv_exactly(5000)
            while here().loop.jobs:
                zio.sleep(0.001)
            wait_all_parked()
            sender.cancel()
            with pytest.raises(zio.Cancelled):
                sender.join()
            sent = one.partly_sent
            assert 5000 <= sent < len(data)
            zio.spawn(one.send_all, b"end")
            tail = other.recv_exactly(sent - 5000 + 3)
            assert head + tail == data[:sent] + b"end"

    run(main)


def test_a_failed_send_tells_it_too() -> None:
    def main() -> None:
        with stream_and_peer() as (stream, peer):
            filled = fill(stream)
            sender = zio.spawn(stream.send_all, b"x" * 10)
            wait_all_parked()
            assert filled > 0
            reset(peer)
            with pytest.raises(ConnectionError):
                sender.join()
            assert stream.partly_sent == 0

    run(main)


# Files.


@pytest.fixture
def content() -> bytes:
    return os.urandom(3_000_001)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("source", ["path", "text path", "buffered", "unbuffered", "zio.fs", "memory"])
def test_a_file_is_sent_whole(kind: str, source: str, tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "file"
    path.write_bytes(content)

    def main() -> None:
        with (
            pair(kind, tmp_path) as (one, other),
            path.open("rb") as buffered,
            path.open("rb", 0) as unbuffered,
            ExitStack() as stack,
        ):
            buffered.read(10)
            sources: dict[str, Any] = {
                "path": path,
                "text path": str(path),
                "buffered": buffered,
                "unbuffered": unbuffered,
                "zio.fs": stack.enter_context(zio.fs.open(path, "rb")),
                "memory": io.BytesIO(content),
            }
            counts: list[int] = []
            received = received_while(lambda: counts.append(one.send_file(sources[source])), other, len(content))
            assert received == content
            assert counts == [len(content)]
            assert buffered.tell() == 10

    run(main)


@pytest.mark.parametrize("kind", ["tcp", "tls"])
@pytest.mark.parametrize("source", ["file", "memory"])
def test_a_part_of_a_file_is_sent(kind: str, source: str, tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "file"
    path.write_bytes(content)

    def main() -> None:
        with pair(kind, tmp_path) as (one, other):
            for offset, count, length in (
                (0, 10, 10),
                (7, 1_000_000, 1_000_000),
                (3_000_000, None, 1),
                (3_000_001, None, 0),
                (4_000_000, None, 0),
                (5, 0, 0),
            ):
                file: Any = path if source == "file" else io.BytesIO(content)
                counts: list[int] = []

                def send(file: Any = file, offset: int = offset, count: int | None = count) -> None:
                    counts.append(one.send_file(file, offset, count))  # noqa: B023

                assert received_while(send, other, length) == content[offset : offset + length]
                assert counts == [length]

    run(main)


@pytest.mark.parametrize("kind", ["tcp", "tls"])
def test_a_file_that_ends_too_early_is_an_error(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"0123456789")

    def main() -> None:
        with pair(kind, tmp_path) as (one, other):
            with pytest.raises(EOFError, match="after 6 of 7 bytes"):
                one.send_file(path, 4, 7)
            assert one.partly_sent == 6
            assert other.recv_exactly(6) == b"456789"
            with pytest.raises(EOFError, match="after 0 of 1 bytes"):
                one.send_file(io.BytesIO(), 0, 1)

    run(main)


def test_over_tcp_the_system_sends_the_file(tmp_path: Path, content: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing of it passes through the program, once it is in the system's memory."""
    path = tmp_path / "file"
    path.write_bytes(content)
    sent: list[int] = []
    sendfile = os.sendfile

    def watched(out: int, source: int, offset: int, count: int) -> int:
        sent.append(sendfile(out, source, offset, count))
        return sent[-1]

    monkeypatch.setattr(os, "sendfile", watched)

    def main() -> None:
        with pair("tcp", tmp_path) as (one, other):
            assert received_while(lambda: one.send_file(path), other, len(content)) == content
        assert sum(sent) == len(content)

    run(main)


def test_what_is_on_the_disk_still_is_read_in_a_thread(
    tmp_path: Path, content: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "file"
    path.write_bytes(content)
    readers: set[int] = set()
    pread = os.pread

    def watched(fd: int, count: int, offset: int) -> bytes:
        readers.add(threading.get_ident())
        return pread(fd, count, offset)

    monkeypatch.setattr(os, "pread", watched)
    monkeypatch.setattr(os, "preadv", not_in_memory)

    def main() -> None:
        with pair("tcp", tmp_path) as (one, other):
            assert received_while(lambda: one.send_file(path), other, len(content)) == content
        assert readers
        assert threading.get_ident() not in readers

    run(main)


def not_in_memory(*_args: object) -> int:
    raise BlockingIOError


def test_a_file_that_never_has_to_wait_gives_others_their_turn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file"
    with path.open("wb") as file:
        file.truncate(256 << 20)  # nothing of it is on the disk
    monkeypatch.setattr(os, "sendfile", lambda _out, _source, _offset, count: count)

    def main() -> None:
        with pair("tcp", tmp_path) as (one, _other), path.open("rb") as source:
            sender = zio.spawn(one.send_file, source)
            turns = 0
            while not sender.done:
                zio.pause()
                turns += 1
            assert sender.join() == 256 << 20
            assert turns > 10

    run(main)


def test_no_file_no_send(tmp_path: Path) -> None:
    def main() -> None:
        with pair("tcp", tmp_path) as (one, _other):
            with pytest.raises(FileNotFoundError):
                one.send_file(tmp_path / "nothing")
            with pytest.raises(TypeError, match="binary mode"):
                one.send_file(io.StringIO("text"))
            for arguments in ((-1,), (0, -1), (0, 1.5)):
                with pytest.raises(ValueError, match="whole number, 0 or more"):
                    one.send_file(io.BytesIO(b"data"), *arguments)

    run(main)


def test_a_file_that_cannot_seek_says_so(tmp_path: Path) -> None:
    def main() -> None:
        read, write = os.pipe()
        os.close(write)
        with pair("tcp", tmp_path) as (one, _other), io.FileIO(read) as pipe, pytest.raises(OSError, match="seek"):
            one.send_file(pipe)

    run(main)


def test_two_writers_are_refused(tmp_path: Path) -> None:
    def main() -> None:
        path = tmp_path / "file"
        path.write_bytes(b"data")
        with stream_and_peer() as (stream, _peer):
            fill(stream)
            writer = zio.spawn(stream.send_vectored, [b"x"], name="the first")
            wait_all_parked()
            for call in (lambda: stream.send_vectored([b"y"]), lambda: stream.send_file(path)):
                with pytest.raises(zio.Busy, match="the first"):
                    call()
            writer.cancel()

    run(main)


def test_a_second_writer_does_not_slip_in_when_there_is_room_again() -> None:
    def main() -> None:
        with stream_and_peer() as (stream, peer):
            filled = fill(stream)
            writer = zio.spawn(stream.send_all, b"first")
            wait_all_parked()
            left = filled
            while left:
                left -= len(peer.recv(left))
            with pytest.raises(zio.Busy):
                stream.send_vectored([b"second"])
            writer.join()
            assert peer.recv(100) == b"first"

    run(main)


@pytest.mark.parametrize(("kind", "cached"), [*((kind, True) for kind in KINDS), ("tcp", False)])
def test_nobody_else_gets_a_word_in_while_a_file_is_sent(
    kind: str, cached: bool, tmp_path: Path, content: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also between its pieces, where the task waits for the disk or gives others their turn."""
    if not cached:
        monkeypatch.setattr(os, "preadv", not_in_memory)
    path = tmp_path / "file"
    content *= 7 if kind == "tcp" else 1  # more than the system takes at once
    path.write_bytes(content)

    def main() -> None:
        loop = here().loop
        with pair(kind, tmp_path) as (one, other), path.open("rb") as file:
            sender = zio.spawn(one.send_file, file)
            while not (loop.jobs or (isinstance(one, SocketStream) and one._io.writer)):
                zio.pause()
            received = []
            while not sender.done:
                for call in (lambda: one.send_all(b"x"), lambda: one.send_vectored([b"x"])):
                    with pytest.raises(zio.Busy):
                        call()
                if not loop.jobs:
                    received.append(other.recv(50_000))
                zio.sleep(0.0001)  # not a pause: the thread that reads needs the interpreter too
            received.append(other.recv_exactly(len(content) - sum(map(len, received))))
            assert b"".join(received) == content

    run(main)


@pytest.mark.parametrize("call", ["send_vectored", "send_file"])
def test_a_closed_stream_says_so(call: str) -> None:
    def main() -> None:
        with stream_and_peer() as (stream, _peer):
            stream.close()
            with pytest.raises(zio.Closed):
                stream.send_vectored([b"x"]) if call == "send_vectored" else stream.send_file(__file__)

    run(main)


# Reading up to a separator.


@pytest.mark.timeout(45)
def test_a_line_that_comes_byte_by_byte_costs_no_square_of_its_length() -> None:
    """Its parts are not joined again for each byte: a million bytes would be 500 GB of copying."""
    size = 1_000_000

    class Dripping(zio.net.Stream):
        left = size

        def recv(self, n: int) -> bytes:
            self.left -= 1
            return b"x" if self.left else b"\n"

        send_all = send_some = wait_writable = shutdown_write = close = None  # type: ignore[assignment]

    assert Dripping().recv_until(b"\n", size) == b"x" * (size - 1) + b"\n"


@pytest.mark.parametrize("kind", KINDS)
def test_the_bound_counts_the_separator_and_what_is_beyond_it_stays_readable(kind: str, tmp_path: Path) -> None:
    def main() -> None:
        with pair(kind, tmp_path) as (one, other):
            one.send_all(b"12345\r\n67890\r\nrest")
            assert other.recv_until(b"\r\n", 7) == b"12345\r\n"
            with pytest.raises(ValueError, match="within 6 bytes"):
                other.recv_until(b"\r\n", 6)
            assert other.recv_until(b"\r\n", 7) == b"67890\r\n"
            one.shutdown_write()
            with pytest.raises(EOFError) as caught:
                other.recv_until(b"\r\n", 100)
            assert caught.value.args[1] == b"rest"

    run(main)


def test_nothing_of_much_that_was_given_back_is_lost() -> None:
    data = b"a line\n" + b"".join(b"%06d " % number for number in range(5000))

    def main() -> None:
        with stream_and_peer() as (stream, peer):
            peer.sendall(data)
            with zio.move_on_after(0.1):
                stream.recv_exactly(1_000_000)
            assert stream.recv_until(b"\n", 100) == b"a line\n"
            assert stream.recv_until(b"004999 ", 50_000) == data[7:]

    run(main)


# Options of TCP.


def test_keepalive_is_set_and_switched_off() -> None:
    def main() -> None:
        with stream_and_peer() as (stream, _peer):
            tcp = socket.IPPROTO_TCP
            stream.set_keepalive(idle=30, interval=5, count=4)
            read = stream.socket.getsockopt
            assert read(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
            assert [read(tcp, socket.TCP_KEEPIDLE), read(tcp, socket.TCP_KEEPINTVL)] == [30, 5]
            assert read(tcp, socket.TCP_KEEPCNT) == 4
            stream.set_keepalive(0)
            assert not read(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
            for wrong in ({"idle": -1}, {"idle": 1.5}, {"idle": 32768}, {"interval": 0}, {"count": 128}):
                with pytest.raises(ValueError, match=f"{next(iter(wrong))}=.*whole number"):
                    stream.set_keepalive(**wrong)

    run(main)


def test_the_user_timeout_is_set_and_switched_off() -> None:
    def main() -> None:
        with stream_and_peer() as (stream, _peer):
            for seconds, milliseconds in ((1.5, 1500), (0.0001, 1), (None, 0)):
                stream.set_user_timeout(seconds)
                assert stream.socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == milliseconds
            for wrong in (0, -1, float("nan"), 2_000_001):
                with pytest.raises(ValueError, match="seconds="):
                    stream.set_user_timeout(wrong)

    run(main)


def test_options_of_tcp_are_none_of_a_unix_socket(tmp_path: Path) -> None:
    def main() -> None:
        with pair("unix", tmp_path) as (one, _other):
            assert isinstance(one, SocketStream)
            for call in (one.set_keepalive, lambda: one.set_user_timeout(1)):
                with pytest.raises(OSError, match="not supported"):
                    call()

    run(main)
