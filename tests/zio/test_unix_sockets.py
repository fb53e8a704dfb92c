"""Unix sockets: listening at a path, connecting to it."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import pytest

import zio
from tests.zio.helpers_streams import fill
from zio.testing import SimNetwork, run_virtual, wait_all_parked

T = TypeVar("T")


@pytest.fixture
def path(tmp_path: Path) -> str:
    """A path short enough for a socket."""
    where = os.path.relpath(tmp_path / "socket")
    return min(where, str(tmp_path / "socket"), key=len)


def run(fn: Callable[[], T]) -> T:
    """Run ``fn``, whose lost wake-ups end in a TimeoutError."""

    def limited() -> T:
        with zio.timeout(45):
            return fn()
        raise AssertionError

    return zio.run(limited)


def test_bytes_travel_both_ways(path: str) -> None:
    def main() -> None:
        with zio.net.listen_unix(path) as listener, zio.net.connect_unix(path) as ours, listener.accept() as theirs:
            ours.send_all(b"question")
            assert theirs.recv_exactly(8) == b"question"
            theirs.send_all(b"answer")
            theirs.shutdown_write()
            assert ours.recv_exactly(6) == b"answer"
            assert ours.recv(1) == b""

    run(main)


def test_a_full_socket_holds_the_sender_and_no_byte_is_lost(path: str) -> None:
    def main() -> None:
        with zio.net.listen_unix(path) as listener, zio.net.connect_unix(path) as ours, listener.accept() as theirs:
            assert isinstance(ours, zio.net.SocketStream)
            before = fill(ours)
            sending = zio.spawn(ours.send_all, bytes(1 << 20))
            wait_all_parked()
            assert not sending.done
            theirs.recv_exactly(before + (1 << 20))
            sending.join()

    run(main)


def test_a_path_object_is_a_path(path: str) -> None:
    def main() -> None:
        with zio.net.listen_unix(Path(path)) as listener, zio.net.connect_unix(Path(path)):
            assert listener.path == path

    run(main)


def test_the_file_is_there_while_it_listens_and_goes_with_it(path: str) -> None:
    def main() -> None:
        with zio.net.listen_unix(path):
            assert Path(path).is_socket()
        assert not Path(path).exists()

    run(main)


def test_the_file_of_another_listener_stays(path: str) -> None:
    def main() -> None:
        with zio.net.listen_unix(path):
            Path(path).unlink()
            other = zio.net.listen_unix(path)
        assert Path(path).is_socket()
        other.close()

    run(main)


def test_a_file_in_the_way_is_an_error_and_stays(path: str) -> None:
    def main() -> None:
        Path(path).write_text("mine")
        with pytest.raises(OSError, match=f"Address already in use: listening at .*{Path(path).name}") as problem:
            zio.net.listen_unix(path)
        assert problem.value.errno == errno.EADDRINUSE
        assert Path(path).read_text() == "mine"

    run(main)


def test_nobody_there_is_an_error_that_names_the_path(path: str) -> None:
    def main() -> None:
        with pytest.raises(FileNotFoundError, match=f"connecting to .*{Path(path).name}"):
            zio.net.connect_unix(path)
        with socket.socket(socket.AF_UNIX) as left:
            left.bind(path)
        with pytest.raises(ConnectionRefusedError, match=f"connecting to .*{Path(path).name}"):
            zio.net.connect_unix(path)

    run(main)


def test_a_path_that_is_too_long_is_an_error_that_names_it(tmp_path: Path) -> None:
    def main() -> None:
        long = str(tmp_path / ("x" * 120))
        for call in (zio.net.connect_unix, zio.net.listen_unix):
            with pytest.raises(OSError, match=r"too long.*xxx") as problem:
                call(long)
            assert problem.value.errno == errno.ENAMETOOLONG

    run(main)


@pytest.mark.parametrize("wrong", ["", "a\0b"])
def test_what_is_no_path_is_refused(wrong: str) -> None:
    def main() -> None:
        for call in (zio.net.connect_unix, zio.net.listen_unix):
            with pytest.raises(ValueError, match="is no path"):
                call(wrong)

    run(main)


def full_listener(path: str) -> tuple[socket.socket, list[socket.socket]]:
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path)
    listener.listen(0)
    waiting: list[socket.socket] = []
    while True:
        other = socket.socket(socket.AF_UNIX)
        other.setblocking(False)
        try:
            other.connect(path)
        except BlockingIOError:
            other.close()
            return listener, waiting
        waiting.append(other)


def test_connecting_waits_while_the_queue_of_the_listener_is_full(path: str) -> None:
    listener, waiting = full_listener(path)

    def main() -> None:
        connecting = zio.spawn(zio.net.connect_unix, path)
        zio.pause()
        assert not connecting.done
        for _ in waiting:
            listener.accept()[0].close()
        with connecting.join() as stream, listener.accept()[0] as peer:
            stream.send_all(b"hello")
            assert peer.recv(5) == b"hello"

    run(main)
    for sock in (listener, *waiting):
        sock.close()


def test_the_timeout_ends_that_wait(path: str) -> None:
    listener, waiting = full_listener(path)

    def main() -> None:
        with pytest.raises(TimeoutError):
            zio.net.connect_unix(path, timeout=0.01)

    run(main)
    for sock in (listener, *waiting):
        sock.close()


def test_it_has_no_port(path: str) -> None:
    def main() -> None:
        with zio.net.listen_unix(path) as listener, pytest.raises(AttributeError, match="a path and no port"):
            _ = listener.port

    run(main)


def test_a_listener_closed_in_a_forked_child_leaves_the_parents_file(path: str) -> None:
    def main() -> None:
        with zio.net.listen_unix(path) as listener:
            pid = os.fork()
            if pid == 0:
                listener.close()
                os._exit(0)
            os.waitpid(pid, 0)
            assert Path(path).is_socket()

    run(main)


def test_tls_goes_over_it(path: str) -> None:
    from tests.zio.helpers_tls import CLIENT, NAME, SERVER

    def main() -> None:
        with zio.net.listen_unix(path) as listener:
            serving = zio.spawn(lambda: listener.accept().start_tls(SERVER))
            with zio.net.connect_unix(path).start_tls(CLIENT, NAME) as ours, serving.join() as theirs:
                ours.send_all(b"hello")
                assert theirs.recv_exactly(5) == b"hello"

    run(main)


def test_only_inside_a_runtime(path: str) -> None:
    with pytest.raises(RuntimeError, match=r"call it inside zio\.run"):
        zio.net.connect_unix(path)
    with pytest.raises(RuntimeError, match=r"call it inside zio\.run"):
        zio.net.listen_unix(path)


def test_a_simulated_network_has_unix_sockets_of_its_own() -> None:
    def main() -> bytes:
        with (
            zio.net.listen_unix("/run/server") as listener,
            zio.net.connect_unix("/run/server") as ours,
            listener.accept() as theirs,
        ):
            theirs.send_all(b"hello")
            with pytest.raises(ConnectionRefusedError):
                zio.net.connect_unix("/run/nobody")
            return ours.recv_exactly(5)

    assert run_virtual(main, network=SimNetwork(1)) == b"hello"
    assert not Path("/run/server").exists()
