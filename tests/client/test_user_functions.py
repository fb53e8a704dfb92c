"""Functions that are given as options are called where handlers run, so one that blocks holds up nobody else."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest

import nats_zio
from nats_zio.testing import NatsServer
from tests.client.helpers import next_event
from tests.secrecy import secret

HOME = "zio-background"

Gate = Callable[[], None]


def auth(gate: Gate) -> dict[str, Any]:
    def ask(info: nats_zio.ServerInfo) -> nats_zio.Auth:
        gate()
        return nats_zio.Auth(user="ann", password=secret())

    return {"auth": ask}


def reconnect_delay(gate: Gate) -> dict[str, Any]:
    def delay(rounds: int) -> float:
        gate()
        return 0.01

    return {"reconnect_delay": delay}


def next_server(gate: Gate) -> dict[str, Any]:
    def choose(pool: list[str], info: nats_zio.ServerInfo) -> None:
        gate()

    return {"next_server": choose}


def on_event(gate: Gate) -> dict[str, Any]:
    return {"on_event": lambda event: gate()}


@pytest.mark.parametrize("option", [auth, reconnect_delay, next_server, on_event], ids=lambda option: option.__name__)
def test_from_plain_threads_they_run_on_worker_threads(
    background_runtime: object, server: NatsServer, option: Callable[[Gate], dict[str, Any]]
) -> None:
    ran_in: list[str] = []
    go_on = threading.Event()
    entered = threading.Event()

    def gate() -> None:
        ran_in.append(threading.current_thread().name)
        entered.set()
        assert go_on.wait(30)

    with NatsServer() as other, nats_zio.connect(other.url) as bystander:
        clients: list[nats_zio.Client] = []
        opening = threading.Thread(
            target=lambda: clients.append(nats_zio.connect(server.url, reconnect_wait=0.01, **option(gate)))
        )
        opening.start()
        if option in (reconnect_delay, next_server):
            opening.join()
            server.stop()
        assert entered.wait(30)
        bystander.rtt()  # its loop is the same
        go_on.set()
        opening.join()
        if option in (reconnect_delay, next_server):
            seen = clients[0].events()
            server.start()
            next_event(seen, nats_zio.events.Reconnected)
        clients[0].close()
    assert ran_in
    assert HOME not in ran_in
