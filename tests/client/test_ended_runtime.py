"""A client whose runtime has ended, or ends during a call: it is a closed client like any other."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

import pytest

import nats_zio
import zio
from nats_zio import Client, DrainReport, Subscription
from nats_zio.testing import NatsServer
from tests.client.helpers import LIMIT, eventually

pytestmark = pytest.mark.usefixtures("background_runtime")  # it takes the calls of plain threads

Ended = tuple[Client, Subscription]


def in_a_run(fn: Callable[[], Any]) -> Any:
    return zio.run(fn)


def in_a_thread(fn: Callable[[], Any]) -> Any:
    return fn()


@pytest.fixture(params=[in_a_run, in_a_thread])
def where(request: pytest.FixtureRequest) -> Any:
    """Call a function in a task of another run, and in a plain thread."""
    return request.param


@pytest.fixture
def ended(nats_server: NatsServer, subject: str) -> Ended:
    """A client and a subscription, with one message pending, of a run that is over."""

    def main() -> Ended:
        nc = nats_zio.connect(nats_server.url)
        sub = nc.subscribe(subject)
        nc.publish(subject, b"x")
        nc.flush()
        return nc, sub

    return zio.run(main)


@pytest.mark.parametrize(
    "call",
    [
        lambda nc: nc.publish("a", b"x"),
        lambda nc: nc.request("a"),
        lambda nc: nc.request("a", retry_on_disconnect=True),
        lambda nc: list(nc.request_many("a")),
        lambda nc: nc.subscribe("a"),
        lambda nc: nc.subscribe("a", confirm=True),
        lambda nc: nc.flush(),
        lambda nc: nc.rtt(),
        lambda nc: nc.force_reconnect(),
        lambda nc: nc.set_servers("127.0.0.1"),
    ],
    ids=[
        "publish",
        "request",
        "repeated request",
        "request_many",
        "subscribe",
        "confirm",
        "flush",
        "rtt",
        "force_reconnect",
        "set_servers",
    ],
)
def test_what_needs_an_open_client_says_that_it_is_closed(where: Any, ended: Ended, call: Any) -> None:
    with pytest.raises(nats_zio.ConnectionClosedError):
        where(lambda: call(ended[0]))


def test_what_ends_a_client_does_nothing(where: Any, ended: Ended) -> None:
    nc, _ = ended

    def main() -> None:
        with nc:
            assert nc.drain() == DrainReport({})
        nc.close()

    where(main)


def test_its_subscriptions_have_ended(where: Any, ended: Ended) -> None:
    _, sub = ended

    def main() -> None:
        with sub:
            sub.drain()
            sub.set_pending_limits(1, 1)
            sub.unsubscribe(after=3)
            assert sub.next().data == b"x"
            for take in (sub.next, sub.try_next, lambda: sub.next_batch(2)):
                with pytest.raises(nats_zio.errors.SubscriptionLostError):
                    take()
            assert list(sub) == []
        assert sub.closed_reason is nats_zio.ClosedReason.CLIENT_CLOSED

    where(main)


def test_select_finds_what_is_left_and_then_the_end(where: Any, ended: Ended) -> None:
    _, sub = ended

    def main() -> None:
        assert zio.select(sub)[1].data == b"x"
        with pytest.raises(nats_zio.errors.SubscriptionLostError):
            zio.select(sub)

    where(main)


def test_unsubscribe_still_drops_what_is_pending(where: Any, ended: Ended) -> None:
    _, sub = ended
    where(sub.unsubscribe)
    assert len(sub) == 0


def test_its_events_are_over(where: Any, ended: Ended) -> None:
    nc, _ = ended

    def main() -> None:
        events = nc.events()
        assert events.closed
        assert list(events) == []

    where(main)


def test_replies_that_had_come_are_there(where: Any, nats_server: NatsServer, subject: str) -> None:
    def main() -> nats_zio.Replies:
        nc = nats_zio.connect(nats_server.url)
        nc.subscribe(subject, cb=lambda message: message.respond(b"y"))
        replies = nc.request_many(subject, timeout=None)
        nc.flush()
        nc.flush()
        return replies

    replies = zio.run(main)
    taken: list[bytes] = []
    with pytest.raises(nats_zio.ConnectionClosedError):
        where(lambda: taken.extend(message.data for message in replies))
    assert taken == [b"y"]


def test_a_lazy_client_that_was_never_opened_ends_with_the_runtime_it_was_used_in(where: Any) -> None:
    nc = nats_zio.connect("127.0.0.1:1", lazy=True)
    events = zio.run(nc.events)
    assert nc.is_closed
    assert list(events) == [nats_zio.events.Closed(None)]
    with pytest.raises(nats_zio.ConnectionClosedError):
        where(nc.flush)


def test_a_lazy_client_closed_before_its_use_has_events_that_are_over() -> None:
    nc = nats_zio.connect("127.0.0.1:1", lazy=True)
    nc.close()
    assert list(nc.events()) == []
    with pytest.raises(nats_zio.ConnectionClosedError):
        nc.new_inbox()


# The runtime ends during the call.


def start(fn: Callable[[], Any]) -> Future[Any]:
    """Call it in a thread of its own."""
    outcome: Future[Any] = Future()

    def run() -> None:
        try:
            outcome.set_result(fn())
        except BaseException as exc:
            outcome.set_exception(exc)

    threading.Thread(target=run).start()
    return outcome


@pytest.mark.parametrize("what", ["next", "request", "request_many", "for"])
def test_a_task_of_another_run_whose_call_is_cut_short(
    nats_server: NatsServer, background_runtime: zio.Runtime, subject: str, what: str
) -> None:
    nc = nats_zio.connect(nats_server.url)
    sub = nc.subscribe(subject)
    calls: dict[str, Callable[[], object]] = {
        "next": lambda: sub.next(timeout=None),
        "request": lambda: nc.request(subject, timeout=None),
        "request_many": lambda: list(nc.request_many(subject, timeout=None)),
        "for": lambda: list(sub),
    }
    before = background_runtime.statistics().calls
    outcome = start(lambda: zio.run(calls[what]))
    eventually(lambda: background_runtime.statistics().calls > before, "the call has come in")
    background_runtime.close()
    if what == "for":
        assert outcome.result(LIMIT) == []
    else:
        assert isinstance(outcome.exception(LIMIT), nats_zio.ConnectionClosedError)
    assert nc.is_closed


def test_a_drain_that_is_cut_short_says_so(
    nats_server: NatsServer, background_runtime: zio.Runtime, subject: str
) -> None:
    nc = nats_zio.connect(nats_server.url)
    sub = nc.subscribe(subject)
    nc.publish(subject, b"x")
    working, go_on = threading.Event(), threading.Event()

    def iterate() -> None:
        for _ in sub:
            working.set()
            go_on.wait(LIMIT)

    consumer = start(iterate)
    working.wait(LIMIT)
    outcome = start(nc.drain)
    eventually(lambda: sub.closed, "the drain waits for the loop")
    background_runtime.close()
    assert outcome.result(LIMIT).timed_out
    assert nc.is_closed
    go_on.set()
    consumer.result(LIMIT)
