"""Tests of a client against the scripted server, in simulated time on a simulated network."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import nats_zio
import zio
from nats_zio.events import Event, Receiver
from nats_zio.testing import ScriptedServer
from zio.testing import SimNetwork, run_virtual

SOON = 60.0  # seconds of simulated time in which what must happen has happened


def scripted(test: Callable[[ScriptedServer], Any], *, network: SimNetwork | None = None, **server: Any) -> Any:
    """Run `test(server)`; afterwards no connection and no task of the client may be left."""

    def main() -> Any:
        with ScriptedServer("s1", 4222, **server) as started:
            result = test(started)
            zio.sleep(SOON)
            assert not started.clients, "connections are left"
            assert not zio.lowlevel.here().loop.runtime.network.connections
        loop = zio.lowlevel.here().loop
        left = [task for tree in (loop.system, loop.calls) for task in tree.kids or ()]
        assert not left, f"tasks are left: {left}"
        return result

    return run_virtual(main, network=network or SimNetwork(1), seed=1)


def connected(
    test: Callable[..., Any],
    *args: Any,
    network: SimNetwork | None = None,
    options: dict[str, Any] | None = None,
    **server: Any,
) -> Any:
    """Run `test(server, nc, *args)` with a client that is connected; it is drained afterwards."""

    def main(started: ScriptedServer) -> Any:
        with nats_zio.connect(started.url, **(options or {})) as nc:
            return test(started, nc, *args)

    return scripted(main, network=network, **server)


def until(seen: Receiver, kind: type[Event]) -> list[Event]:
    """The events up to the first one of this kind, it included."""
    events: list[Event] = []
    with zio.timeout(SOON):
        while not events or not isinstance(events[-1], kind):
            events.append(seen.recv())
    return events


def rest(seen: Receiver) -> list[Event]:
    """The events that have come and were not looked at."""
    return [seen.recv() for _ in range(len(seen))]


def kinds(events: list[Event]) -> list[type[Event]]:
    return [type(event) for event in events]
