"""serve: a task for each connection, which is closed at its end; limits, errors, descriptors, and how it ends."""

from __future__ import annotations

import errno
import logging
import os
import resource
import signal
import socket
import sys
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any, TypeVar

import pytest

import zio
from zio.testing import SimNetwork, wait_all_parked

T = TypeVar("T")


def run(fn: Callable[[], T], **options: Any) -> T:
    def limited() -> T:
        with zio.timeout(45):
            return fn()
        raise AssertionError

    return zio.Runtime(**options).run(limited)


def simulated(fn: Callable[[], T], **options: Any) -> T:
    """In virtual time, where hosts are names."""
    return zio.Runtime(network=SimNetwork(1, latency=0.0), clock=zio.testing.VirtualClock(), **options).run(fn)


def listen() -> Any:
    return zio.net.listen("host", 80)


def connect() -> zio.net.Stream:
    return zio.net.connect("host", 80)


def echo(stream: zio.net.Stream) -> None:
    while data := stream.recv(1000):
        stream.send_all(data)


def hold(stream: zio.net.Stream) -> None:
    """Until the peer ends its side."""
    stream.recv(1)


def is_open(stream: zio.net.Stream) -> bool:
    """Whether the other side has not ended."""
    with zio.move_on_after(1):
        return bool(stream.recv(1))
    return True


def test_connections_are_handled_at_the_same_time_each_in_its_task() -> None:
    def main() -> None:
        with zio.net.listen("127.0.0.1", 0) as listener, zio.TaskGroup() as group:
            group.spawn(listener.serve, echo)
            streams = [zio.net.connect("127.0.0.1", listener.port) for _ in range(20)]
            for number, stream in enumerate(streams):
                stream.send_all(b"%02d" % number)
            for number, stream in reversed(list(enumerate(streams))):
                assert stream.recv_exactly(2) == b"%02d" % number
                stream.close()
            listener.close()

    run(main)


def test_it_works_at_a_unix_socket(tmp_path: Any) -> None:
    def main() -> None:
        with zio.net.listen_unix(tmp_path / "socket") as listener, zio.TaskGroup() as group:
            group.spawn(listener.serve, echo)
            with zio.net.connect_unix(tmp_path / "socket") as stream:
                stream.send_all(b"hello")
                assert stream.recv_exactly(5) == b"hello"
            listener.close()

    run(main)


@pytest.mark.parametrize("ends", ["returns", "raises", "is cancelled"])
def test_the_connection_is_closed_when_its_handler_ends(ends: str) -> None:
    def handler(stream: zio.net.Stream) -> None:
        stream.recv(1)
        if ends == "raises":
            raise LookupError("on purpose")
        if ends == "is cancelled":
            with zio.timeout(1):
                zio.sleep(10)

    def main() -> None:
        with listen() as listener, zio.TaskGroup() as group:
            group.spawn(listener.serve, handler)
            with connect() as stream:
                stream.send_all(b"x")
                with zio.timeout(45):
                    assert stream.recv(1) == b""
            listener.close()

    simulated(main, on_unhandled=lambda _task, _error: None)


@pytest.mark.parametrize("network", ["the machine's", "simulated"])
def test_those_who_reuse_a_port_share_its_connections(network: str) -> None:
    def main() -> None:
        with zio.net.listen("127.0.0.1", 0, reuse_port=True) as one:
            with pytest.raises(OSError, match="in use"):
                zio.net.listen("127.0.0.1", one.port)
            with (
                zio.net.listen("127.0.0.1", one.port, reuse_port=True) as other,
                ExitStack() as stack,
                zio.TaskGroup() as group,
            ):
                served = {one: 0, other: 0}

                def serve(listener: Any) -> None:
                    for stream in listener:
                        served[listener] += 1
                        stack.enter_context(stream).send_all(b"x")

                for listener in served:
                    group.spawn(serve, listener)
                for _ in range(50):
                    with zio.net.connect("127.0.0.1", one.port) as stream:
                        assert stream.recv(1) == b"x"
                assert all(served.values()) or sys.platform != "linux"  # elsewhere the last one has all
                one.close()
                other.close()
            with pytest.raises(ConnectionRefusedError):
                zio.net.connect("127.0.0.1", one.port)
        with zio.net.listen("127.0.0.1", one.port), pytest.raises(OSError, match="in use"):
            zio.net.listen("127.0.0.1", one.port, reuse_port=True)

    run(main) if network == "the machine's" else simulated(main)


