"""Names: looked up in threads of their own, once for all who ask at the same time; numbers are not looked up."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import zio
from tests.conftest import LeakCheck
from zio.lowlevel import here
from zio.testing import SimNetwork, run_virtual, wait_all_parked


class NameServer:
    """In place of ``socket.getaddrinfo``: names are answered when ``answer`` is called."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.threads: list[threading.Thread] = []
        self.begun = threading.Semaphore(0)
        self._gate = threading.Semaphore(0)
        self._real = socket.getaddrinfo
        self.answers: dict[str, list[str]] = {}

    def __call__(self, host: str, port: Any, *, type: int = 0, flags: int = 0) -> Any:
        if flags & socket.AI_NUMERICHOST:
            return self._real(host, port, type=type, flags=flags)
        self.asked.append(host)
        self.threads.append(threading.current_thread())
        self.begun.release()
        self._gate.acquire()
        if host not in self.answers:
            raise socket.gaierror(socket.EAI_NONAME, f"no {host}")
        found = [self._real(number, port, type=socket.SOCK_STREAM) for number in self.answers[host]]
        return [answer for answers in found for answer in answers]

    def answer(self, count: int = 1) -> None:
        self._gate.release(count)


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch, leak_check: LeakCheck) -> Iterator[NameServer]:
    server = NameServer()
    server.answers["host.example"] = ["192.0.2.1", "2001:db8::1"]
    monkeypatch.setattr(socket, "getaddrinfo", server)
    yield server
    server.answer(100)
    for thread in server.threads:  # also of look-ups that nobody waited for
        thread.join()


def until(condition: Callable[[], bool]) -> None:
    while not condition():
        zio.pause()


def until_waiting(count: int) -> None:
    """So many wait for the name."""
    until(lambda: len(here().loop.runtime.names["host.example"].waiters) == count)


def until_asked(names: NameServer, count: int = 1) -> None:
    for _ in range(count):
        zio.to_thread(names.begun.acquire)


def test_a_name_has_its_addresses_with_the_port_that_was_asked_for(names: NameServer) -> None:
    names.answer()
    assert zio.run(zio.net.resolve, "host.example", 80) == [
        (socket.AF_INET, ("192.0.2.1", 80)),
        (socket.AF_INET6, ("2001:db8::1", 80, 0, 0)),
    ]


@pytest.mark.parametrize("number", ["127.0.0.1", "::1"])
def test_a_number_is_not_looked_up(names: NameServer, number: str) -> None:
    def main() -> None:
        before = threading.active_count()
        assert [address[0] for _, address in zio.net.resolve(number, 1)] == [number]
        assert threading.active_count() == before

    zio.run(main)
    assert names.asked == []


def test_who_asks_for_the_same_name_at_the_same_time_shares_one_look_up(names: NameServer) -> None:
    def main() -> None:
        tasks = [zio.spawn(zio.net.resolve, "host.example", port) for port in range(1, 21)]
        until_asked(names)
        tasks.append(zio.spawn(zio.net.resolve, "host.example", 21))
        until_waiting(21)
        names.answer()
        assert [task.join()[0][1][1] for task in tasks] == list(range(1, 22))

    zio.run(main)
    assert names.asked == ["host.example"]


def test_each_has_an_error_of_its_own(names: NameServer) -> None:
    def main() -> None:
        tasks = [zio.spawn(zio.net.resolve, "nobody.example", 1) for _ in range(3)]
        names.answer()
        errors = []
        for task in tasks:
            with pytest.raises(socket.gaierror, match=r"no nobody\.example") as caught:
                task.join()
            errors.append(caught.value)
        assert len({id(error) for error in errors}) == 3

    zio.run(main)
    assert names.asked == ["nobody.example"]


def test_an_answer_is_not_kept_for_the_next_who_asks(names: NameServer) -> None:
    def main() -> None:
        names.answer(2)
        zio.net.resolve("host.example", 1)
        names.answers["host.example"] = ["192.0.2.9"]
        assert zio.net.resolve("host.example", 1) == [(socket.AF_INET, ("192.0.2.9", 1))]

    zio.run(main)


