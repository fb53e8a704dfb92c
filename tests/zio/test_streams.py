"""TCP streams: no edge is lost, the drained flag never hides data or an end, one reader, safe closing."""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import TypeVar

import pytest

import zio
from tests.zio.helpers_streams import fill, poll_now, reset, stream_and_peer
from zio.testing import wait_all_parked

T = TypeVar("T")


def run(fn: Callable[[], T]) -> T:
    """Run ``fn``, whose lost wake-ups end in a TimeoutError."""

    def limited() -> T:
        with zio.timeout(45):
            return fn()
        raise AssertionError

    return zio.run(limited)


# Edges (T41).


def test_data_that_arrived_while_nobody_read_is_there_for_the_next_reader() -> None:
    """T41"""

    def main() -> list[bytes]:
        with stream_and_peer() as (stream, peer):
            peer.sendall(b"one")
            first = stream.recv(100)  # less than asked for: drained
            peer.sendall(b"two")
            wait_all_parked()  # the edge comes and finds no reader
            return [first, stream.recv(100)]

    assert run(main) == [b"one", b"two"]


def test_data_after_the_reader_was_cancelled_is_there_for_the_next_reader() -> None:
    """T41: the edge finds a cancelled waiter."""

    def main() -> bytes:
        with stream_and_peer() as (stream, peer):
            reader = zio.spawn(stream.recv, 100)
            wait_all_parked()
            peer.sendall(b"data")
            reader.cancel()  # before the poll that reports the data
            with pytest.raises(zio.Cancelled):
                reader.join()
            return stream.recv(100)

    assert run(main) == b"data"


def test_a_cancel_after_the_edge_loses_no_data() -> None:
    """T41: the reader was woken by the edge and is then cancelled in the same tick."""

    def main() -> bytes:
        with stream_and_peer() as (stream, peer):
            reader = zio.spawn(stream.recv, 100)
            wait_all_parked()
            peer.sendall(b"data")
            poll_now()
            reader.cancel()
            try:
                return reader.join()
            except zio.Cancelled:
                return stream.recv(100)

    assert run(main) == b"data"


def test_room_that_came_after_the_writer_was_cancelled_serves_the_next_writer() -> None:
    """T41, for writing."""

    def main() -> None:
        with stream_and_peer() as (stream, peer):
            left = fill(stream)
            writer = zio.spawn(stream.send_all, b"never")
            wait_all_parked()
            writer.cancel()
            with pytest.raises(zio.Cancelled):
                writer.join()
            next_writer = zio.spawn(stream.send_all, b"end")
            wait_all_parked()
            while left > 0:
                left -= len(peer.recv(min(65536, left)))
            next_writer.join()
            assert peer.recv(3) == b"end"

    run(main)


# The drained flag (T42).


@pytest.mark.parametrize("parked", [True, False], ids=["reader parked", "reader comes later"])
def test_data_and_end_in_one_edge_are_both_seen(parked: bool) -> None:
    """T42: after the short read the end of the stream must not wait for another edge."""

    def main() -> list[bytes]:
        with stream_and_peer() as (stream, peer):
            peer.sendall(b"first")
            got = [stream.recv(100)]
            reader = zio.spawn(lambda: [stream.recv(100), stream.recv(100)]) if parked else None
            if parked:
                wait_all_parked()
            peer.sendall(b"last")
            peer.close()
            return got + (reader.join() if reader else [stream.recv(100), stream.recv(100)])

    assert run(main) == [b"first", b"last", b""]


def test_data_and_end_that_came_with_the_connection_are_both_seen() -> None:
    """T42: the peer has sent and closed before the connecting task runs again."""

    def main() -> list[bytes]:
        with socket.create_server(("127.0.0.1", 0)) as server:

            def client() -> list[bytes]:
                with zio.net.connect("127.0.0.1", server.getsockname()[1]) as stream:
                    return [stream.recv(100), stream.recv(100)]

            connecting = zio.spawn(client)
            while connecting.fiber is None or connecting.fiber.waiter is None:
                zio.pause()
            # It waits for the connection, and the loop has not polled since.
            peer, _ = server.accept()
            with peer:
                peer.sendall(b"hello")
            return connecting.join()

    assert run(main) == [b"hello", b""]


def test_short_reads_are_followed_by_more_data() -> None:
    """T42"""

    def main() -> bytes:
        with stream_and_peer() as (stream, peer):

            def read_ten() -> bytes:
                data = b""
                while len(data) < 10:
                    data += stream.recv(100)
                return data

            reader = zio.spawn(read_ten)
            for digit in b"0123456789":
                wait_all_parked()
                peer.sendall(bytes([digit]))
            return reader.join()

    assert run(main) == b"0123456789"


