"""A plain thread that asks alone reads the reply itself, and nothing but the reply."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

import nats_zio
import zio
from nats_zio.requests import requests, shortcut
from nats_zio.testing import NatsServer
from tests.client.helpers import eventually

LIMIT = 10.0


@pytest.fixture(autouse=True)
def _epoll(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ZIO_POLLER", "epoll")


class Counted:
    """A function that counts its calls, and how many returned something."""

    def __init__(self, fn: Callable[..., Any]) -> None:
        self.fn = fn
        self.calls = self.found = 0

    def __call__(self, *args: Any) -> Any:
        self.calls += 1
        value = self.fn(*args)
        self.found += value is not None
        return value


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> Counted:
    counted = Counted(shortcut.read_reply)
    monkeypatch.setattr(requests, "read_reply", counted)
    return counted


@pytest.fixture
def client(nats_server: NatsServer, background_runtime: zio.Runtime) -> Any:
    with nats_zio.connect(nats_server.url) as client:
        yield client


@pytest.fixture
def other(nats_server: NatsServer, background_runtime: zio.Runtime) -> Any:
    with nats_zio.connect(nats_server.url) as other:
        yield other


def echo(other: nats_zio.Client, subject: str, **headers: Any) -> None:
    other.subscribe(subject, cb=lambda message: message.respond(message.data, **headers))
    other.flush()


def test_the_thread_has_its_reply_without_being_woken(
    client: nats_zio.Client, other: nats_zio.Client, subject: str, read: Counted
) -> None:
    echo(other, subject)
    before = client.stats
    client.request(subject, b"first")
    for number in range(100):
        reply = client.request(subject, b"%d" % number)
        assert reply.data == b"%d" % number
        assert reply.reply is None
        assert reply.headers == {}
    assert read.found > 50  # not where the session was about to read anyway
    assert len(client._core.requests) == 0
    assert client.stats.in_msgs == before.in_msgs + 101
    assert client.stats.in_bytes == before.in_bytes + 5 + 190


@pytest.mark.parametrize("size", [0, shortcut.PEEK - 1, shortcut.PEEK, 100_000])
def test_a_reply_of_any_size_comes(client: nats_zio.Client, other: nats_zio.Client, subject: str, size: int) -> None:
    echo(other, subject)
    assert client.request(subject, b"x" * size).data == b"x" * size


def test_a_reply_with_headers_and_no_responders_are_left_to_the_session(
    client: nats_zio.Client, other: nats_zio.Client, subject: str, read: Counted
) -> None:
    echo(other, subject, headers={"A": "b"})
    assert client.request(subject, b"x").headers == {"A": "b"}
    with pytest.raises(nats_zio.NoRespondersError):
        client.request(subject + ".nobody")
    assert read.calls == 2
    assert read.found == 0


def test_messages_of_subscriptions_between_are_all_delivered(
    client: nats_zio.Client, other: nats_zio.Client, subject: str, read: Counted
) -> None:
    sub = client.subscribe(subject + ".between", pending_msgs=None)
    client.flush()

    def answer(message: nats_zio.Message) -> None:
        other.publish(subject + ".between", b"before " + message.data)
        message.respond(message.data)
        other.publish(subject + ".between", b"after " + message.data)

    other.subscribe(subject, cb=answer)
    other.flush()
    for number in range(300):
        assert client.request(subject, b"%d" % number).data == b"%d" % number
    expected = [b"%b %d" % (when, number) for number in range(300) for when in (b"before", b"after")]
    assert [sub.next(LIMIT).data for _ in expected] == expected


def test_many_threads_at_once_have_each_its_own_reply(
    client: nats_zio.Client, other: nats_zio.Client, subject: str
) -> None:
    echo(other, subject)

    def ask(number: int) -> bool:
        return all(client.request(subject, b"%d.%d" % (number, i)).data == b"%d.%d" % (number, i) for i in range(100))

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(ask, range(8)))
    assert len(client._core.requests) == 0


def test_a_thread_that_reads_itself_is_told_at_once_that_the_client_is_closed(
    client: nats_zio.Client, other: nats_zio.Client, subject: str, read: Counted, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shortcut, "LOOK", 1000.0)
    asked = other.subscribe(subject)
    other.flush()
    errors: list[BaseException] = []

    def ask() -> None:
        try:
            client.request(subject, timeout=None)
        except nats_zio.Error as error:
            errors.append(error)

    thread = threading.Thread(target=ask)
    thread.start()
    asked.next(LIMIT)
    connection = client._core.connection
    assert connection is not None
    eventually(lambda: connection.stream._io.lent_to is not None)  # type: ignore[attr-defined]
    client.close()
    thread.join(LIMIT)
    assert not thread.is_alive()
    assert [type(error) for error in errors] == [nats_zio.ConnectionClosedError]


def test_a_thread_that_reads_itself_is_told_that_the_connection_broke(
    server: NatsServer, background_runtime: zio.Runtime, read: Counted, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shortcut, "LOOK", 1000.0)
    with nats_zio.connect(server.url) as client, nats_zio.connect(server.url) as other:
        asked = other.subscribe("a")
        other.flush()

        def kill() -> None:
            asked.next(LIMIT)
            server.kill()

        killer = threading.Thread(target=kill)
        killer.start()
        with pytest.raises(nats_zio.DisconnectedError):
            client.request("a", timeout=None)
        killer.join()
        server.start()


def test_the_timeout_holds(client: nats_zio.Client, other: nats_zio.Client, subject: str, read: Counted) -> None:
    other.subscribe(subject)
    other.flush()
    with pytest.raises(nats_zio.TimeoutError):
        client.request(subject, timeout=0.05)
    assert read.calls == 1
    assert len(client._core.requests) == 0
    echo(other, subject + ".echo")
    assert client.request(subject + ".echo", b"x").data == b"x"


def test_a_late_reply_to_an_earlier_request_is_not_taken_for_this_one(
    client: nats_zio.Client, other: nats_zio.Client, subject: str
) -> None:
    asked = other.subscribe(subject)
    other.flush()
    with pytest.raises(nats_zio.TimeoutError):
        client.request(subject, b"1", timeout=0.05)
    first = asked.next(LIMIT)

    def answer() -> None:
        second = asked.next(LIMIT)
        first.respond(b"late")
        second.respond(b"right")

    thread = threading.Thread(target=answer)
    thread.start()
    assert client.request(subject, b"2", timeout=LIMIT).data == b"right"
    thread.join()