# Errors.


def test_an_error_of_one_handler_is_reported_and_the_others_go_on() -> None:
    reported: list[tuple[str, str]] = []

    def handler(stream: zio.net.Stream) -> None:
        if stream.recv(1) == b"!":
            raise LookupError("on purpose")
        echo(stream)

    def main() -> None:
        with listen() as listener, zio.TaskGroup() as group:
            group.spawn(listener.serve, handler)
            with connect() as good:
                good.send_all(b"-hello")
                with connect() as bad:
                    bad.send_all(b"!")
                    assert bad.recv(1) == b""
                assert good.recv_exactly(5) == b"hello"
                with connect() as later:
                    later.send_all(b"-more")
                    assert later.recv_exactly(4) == b"more"
            listener.close()

    simulated(main, on_unhandled=lambda task, error: reported.append((task.name, repr(error))))
    assert reported == [("serve handler", "LookupError('on purpose')")]


def test_by_default_it_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    def main() -> None:
        with listen() as listener, zio.TaskGroup() as group:
            group.spawn(listener.serve, lambda stream: 1 / 0)
            with connect() as stream:
                assert stream.recv(1) == b""
            listener.close()

    simulated(main)
    (record,) = caplog.records
    assert record.exc_info
    assert record.exc_info[0] is ZeroDivisionError


def test_if_asked_for_an_error_ends_the_serving_and_is_raised() -> None:
    ended: list[str] = []

    def handler(stream: zio.net.Stream) -> None:
        try:
            if stream.recv(1) == b"!":
                raise LookupError("on purpose")
        except zio.Cancelled:
            ended.append("cancelled")
            raise

    def main() -> None:
        listener = listen()
        with connect() as other, connect() as bad:

            def later() -> None:
                wait_all_parked()
                bad.send_all(b"!")

            zio.spawn(later)
            with pytest.raises(ExceptionGroup) as caught, zio.timeout(10):
                listener.serve(handler, stop_on_error=True)
            assert [repr(error) for error in caught.value.exceptions] == ["LookupError('on purpose')"]
            assert ended == ["cancelled"]
            assert not is_open(other)
            with pytest.raises(ConnectionRefusedError):
                connect()

    simulated(main)


def test_a_system_exit_in_a_handler_ends_the_program() -> None:
    def handler(stream: zio.net.Stream) -> None:
        raise SystemExit(3)

    def main() -> None:
        with listen() as listener, connect():
            listener.serve(handler)

    with pytest.raises(SystemExit):
        simulated(main)


def test_a_listener_that_fails_raises_and_the_handlers_end() -> None:
    def main() -> None:
        listener = listen()
        with connect() as stream:
            accept = listener.accept
            answers = iter([accept])

            def fail() -> Any:
                return next(answers, broken)()

            def broken() -> Any:
                raise OSError(errno.EINVAL, "broken")

            listener.accept = fail
            with pytest.raises(OSError, match="broken"):
                listener.serve(hold)
            assert not is_open(stream)

    simulated(main)


# The limit.


def test_no_more_than_the_limit_are_handled_at_once() -> None:
    now = most = 0

    def handler(stream: zio.net.Stream) -> None:
        nonlocal now, most
        now += 1
        most = max(most, now)
        stream.recv(1)
        zio.sleep(1)
        now -= 1

    def main() -> None:
        with listen() as listener, zio.TaskGroup() as group:
            group.spawn(lambda: listener.serve(handler, limit=3))
            streams = [connect() for _ in range(10)]
            start = zio.now()
            for stream in streams:
                stream.send_all(b"x")
            for stream in streams:
                assert stream.recv(1) == b""
                stream.close()
            listener.close()
        assert zio.now() - start == 4  # seconds: three at a time

    simulated(main)
    assert most == 3