def test_reads_of_exactly_the_buffer_size_again_and_again() -> None:
    """T42: a full read proves nothing about what is left."""

    def main() -> None:
        with stream_and_peer() as (stream, peer):
            for round_ in range(20):
                peer.sendall(b"x" * 64 * (round_ % 3 + 1))
                for _ in range(round_ % 3 + 1):
                    assert stream.recv(64) == b"x" * 64
                later = zio.spawn(stream.recv, 64)
                wait_all_parked()
                assert not later.done
                peer.sendall(b"y" * 64)
                assert later.join() == b"y" * 64

    run(main)


def test_recv_into_sees_data_and_end_in_one_edge() -> None:
    """T42, for recv_into."""

    def main() -> list[int]:
        with stream_and_peer() as (stream, peer):
            buffer = bytearray(100)
            peer.sendall(b"first")
            counts = [stream.recv_into(buffer)]
            reader = zio.spawn(lambda: [stream.recv_into(buffer), stream.recv_into(buffer)])
            wait_all_parked()
            peer.sendall(b"last")
            peer.close()
            return counts + reader.join()

    assert run(main) == [5, 4, 0]


def test_the_end_without_data_wakes_a_parked_reader() -> None:
    """T42"""

    def main() -> bytes:
        with stream_and_peer() as (stream, peer):
            reader = zio.spawn(stream.recv, 100)
            wait_all_parked()
            peer.close()
            return reader.join()

    assert run(main) == b""


def test_an_urgent_mark_does_not_hide_the_data_behind_it() -> None:
    """T42: a read stops at the mark, so it is short though more is there."""

    def main() -> bytes:
        with stream_and_peer() as (stream, peer):
            peer.sendall(b"x")
            assert stream.recv(100) == b"x"
            reader = zio.spawn(stream.recv_exactly, 4)
            wait_all_parked()
            peer.sendall(b"ab")
            peer.send(b"!", socket.MSG_OOB)
            peer.sendall(b"cd")
            return reader.join()

    assert run(main) == b"abcd"


@pytest.mark.parametrize("parked", [True, False], ids=["reader parked", "reader comes later"])
def test_a_reset_by_the_peer_raises_in_recv(parked: bool) -> None:
    """T42"""

    def main() -> None:
        with stream_and_peer() as (stream, peer):
            reader = zio.spawn(stream.recv, 100) if parked else None
            if parked:
                wait_all_parked()
            reset(peer)
            with pytest.raises(ConnectionResetError):
                _ = reader.join() if reader else stream.recv(100)

    run(main)


def test_a_reset_by_the_peer_wakes_a_parked_writer() -> None:
    """T42"""

    def main() -> None:
        with stream_and_peer() as (stream, peer):
            fill(stream)
            writer = zio.spawn(stream.send_all, b"more")
            wait_all_parked()
            reset(peer)
            with pytest.raises((ConnectionResetError, BrokenPipeError)):
                writer.join()

    run(main)


def test_the_peers_half_close_ends_reading_only() -> None:
    """T42"""

    def main() -> bytes:
        with stream_and_peer() as (stream, peer):
            peer.sendall(b"question")
            peer.shutdown(socket.SHUT_WR)
            assert stream.recv(100) == b"question"
            assert stream.recv(100) == b""
            stream.send_all(b"answer")
            return peer.recv(100)

    assert run(main) == b"answer"


def test_our_half_close_lets_us_go_on_reading() -> None:
    """T42"""

    def main() -> bytes:
        with stream_and_peer() as (stream, peer):
            stream.send_all(b"question")
            stream.shutdown_write()
            assert (peer.recv(100), peer.recv(100)) == (b"question", b"")
            reader = zio.spawn(stream.recv, 100)
            wait_all_parked()
            peer.sendall(b"answer")
            return reader.join()

    assert run(main) == b"answer"


# Closing and reuse of numbers (T43).


def test_close_ends_a_parked_reader_and_a_parked_writer_with_closed() -> None:
    """T43"""

    def main() -> None:
        with stream_and_peer() as (stream, _):
            fill(stream)
            reader, writer = zio.spawn(stream.recv, 100), zio.spawn(stream.send_all, b"more")
            wait_all_parked()
            stream.close()
            for task in (reader, writer):
                with pytest.raises(zio.Closed):
                    task.join()

    run(main)


