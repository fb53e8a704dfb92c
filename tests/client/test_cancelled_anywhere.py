"""Every call of the client that waits, cut short at every moment at which anything happens: nothing is lost or left.

A call is made once to its end, and the moments at which something happens meanwhile are noted. Then it is made again
and again, and cancelled at each of them, and between them; by its task's cancel, and by a scope that runs out.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from itertools import pairwise
from typing import Any

import pytest

import nats_zio
import zio
from nats_zio.testing import ScriptedServer
from tests.client.scripted import SOON
from zio.testing import SimNetwork, run_virtual

pytestmark = pytest.mark.simulated


@dataclass
class Case:
    """The client, and what the call has taken, given or made."""

    server: ScriptedServer
    nc: nats_zio.Client
    taken: list[Any] = field(default_factory=list)
    subs: list[nats_zio.Subscription] = field(default_factory=list)
    ended: bool = False  # the client is closed by the call

    def later(self, seconds: float, call: Callable[[], object]) -> None:
        def run() -> None:
            zio.sleep(seconds)
            call()

        zio.spawn(run)


CALLS: dict[str, Callable[[Case], Callable[[], object]]] = {}


def call(prepare: Callable[[Case], Callable[[], object]]) -> Callable[[Case], Callable[[], object]]:
    """A function that prepares a case, and returns what is to be called; that may return a function that checks."""
    CALLS[prepare.__name__] = prepare
    return prepare


@call
def connect(case: Case) -> Callable[[], object]:
    return lambda: case.taken.append(nats_zio.connect(case.server.url))


@call
def request(case: Case) -> Callable[[], object]:
    return lambda: case.nc.request("echo", b"?")


@call
def request_without_an_answer(case: Case) -> Callable[[], object]:
    case.nc.subscribe("mute")
    case.nc.flush()

    def ask() -> None:
        with suppress(nats_zio.TimeoutError):
            case.nc.request("mute", b"?", timeout=0.01)

    return ask


@call
def request_while_disconnected(case: Case) -> Callable[[], object]:
    case.server.clients[0].close()
    zio.sleep(0.003)
    return lambda: case.nc.request("echo", b"?")


@call
def several_replies(case: Case) -> Callable[[], object]:
    return lambda: list(case.nc.request_many("echo", b"?", max_msgs=2, timeout=0.1))


@call
def flush(case: Case) -> Callable[[], object]:
    return case.nc.flush


@call
def flush_while_disconnected(case: Case) -> Callable[[], object]:
    case.server.clients[0].close()
    zio.sleep(0.003)
    return case.nc.flush


@call
def rtt(case: Case) -> Callable[[], object]:
    return case.nc.rtt


@call
def next_message(case: Case) -> Callable[[], object]:
    sub = with_messages(case, 1)
    return lambda: case.taken.append(sub.next())


@call
def next_batch(case: Case) -> Callable[[], object]:
    sub = with_messages(case, 3)
    return lambda: case.taken.extend(sub.next_batch(2))


@call
def iterating(case: Case) -> Callable[[], object]:
    sub = with_messages(case, 3)

    def take() -> None:
        for message in sub:
            case.taken.append(message)
            if len(case.taken) == 2:
                return

    return take


@call
def select(case: Case) -> Callable[[], object]:
    one, other = with_messages(case, 1), with_messages(case, 1)
    return lambda: case.taken.append(zio.select(one, other)[1])


def with_messages(case: Case, count: int) -> nats_zio.Subscription:
    """A subscription to which so many messages come in a little while, one after another."""
    sub = case.nc.subscribe(f"in.{len(case.subs)}")
    case.subs.append(sub)
    case.nc.flush()
    for number in range(count):
        text = b"MSG %b %d 1\r\n%d\r\n" % (sub.subject.encode(), sub.sid, number)
        case.later(0.004 * (number + 1), partial(case.server.clients[-1].send, text))
    return sub


@call
def publish_without_room(case: Case) -> Callable[[], object]:
    """It is not sent if it is cut short: `taken` has what was accepted."""
    up = case.server.clients[0].stream.connection.up  # type: ignore[attr-defined]
    up.allow(0)

    def fill() -> None:
        for _ in range(20):
            case.nc.publish("big", b"x" * 100_000)

    zio.spawn(fill)  # until it has to wait itself
    zio.sleep(0.002)
    for number in range(1, 4):
        case.later(0.004 * number, lambda: up.allow(300_000))
    case.later(0.016, lambda: up.allow(None))

    def publish() -> None:
        for number in range(3):
            case.nc.publish("counted", b"%d" % number + b"x" * 60_000)
            case.taken.append(number)

    return publish


@call
def subscribe_confirmed(case: Case) -> Callable[[], object]:
    return lambda: case.subs.append(case.nc.subscribe("confirmed", confirm=True))


@call
def drain_of_a_subscription(case: Case) -> Callable[[], object]:
    sub = with_messages(case, 2)
    return lambda: sub.drain(timeout=5)


@call
def drain(case: Case) -> Callable[[], object]:
    case.nc.subscribe("slow", cb=lambda message: zio.sleep(0.01))
    for _ in range(2):
        case.nc.publish("slow", b"x")
    case.nc.flush()
    case.ended = True
    return case.nc.drain


@call
def close(case: Case) -> Callable[[], object]:
    case.nc.publish("out", b"x")
    case.ended = True
    return case.nc.close


# What must hold.


def check(name: str, case: Case, completed: bool) -> None:
    nc, server = case.nc, case.server
    zio.sleep(1)  # what is on its way arrives
    if name == "connect":
        for other in case.taken:
            other.close()
        zio.sleep(1)
        assert len(server.clients) == 1, "a connection is left"
    if name in {"next_message", "next_batch", "iterating", "select"}:
        pending = [sub.try_next() for sub in case.subs for _ in range(sub.pending_msgs)]
        got = sorted(message.subject + message.data.decode() for message in (*case.taken, *pending))
        assert len(got) == {"next_message": 1, "select": 2}.get(name, 3), "lost"
        assert len(set(got)) == len(got), "taken twice"
    if name == "publish_without_room":
        nc.flush()
        sent = [int(command.data[:1]) for command in server.clients[0].commands if command.args[:1] == ["counted"]]
        assert sent == case.taken
    if name == "subscribe_confirmed":
        nc.flush()
        made = [sub for sub in server.clients[0].subscriptions.values() if sub.subject == "confirmed"]
        assert len(made) == len(case.subs)
    if name == "drain_of_a_subscription":
        assert case.subs[0].closed or not completed
    if case.ended and not nc.is_closed:
        assert not completed
        nc.close()
    assert len(nc._core.requests) == 0
    if case.ended:
        assert nc.is_closed
        return
    # And all goes on.
    with nc.subscribe("a") as sub:
        nc.publish("a", b"1")
        nc.flush()
        assert [message.data for message in sub.next_batch(10)] == [b"1"]
    assert nc.request("echo", b"after").data == b"after"


def run(name: str, seed: int, moment: float | None, how: str) -> list[float]:
    """The moments, after the call began, at which something happened; cut short at one of them, if not None."""
    network = SimNetwork(seed, latency=0.001, jitter=0.0005)
    moments: list[float] = []

    def main() -> None:
        with ScriptedServer("s1", 4222) as server:
            nc = nats_zio.connect(server.url, reconnect_wait=0.002)
            nc.subscribe("echo", cb=lambda message: message.respond(message.data))
            nc.request("echo", b"before")
            case = Case(server, nc)
            act = CALLS[name](case)
            begin = zio.now()
            completed = False

            def make_the_call() -> None:
                nonlocal completed
                if how == "scope" and moment is not None:
                    with zio.move_on_after(moment):
                        act()
                        completed = True
                else:
                    act()
                    completed = True

            task = zio.spawn(make_the_call)
            if how == "cancel" and moment is not None:
                zio.sleep(moment)
                task.cancel()
            try:
                task.join(timeout=SOON)
            except zio.Cancelled:
                assert moment is not None
            moments.extend(entry.time - begin for entry in network.journal if begin <= entry.time <= zio.now())
            check(name, case, completed)
            nc.close()
            zio.sleep(SOON)
            assert not server.clients
            assert not network.connections
        loop = zio.lowlevel.here().loop
        left = [task for tree in (loop.system, loop.calls) for task in tree.kids or ()]
        assert not left, f"tasks are left: {left}"

    run_virtual(main, network=network, seed=seed)
    return sorted(set(moments))


@pytest.mark.parametrize("how", ["cancel", "scope"])
@pytest.mark.parametrize("name", CALLS)
def test_cut_short_at_any_moment_a_call_loses_nothing_and_leaves_nothing(name: str, how: str) -> None:
    tried = 0
    for seed in (1, 2, 3):
        moments = run(name, seed, None, how)
        between = [(one + other) / 2 for one, other in pairwise(moments)]
        for moment in (0.0, *moments, *between):
            run(name, seed, moment, how)
            tried += 1
    assert tried > 15