def test_who_is_cancelled_leaves_the_look_up_to_the_others(names: NameServer) -> None:
    def main() -> None:
        first = zio.spawn(zio.net.resolve, "host.example", 1)
        until_asked(names)
        second = zio.spawn(zio.net.resolve, "host.example", 2)
        until_waiting(2)
        first.cancel()
        with pytest.raises(zio.Cancelled):
            first.join()
        names.answer()
        assert second.join()[0] == (socket.AF_INET, ("192.0.2.1", 2))

    zio.run(main)
    assert names.asked == ["host.example"]


def test_a_look_up_that_nobody_waits_for_is_dropped_with_its_result(names: NameServer) -> None:
    def main() -> None:
        loop = here().loop
        for _ in range(3):  # and does not take another thread each time that a program tries again
            with pytest.raises(TimeoutError), zio.timeout(0.01):
                zio.net.resolve("host.example", 1)
        assert names.asked == ["host.example"]
        assert loop.jobs == 1  # the thread, which cannot be stopped
        names.answer()
        while loop.jobs:
            zio.sleep(0.001)
        assert not loop.runtime.names

    zio.run(main)


def test_the_run_does_not_wait_for_a_look_up_at_its_end(names: NameServer) -> None:
    def main() -> str:
        zio.spawn(zio.net.resolve, "host.example", 1)
        until_asked(names)
        return "ended"

    assert zio.run(main) == "ended"


def test_look_ups_leave_the_threads_of_other_jobs_alone(names: NameServer) -> None:
    """A name server that does not answer takes a few threads, and none of those for blocking code."""

    def main() -> None:
        tasks = [zio.spawn(zio.net.resolve, f"{number}.example", 1) for number in range(100)]
        until_asked(names, 8)
        until(lambda: len(here().loop.runtime.names) == 100)
        assert len(names.asked) == 8
        assert zio.to_thread(lambda: "done") == "done"
        for task in tasks:
            task.cancel()
        until(lambda: all(task.done for task in tasks))
        assert here().loop.jobs == 8  # those that no thread had begun are called off

    zio.run(main)


def test_connect_asks_with_the_same_look_up(names: NameServer) -> None:
    def main() -> None:
        connecting = zio.spawn(zio.net.connect, "host.example", 1)
        until_asked(names)
        resolving = zio.spawn(zio.net.resolve, "host.example", 1)
        until_waiting(2)
        connecting.cancel()
        names.answer()
        assert len(resolving.join()) == 2

    zio.run(main)
    assert names.asked == ["host.example"]


@pytest.mark.parametrize("port", [-1, 65536, "http", None])
def test_what_is_no_port_is_refused(port: Any) -> None:
    def main() -> None:
        for call in (zio.net.resolve, zio.net.connect, zio.net.listen):
            with pytest.raises(ValueError, match="whole number from 0 to 65535"):
                call("127.0.0.1", port)

    zio.run(main)


@pytest.mark.parametrize("host", ["a..b", "x" * 64 + ".example"])
def test_what_cannot_be_a_name_is_an_error_at_once(names: NameServer, host: str) -> None:
    def main() -> None:
        with pytest.raises(OSError, match="cannot be a host name"):
            zio.net.resolve(host, 1)

    zio.run(main)
    assert names.asked == []


def test_a_simulated_network_answers_for_itself(names: NameServer) -> None:
    network = SimNetwork(1)
    network.name("site", "2001:db8::1", "10.0.0.1", "host")

    def main() -> list[tuple[int, Any]]:
        wait_all_parked()
        return zio.net.resolve("site", 80)

    assert run_virtual(main, network=network) == [
        (socket.AF_INET6, ("2001:db8::1", 80)),
        (socket.AF_INET, ("10.0.0.1", 80)),
        (socket.AF_UNSPEC, ("host", 80)),
    ]
    assert names.asked == []


def test_only_inside_a_runtime() -> None:
    call: Callable[..., object] = zio.net.resolve
    with pytest.raises(RuntimeError, match=r"zio\.net\.resolve needs a running zio task"):
        call("host.example", 1)