def test_close_after_the_edge_ends_the_woken_reader_with_closed() -> None:
    """T43: the reader was woken but has not run; the descriptor is gone when it does."""

    def main() -> None:
        with stream_and_peer() as (stream, peer):
            reader = zio.spawn(stream.recv, 100)
            wait_all_parked()
            peer.sendall(b"x")
            poll_now()
            stream.close()
            with pytest.raises(zio.Closed):
                reader.join()

    run(main)


@pytest.mark.parametrize("drained", [True, False], ids=["drained", "fresh"])
@pytest.mark.parametrize("call", ["recv", "recv_into", "send_all", "send_some", "shutdown_write"])
def test_a_closed_stream_says_so(call: str, drained: bool) -> None:
    """T43: also if it knows that there is nothing to read."""

    def main() -> None:
        with stream_and_peer() as (stream, peer):
            if drained:
                peer.sendall(b"x")
                assert stream.recv(100) == b"x"
            stream.close()
            stream.close()  # idempotent
            argument = {"recv": (1,), "recv_into": (bytearray(1),), "send_all": (b"x",), "send_some": (b"x",)}
            with pytest.raises(zio.Closed):
                getattr(stream, call)(*argument.get(call, ()))

    run(main)


def test_close_ends_a_parked_accept_with_closed() -> None:
    """T43"""

    def main() -> None:
        listener = zio.net.listen("127.0.0.1", 0)
        accepting = zio.spawn(listener.accept)
        wait_all_parked()
        listener.close()
        with pytest.raises(zio.Closed):
            accepting.join()
        assert list(listener) == []

    run(main)


def test_a_number_used_again_after_our_close_belongs_to_the_new_stream() -> None:
    """T43a: neither the old stream's waiter nor its second close touches the new one."""

    def main() -> bytes:
        with stream_and_peer() as (old, _):
            old_reader = zio.spawn(old.recv, 100)
            wait_all_parked()
            number = old.socket.fileno()
            old.close()
            left, right = socket.socketpair()
            with right, zio.net.SocketStream(left, zio.lowlevel.here().loop) as new:
                assert left.fileno() == number
                reader = zio.spawn(new.recv, 100)
                with pytest.raises(zio.Closed):
                    old_reader.join()
                old.close()
                wait_all_parked()
                right.sendall(b"for the new one")
                return reader.join()

    assert run(main) == b"for the new one"


def test_a_close_behind_our_back_neither_spins_nor_harms_the_next_owner_of_the_number() -> None:
    """T43b: another part of the program closes the socket under a parked reader."""

    def main() -> bytes:
        loop = zio.lowlevel.here().loop
        with stream_and_peer() as (old, _):
            old_reader = zio.spawn(old.recv, 100)
            wait_all_parked()
            number = old.socket.fileno()
            old.socket.close()
            left, right = socket.socketpair()
            with right, zio.net.SocketStream(left, loop) as new:
                assert left.fileno() == number
                reader = zio.spawn(new.recv, 100)
                wait_all_parked()
                before = loop.passes
                zio.sleep(0.05)
                assert loop.passes - before < 10
                right.sendall(b"for the new one")
                data = reader.join()
                old.close()
                with pytest.raises((zio.Closed, OSError)):
                    old_reader.join()
                right.sendall(b"again")  # the old stream's close has left the new one registered
                assert new.recv(100) == b"again"
                return data

    assert run(main) == b"for the new one"


def test_a_close_behind_our_back_does_not_make_the_loop_spin() -> None:
    """T43b, the number not used again."""

    def main() -> int:
        loop = zio.lowlevel.here().loop
        with stream_and_peer() as (stream, _):
            reader = zio.spawn(stream.recv, 100)
            wait_all_parked()
            stream.socket.close()
            before = loop.passes
            zio.sleep(0.05)
            passes = loop.passes - before
            stream.close()
            with pytest.raises((zio.Closed, OSError)):
                reader.join()
            return passes

    assert run(main) < 10


# One reader, one writer (T44).


def test_a_second_reader_is_told_who_reads() -> None:
    """T44"""

    def main() -> None:
        with stream_and_peer() as (stream, peer):
            first = zio.spawn(stream.recv, 100, name="the first reader")
            wait_all_parked()
            with pytest.raises(zio.Busy, match="the first reader"):
                stream.recv(100)
            peer.sendall(b"x")
            assert first.join() == b"x"

    run(main)


def test_a_second_writer_is_told_who_writes() -> None:
    """T44: the bytes of two messages must not be mixed."""

    def main() -> None:
        with stream_and_peer() as (stream, _):
            fill(stream)
            first = zio.spawn(stream.send_all, b"more", name="the first writer")
            wait_all_parked()
            with pytest.raises(zio.Busy, match="the first writer"):
                stream.send_all(b"x")
            first.cancel()

    run(main)