@pytest.mark.parametrize("wrong", [0, -1, 1.5])
def test_a_limit_is_a_whole_number(wrong: Any) -> None:
    def main() -> None:
        with listen() as listener, pytest.raises(ValueError, match="limit="):
            listener.serve(echo, limit=wrong)

    simulated(main)


# The end.


def test_closing_the_listener_lets_the_handlers_end_by_themselves() -> None:
    def main() -> None:
        listener = listen()
        serving = zio.spawn(listener.serve, echo)
        with connect() as stream:
            wait_all_parked()
            listener.close()
            wait_all_parked()
            assert not serving.done
            stream.send_all(b"still here")
            assert stream.recv_exactly(10) == b"still here"
        serving.join()

    simulated(main)


def test_cancelled_it_closes_the_listener_and_cancels_the_handlers() -> None:
    def main() -> None:
        listener = listen()
        serving = zio.spawn(listener.serve, hold)
        with connect() as stream:
            wait_all_parked()
            serving.cancel()
            with pytest.raises(zio.Cancelled):
                serving.join()
            assert zio.now() == start
            assert not is_open(stream)
            with pytest.raises(ConnectionRefusedError):
                connect()

    start = 0.0
    simulated(main)


@pytest.mark.parametrize("grace", [0, 5])
def test_cancelled_when_the_listener_was_closed_before_it_gives_the_grace_and_cancels(grace: int) -> None:
    def main() -> None:
        listener = listen()
        serving = zio.spawn(lambda: listener.serve(hold, grace=grace))
        with connect() as stream:
            wait_all_parked()
            listener.close()
            wait_all_parked()
            assert not serving.done
            serving.cancel()
            with pytest.raises(zio.Cancelled):
                serving.join()
            assert zio.now() == grace
            assert not is_open(stream)

    simulated(main)


@pytest.mark.parametrize("closed", ["by its with block", "by a task"])
def test_an_error_beside_a_closed_listener_ends_the_serving(closed: str) -> None:
    def main() -> None:
        with listen() as listener, zio.TaskGroup() as group:
            group.spawn(lambda: listener.serve(hold, grace=5))
            connect()
            wait_all_parked()
            if closed == "by a task":
                listener.close()
                wait_all_parked()
            raise LookupError("on purpose")

    with pytest.raises(ExceptionGroup) as caught:
        simulated(main)
    assert caught.group_contains(LookupError, match="on purpose", depth=1)


def test_a_run_ends_while_a_handler_of_a_closed_listener_waits() -> None:
    log: list[str] = []

    def handler(stream: zio.net.Stream) -> None:
        try:
            stream.recv(1)
        finally:
            log.append("ended")

    def main() -> None:
        listener = listen()
        zio.spawn(listener.serve, handler)
        connect()
        wait_all_parked()
        listener.close()
        wait_all_parked()

    simulated(main)
    assert log == ["ended"]


@pytest.mark.parametrize("grace", [0, 5])
def test_control_c_ends_the_serving_of_a_closed_listener(grace: int) -> None:
    def main() -> None:
        listener = listen()

        def interrupt() -> None:
            wait_all_parked()
            listener.close()
            wait_all_parked()
            signal.raise_signal(signal.SIGINT)

        zio.spawn(connect)
        zio.spawn(interrupt)
        listener.serve(hold, grace=grace)

    with pytest.raises(KeyboardInterrupt):
        simulated(main)


