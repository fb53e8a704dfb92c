"""Whatever strikes a call, and wherever in it: nothing is held afterwards, and other calls work.

Every boundary of every call below is struck once, where a function of ours begins or returns: by an error, as of a
signal handler or an asynchronous exception; and by another call, as of a signal handler or a finalizer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import NamedTuple

import pytest
from greenlet import getcurrent

import nats_zio
import zio
from nats_zio.testing import NatsServer
from tests.boundaries import COUNT, Striker, Struck, hang_is_a_failure, raise_struck, strikes
from zio.lowlevel import Fiber, thread_holder

LIMIT = 30.0
WHERE = pytest.mark.parametrize("where", ["thread", "task"])


class Call(NamedTuple):
    """One that is struck; ``before`` prepares it."""

    name: str
    make: Callable[[], object]
    before: Callable[[], object] | None = None


def in_vain(call: Callable[[], object]) -> Callable[[], None]:
    def make() -> None:
        with pytest.raises(TimeoutError):
            call()

    return make


def calls(nc: nats_zio.Client, service: nats_zio.Client) -> Iterator[Call]:
    sub, silent = nc.subscribe("in"), nc.subscribe("silent")
    nc.flush()
    channel, empty, lock = zio.Channel[int](10), zio.Channel[int](1), zio.Lock()
    ready, never = zio.Event(), zio.Event()
    ready.set()

    def send_in() -> None:
        service.publish("in", b"x")
        service.flush()

    def clear() -> None:
        while len(channel):
            channel.try_recv()

    def fill() -> None:
        clear()
        channel.try_send(1)

    def locked() -> None:
        with lock:
            pass

    def is_free() -> None:
        assert not lock.locked()

    yield Call("publish", lambda: nc.publish("a", b"1"))
    yield Call("publish with headers", lambda: nc.publish("a", "1", headers={"a": "b"}))
    yield Call("request", lambda: nc.request("echo", b"2", timeout=LIMIT))
    yield Call("flush", lambda: nc.flush(timeout=LIMIT))
    yield Call("subscribe, unsubscribe", lambda: nc.subscribe("z").unsubscribe())
    yield Call("next", lambda: sub.next(timeout=LIMIT), send_in)
    yield Call("next, in vain", in_vain(lambda: silent.next(timeout=0.001)))
    yield Call("drain of a subscription", lambda: nc.subscribe("d").drain(timeout=LIMIT))
    yield Call("Channel.send", lambda: channel.send(1), clear)
    yield Call("Channel.recv", lambda: channel.recv(timeout=LIMIT), fill)
    yield Call("Channel.recv, in vain", in_vain(lambda: empty.recv(timeout=0.001)))
    yield Call("Lock", locked, is_free)
    yield Call("Event.wait", lambda: ready.wait(timeout=LIMIT))
    yield Call("Event.wait, in vain", lambda: never.wait(timeout=0.001))
    yield Call("Event.set", ready.set)
    yield Call("select", lambda: zio.select(channel, ready, timeout=LIMIT))
    yield Call("select, in vain", in_vain(lambda: zio.select(empty, never, timeout=0.001)))
    yield Call("sleep", lambda: zio.sleep(0.001))


def handlers(nc: nats_zio.Client) -> Iterator[Call]:
    """What may be called in the middle of another call."""
    event = zio.Event()
    yield Call("publish", lambda: nc.publish("h", b"1"))
    yield Call("request", lambda: nc.request("echo", b"3", timeout=LIMIT))
    yield Call("flush", lambda: nc.flush(timeout=LIMIT))
    yield Call("Event.set", event.set)
    yield Call("subscribe, unsubscribe", lambda: nc.subscribe("hh").unsubscribe())


def check_nothing_is_held() -> None:
    fiber = getcurrent()
    if type(fiber) is Fiber:
        task = fiber.task
        assert task is not None
        assert fiber.waiter is None
        assert task.scope is task
    else:
        holder = thread_holder()
        assert not holder.waits
        assert not holder.lent
        assert holder.scope is holder


def check_alive(nc: nats_zio.Client) -> None:
    nc.publish("check", b"1")
    nc.flush(timeout=LIMIT)
    assert nc.request("echo", b"2", timeout=LIMIT).data == b"2"


def take_what_was_put_off() -> None:
    """An error that struck a call which had been done already is raised by the next one that waits."""
    for _ in range(2):
        try:
            zio.sleep(0.0001)
        except Struck:
            continue


def struck(striker: Striker, call: Callable[[], object]) -> None:
    try:
        with striker:
            call()
    except Struck:
        pass
    take_what_was_put_off()


@pytest.fixture
def run(where: str, request: pytest.FixtureRequest) -> Callable[[Callable[[], None]], None]:
    """Runs a function in a plain thread, the main one, or as the main task of a run."""
    if where == "thread":
        request.getfixturevalue("background_runtime")
        return lambda test: test()
    return lambda test: zio.run(test)


def with_service(url: str, test: Callable[[nats_zio.Client, nats_zio.Client], None]) -> None:
    with nats_zio.connect(url) as nc, nats_zio.connect(url) as service:
        service.subscribe("echo", cb=lambda message: message.respond(message.data))
        service.flush()
        test(nc, service)


def told(prefix: str) -> str:
    counts = {name: count for name, count in COUNT.by_call.items() if name.startswith(prefix)}
    return f"{prefix}: {sum(counts.values())} boundaries struck, in {len(counts)} calls"


@WHERE
@pytest.mark.timeout(300)
def test_an_error_at_any_boundary_leaves_nothing_held(
    where: str, run: Callable[[Callable[[], None]], None], server: NatsServer, tell: Callable[[str], None]
) -> None:
    def test(nc: nats_zio.Client, service: nats_zio.Client) -> None:
        for call in calls(nc, service):
            for striker in strikes(f"errors, {where}: {call.name}", raise_struck):
                with hang_is_a_failure(4 * LIMIT, partial("{}: {}".format, call.name, striker)):
                    if call.before is not None:
                        call.before()
                    struck(striker, call.make)
                    check_nothing_is_held()
                    check_alive(nc)
                    if call.before is not None:
                        call.before()
                    call.make()
        assert nc.stats.reconnects == 0

    run(lambda: with_service(server.url, test))
    tell(told(f"errors, {where}"))


@WHERE
@pytest.mark.parametrize("name", ["drain", "close"])
@pytest.mark.timeout(300)
def test_an_error_at_any_boundary_of_the_end_of_a_client_leaves_it_to_be_closed(
    name: str, where: str, run: Callable[[Callable[[], None]], None], server: NatsServer, tell: Callable[[str], None]
) -> None:
    clients: list[nats_zio.Client] = []  # none is finalized while another one is struck

    def test() -> None:
        for striker in strikes(f"end by {name}, {where}", raise_struck):
            with hang_is_a_failure(4 * LIMIT, partial(str, striker)):
                nc = nats_zio.connect(server.url)
                clients.append(nc)
                nc.subscribe("x", cb=lambda message: None)
                nc.publish("x", b"1")
                struck(striker, nc.drain if name == "drain" else nc.close)
                check_nothing_is_held()
                nc.close()
                assert nc.is_closed

    run(test)
    tell(told(f"end by {name}, {where}"))


@WHERE
@pytest.mark.slow
@pytest.mark.timeout(300)
def test_any_call_may_be_made_in_the_middle_of_any_other(
    where: str, run: Callable[[Callable[[], None]], None], server: NatsServer, tell: Callable[[str], None]
) -> None:
    """It is done, or in a loop's own thread refused with BlockingNotAllowed; and the other call goes on."""
    outcomes: list[str] = []

    def test(nc: nats_zio.Client, service: nats_zio.Client) -> None:
        for handler in handlers(nc):

            def handle(handler: Call = handler) -> None:
                try:
                    handler.make()
                    outcomes.append("done")
                except zio.BlockingNotAllowed:
                    outcomes.append("refused")

            for call in calls(nc, service):
                for striker in strikes(f"calls, {where}: {handler.name} amid {call.name}", handle):
                    what = f"{handler.name} amid {call.name}"
                    with hang_is_a_failure(4 * LIMIT, partial("{}: {}".format, what, striker)):
                        if call.before is not None:
                            call.before()
                        with striker:
                            call.make()
                        check_nothing_is_held()
                        check_alive(nc)

    run(lambda: with_service(server.url, test))
    if where == "thread":
        assert set(outcomes) == {"done"}
    tell(f"{told(f'calls, {where}')}; {outcomes.count('refused')} of {len(outcomes)} refused")