def test_a_second_writer_does_not_slip_in_when_there_is_room_again() -> None:
    """T44: the first one has not noticed yet."""

    def main() -> None:
        with stream_and_peer() as (stream, peer):
            left = fill(stream)
            first = zio.spawn(stream.send_all, b"more")
            wait_all_parked()
            while left > 0:
                left -= len(peer.recv(min(65536, left)))
            with pytest.raises(zio.Busy):
                stream.send_all(b"x")
            first.join()
            assert peer.recv(100) == b"more"

    run(main)


def test_a_second_accept_is_told_who_accepts() -> None:
    """T44"""

    def main() -> None:
        with zio.net.listen("127.0.0.1", 0) as listener:
            first = zio.spawn(listener.accept, name="the first acceptor")
            wait_all_parked()
            with pytest.raises(zio.Busy, match="the first acceptor"):
                listener.accept()
            first.cancel()

    run(main)


def test_one_task_reads_while_another_writes() -> None:
    """T44, T46: ten megabytes each way through a peer that echoes; other tasks go on meanwhile."""
    size = 10_000_000

    def main() -> tuple[int, int]:
        with zio.net.listen("127.0.0.1", 0) as listener, zio.TaskGroup() as group:

            def echo() -> None:
                with listener.accept() as stream:
                    while data := stream.recv(65536):
                        stream.send_all(data)

            turns = 0

            def others() -> None:
                nonlocal turns
                while True:
                    turns += 1
                    zio.pause()

            group.spawn(echo)
            with zio.net.connect("127.0.0.1", listener.port) as stream:
                writer = group.spawn(stream.send_all, b"x" * size)
                bystander = group.spawn(others)
                received = 0
                while received < size:
                    received += len(stream.recv(65536))
                writer.join()
                bystander.cancel()
        return received, turns

    received, turns = run(main)
    assert received == size
    assert turns > 10


def test_a_cancelled_send_all_leaves_the_stream_usable() -> None:
    """T46: part of it may have gone out; what follows comes after that part."""

    def main() -> bytes:
        with stream_and_peer() as (stream, peer):
            writer = zio.spawn(stream.send_all, b"x" * 50_000_000)
            wait_all_parked()
            writer.cancel()
            with pytest.raises(zio.Cancelled):
                writer.join()
            last = zio.spawn(stream.send_all, b"end")
            tail = b""
            reader = zio.net.SocketStream(peer, zio.lowlevel.here().loop)
            while not tail.endswith(b"end"):
                tail = (tail + reader.recv(1 << 20))[-3:]
            reader.close()
            last.join()
            return tail

    assert run(main) == b"end"


# connect (T45).


def test_a_refused_connect_raises_and_leaves_no_descriptor() -> None:
    """T45"""

    def main() -> None:
        with socket.socket() as bound:  # and listens not
            bound.bind(("127.0.0.1", 0))
            with pytest.raises(ConnectionRefusedError):
                zio.net.connect("127.0.0.1", bound.getsockname()[1])

    run(main)


@pytest.mark.parametrize("how", ["timeout", "cancel"])
def test_a_connect_that_is_cut_short_leaves_no_descriptor(how: str) -> None:
    """T45: the listener's queue is full, so the handshake gets no answer."""

    def main() -> None:
        with socket.create_server(("127.0.0.1", 0), backlog=0) as server:
            address = server.getsockname()
            fillers = [socket.socket() for _ in range(4)]
            for filler in fillers:
                filler.setblocking(False)
                filler.connect_ex(address)
            try:
                if how == "timeout":
                    with pytest.raises(TimeoutError):
                        zio.net.connect(*address, timeout=0.05)
                else:
                    connecting = zio.spawn(zio.net.connect, *address)
                    wait_all_parked()
                    connecting.cancel()
                    with pytest.raises(zio.Cancelled):
                        connecting.join()
            finally:
                for filler in fillers:
                    filler.close()

    run(main)


def test_many_connections_come_and_go() -> None:
    """T47: at the end the poller knows none of them (the descriptors are checked by the fixture)."""

    def main() -> None:
        loop = zio.lowlevel.here().loop
        with zio.net.listen("127.0.0.1", 0, backlog=1000) as listener:
            for _ in range(5):
                clients = [zio.spawn(zio.net.connect, "127.0.0.1", listener.port) for _ in range(100)]
                served = [listener.accept() for _ in clients]
                for client in clients:
                    client.join().close()
                for stream in served:
                    assert stream.recv(1) == b""
                    stream.close()
        assert not loop.poller._table  # type: ignore[attr-defined]

    run(main)
