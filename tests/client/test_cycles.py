"""Programs that have switched off the collector of garbage rely on it: no call, be it in vain, leaves a cycle."""

from __future__ import annotations

import gc
from collections import Counter
from collections.abc import Callable

import pytest

import nats_zio
import zio
from nats_zio.testing import NatsServer

Run = Callable[..., object]
Call = Callable[[nats_zio.Client, nats_zio.Subscription], object]

TIMES = 20


def expect(error: type[BaseException], call: Callable[[], object]) -> None:
    """Without pytest.raises, which keeps the error in a cycle of its own."""
    try:
        call()
    except error:
        return
    raise AssertionError(f"no {error.__name__}")


def with_time_limit(sub: nats_zio.Subscription) -> None:
    with zio.move_on_after(0.001):
        sub.next(timeout=None)


CALLS: dict[str, Call] = {
    "publish": lambda nc, sub: publish_and_read(nc, sub),
    "publish refused": lambda nc, sub: expect(nats_zio.BadSubjectError, lambda: nc.publish("two words")),
    "next in vain": lambda nc, sub: expect(TimeoutError, lambda: sub.next(timeout=0.001)),
    "next cancelled": lambda nc, sub: with_time_limit(sub),
    "request": lambda nc, sub: nc.request("cycles.echo", b"1"),
    "request to nobody": lambda nc, sub: expect(nats_zio.NoRespondersError, lambda: nc.request("cycles.nobody")),
    "request in vain": lambda nc, sub: expect(TimeoutError, lambda: nc.request("cycles.silent", timeout=0.001)),
    "pull from nobody": lambda nc, sub: expect(
        nats_zio.NoRespondersError, lambda: nc.request("$JS.API.CONSUMER.MSG.NEXT.S.q")
    ),
    "request_many": lambda nc, sub: list(nc.request_many("cycles.echo", max_msgs=1)),
    "request_many left": lambda nc, sub: nc.request_many("cycles.silent").close(),
    "request_many of nobody": lambda nc, sub: list(nc.request_many("cycles.nobody")),
    "subscribe": lambda nc, sub: nc.subscribe("cycles.temp", cb=print).unsubscribe(),
    "next of an ended one": lambda nc, sub: next_of_ended(nc),
    "flush": lambda nc, sub: nc.flush(),
    "flush in vain": lambda nc, sub: expect(TimeoutError, lambda: nc.flush(timeout=0)),
}


def next_of_ended(nc: nats_zio.Client) -> None:
    sub = nc.subscribe("cycles.temp")
    sub.unsubscribe()
    expect(nats_zio.SubscriptionClosedError, sub.next)


def publish_and_read(nc: nats_zio.Client, sub: nats_zio.Subscription) -> None:
    nc.publish("cycles.x", b"1", headers={"a": "b"})
    assert sub.next().headers


def left_in_cycles(call: Callable[[], object]) -> Counter[str]:
    """The kinds of objects that only the collector could free, of ours or in the frames of an error."""
    call()
    gc.collect()
    gc.disable()
    try:
        for _ in range(TIMES):
            call()
        gc.set_debug(gc.DEBUG_SAVEALL)
        gc.collect()
        return Counter(f"{type(thing).__module__}.{type(thing).__qualname__}" for thing in gc.garbage)
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
        gc.enable()


@pytest.mark.parametrize("name", CALLS)
def test_no_call_leaves_a_cycle(run: Run, nats_server: NatsServer, name: str) -> None:
    def main() -> None:
        with nats_zio.connect(nats_server.url) as nc:
            nc.subscribe("cycles.echo", cb=lambda message: message.respond(message.data))
            nc.subscribe("cycles.silent", cb=lambda message: None)
            sub = nc.subscribe("cycles.x")
            nc.flush()
            left = left_in_cycles(lambda: CALLS[name](nc, sub))
            often = {kind: count for kind, count in left.items() if count >= TIMES}  # others are by chance
            assert not often

    run(main)
