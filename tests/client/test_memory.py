"""What a client keeps, however long it lives: nothing of connections that are gone, of messages that were taken."""

from __future__ import annotations

import gc
import json
import sys
import threading
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import nats_zio
import zio
from nats_zio.testing import NatsServer
from tests.client.certificates import Authority
from tests.client.helpers import LIMIT, away, eventually
from tests.client.scripting import run_script
from tests.secrecy import secret

RECONNECTS = 1000

Run = Callable[..., Any]


@pytest.fixture(scope="module")
def ca(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("ca"))


@pytest.fixture(scope="module")
def kicking(ca: Authority) -> Iterator[tuple[NatsServer, str]]:
    """A server whose system account may end connections, and the password of that account. It offers TLS."""
    password = secret()
    config = f"""
accounts {{ SYS: {{ users: [ {{ user: sys, password: {password} }} ] }}, APP: {{ users: [ {{ user: app }} ] }} }}
system_account: SYS
no_auth_user: app
allow_non_tls: true
{ca.config()}
"""
    with NatsServer(config=config) as server:
        yield server, password


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize(("where", "tls"), [("task", False), ("thread", True)], ids=["task", "thread and TLS"])
def test_a_thousand_reconnects_leave_nothing_behind(
    kicking: tuple[NatsServer, str], ca: Authority, where: str, tls: bool
) -> None:
    server, password = kicking
    done = run_script("reconnects.py", server.url, password, RECONNECTS, where, ca.file if tls else "", timeout=55)
    before, after = map(json.loads, done.stdout.splitlines()[-2:])
    assert differences(before["objects"], after["objects"]) == {}
    for what in ("fds", "threads", "frames"):
        assert after[what] == before[what]
    assert after["kilobytes"] < before["kilobytes"] * 1.05


def differences(before: dict[str, int], after: dict[str, int]) -> dict[str, tuple[int, int]]:
    names = before.keys() | after.keys()
    pairs = {name: (before.get(name, 0), after.get(name, 0)) for name in names}
    return {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}


def test_messages_taken_within_a_timeout_are_not_kept_until_the_time_is_up(
    nats_server: NatsServer, subject: str
) -> None:
    def kept() -> int:
        return sum(type(thing) is nats_zio.Message for thing in gc.get_objects())

    def main() -> None:
        with nats_zio.connect(nats_server.url) as nc, nc.subscribe(subject) as sub:
            before = kept()
            for take in (lambda: sub.next(timeout=3600), lambda: zio.select(sub, timeout=3600)):
                for _ in range(10):
                    taker = zio.spawn(take)
                    zio.pause()
                    nc.publish(subject, b"x")
                    taker.join()
                    del taker
            assert kept() <= before + 1  # the reader has its last batch at hand until the next one

    zio.run(main)


def test_receivers_of_events_that_nobody_holds_are_forgotten(run: Run, nats_server: NatsServer) -> None:
    def main() -> None:
        with nats_zio.connect(nats_server.url) as nc:
            kept, dropped = nc.events(), weakref.ref(nc.events())
            gc.collect()
            assert dropped() is None
            for _ in range(100):
                nc.events()
            assert len(nc._core._receivers) == 2  # and the last one, of which there is a weak reference
            nc.force_reconnect()
            nc.flush()
            assert len(kept) == 2

    run(main)


def test_receivers_of_events_that_somebody_waits_for_are_not(
    run: Run, nats_server: NatsServer, background_runtime: object
) -> None:
    def main() -> None:
        called = zio.Event()
        nc = nats_zio.connect(nats_server.url, on_event=lambda _: called.set())
        outcomes: list[Any] = []
        started = zio.Semaphore(0)

        def wait(way: Callable[[], Any]) -> None:
            started.release()
            outcomes.append(way())

        closed = nats_zio.events.Closed(None)
        ways = (
            lambda: list(nc.events()),
            lambda: [nc.events().recv()],
            lambda: [zio.select(nc.events())[1]],
            lambda: [event for event in nc.events()],  # noqa: C416
        )
        threads = [threading.Thread(target=wait, args=(way,)) for way in ways]
        for thread in threads:
            thread.start()
        for _ in ways:
            assert started.acquire(timeout=LIMIT)
        eventually(lambda: len(nc._core._receivers) == len(ways) + 1, "all wait")
        called.clear()
        gc.collect()
        nc.close()
        for thread in threads:
            away(thread.join)
        assert outcomes == [[closed]] * len(ways)
        assert called.is_set()

    run(main)