def test_with_grace_the_handlers_have_time_to_end_and_nobody_else_comes_in() -> None:
    cancelled: list[bytes] = []

    def handler(stream: zio.net.Stream) -> None:
        name = stream.recv(1)
        try:
            zio.sleep(int(name))
            stream.send_all(b"done")
        except zio.Cancelled:
            cancelled.append(name)
            raise

    def main() -> None:
        listener = listen()
        serving = zio.spawn(lambda: listener.serve(handler, grace=5))
        with connect() as quick, connect() as slow:
            quick.send_all(b"3")
            slow.send_all(b"9")
            wait_all_parked()
            start = zio.now()
            serving.cancel()
            wait_all_parked()
            with pytest.raises(ConnectionRefusedError):
                connect()
            assert quick.recv_exactly(4) == b"done"
            assert zio.now() - start == 3
            assert slow.recv(4) == b""
            assert zio.now() - start == 5
            with pytest.raises(zio.Cancelled):
                serving.join()
        assert cancelled == [b"9"]

    simulated(main)


def test_the_grace_ends_with_the_last_handler() -> None:
    def main() -> float:
        listener = listen()
        serving = zio.spawn(lambda: listener.serve(lambda stream: zio.sleep(1), grace=3600))
        with connect():
            wait_all_parked()
            serving.cancel()
            with pytest.raises(zio.Cancelled):
                serving.join()
        return zio.now()

    assert simulated(main) == 1


@pytest.mark.parametrize("wrong", [-1, float("nan")])
def test_grace_is_a_number_of_seconds(wrong: float) -> None:
    def main() -> None:
        with listen() as listener, pytest.raises(ValueError, match="grace"):
            listener.serve(echo, grace=wrong)

    simulated(main)


def test_a_timeout_around_it_ends_it() -> None:
    def main() -> None:
        with listen() as listener, connect() as stream:
            with pytest.raises(TimeoutError), zio.timeout(3):
                listener.serve(hold)
            assert not is_open(stream)

    simulated(main)


def test_a_connection_whose_handler_has_not_begun_is_closed_too() -> None:
    begun: list[str] = []

    def handler(stream: zio.net.Stream) -> None:
        begun.append("begun")
        raise LookupError("on purpose")

    def main() -> None:
        listener = listen()
        with connect() as one, connect() as other:
            with pytest.raises(ExceptionGroup):
                listener.serve(handler, stop_on_error=True)
            assert begun == ["begun"]
            assert not is_open(one)
            assert not is_open(other)

    simulated(main)


# No descriptors left.


def test_without_descriptors_connections_wait_and_the_loop_does_not_spin(caplog: pytest.LogCaptureFixture) -> None:
    def main() -> None:
        with zio.net.listen("127.0.0.1", 0) as listener, ExitStack() as stack:
            serving = zio.spawn(listener.serve, echo)
            with zio.net.connect("127.0.0.1", listener.port) as first:
                first.send_all(b"1")
                assert first.recv_exactly(1) == b"1"
                waiting = stack.enter_context(socket.create_connection(("127.0.0.1", listener.port)))
                spare = stack.enter_context(socket.socket())
                spare.setblocking(False)
                soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
                highest = max(map(int, os.listdir("/proc/self/fd")))  # noqa: PTH208
                resource.setrlimit(resource.RLIMIT_NOFILE, (highest + 1, hard))
                try:
                    fillers = fill_descriptors()
                    spare.connect_ex(("127.0.0.1", listener.port))
                    while not caplog.records:
                        zio.sleep(0.001)
                    before = zio.lowlevel.here().loop.passes
                    with zio.move_on_after(0.3):
                        first.recv(1)  # as if nothing were
                    assert zio.lowlevel.here().loop.passes - before < 30
                    first.send_all(b"2")
                    assert first.recv_exactly(1) == b"2"
                    for filler in fillers:
                        os.close(filler)
                    waiting.setblocking(False)
                    other = zio.net.SocketStream(waiting.dup(), zio.lowlevel.here().loop)
                finally:
                    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
                with other:
                    other.send_all(b"3")
                    assert other.recv_exactly(1) == b"3"
            serving.cancel()

    def fill_descriptors() -> list[int]:
        fillers: list[int] = []
        try:
            while True:
                fillers.append(os.open("/dev/null", os.O_RDONLY))
        except OSError:
            return fillers

    with caplog.at_level(logging.WARNING, "zio"):
        run(main)
    (record,) = caplog.records
    assert "connections wait, 1 are open" in record.getMessage()
