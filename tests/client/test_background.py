"""What goes on beside the program: the background runtime, and where there is none."""

from __future__ import annotations

import asyncio
import threading
import warnings

import pytest

import nats_zio
import zio
from nats_zio.testing import NatsServer
from tests.client.scripting import run_script


@pytest.mark.slow
def test_pings_of_the_server_are_answered_while_the_main_thread_computes() -> None:
    with NatsServer(config='ping_interval: "1s"\nping_max: 2') as server:
        script = run_script("computes.py", server.url, 6)
        assert script.stdout == "still connected\n"
        assert "Stale" not in server.log


@pytest.mark.slow
def test_inside_zio_run_there_is_one_thread_until_the_pool_is_needed(server: NatsServer) -> None:
    lines = run_script("counts_threads.py", server.url).stdout.splitlines()
    assert [line for line in lines if not line.startswith("to_thread")] == [
        f"{step} 1" for step in ("connect", "subscribe", "publish", "request", "drain", "end", "end")
    ]
    assert "to_thread 2" in lines


def test_a_plain_thread_gets_the_background_runtime_and_one_thread_for_all_clients(
    server: NatsServer, background_runtime: zio.Runtime
) -> None:
    before = threading.active_count()
    clients = [nats_zio.connect(server.url) for _ in range(5)]
    for client in clients:
        client.subscribe("x")
        client.publish("y")
        client.flush()
    assert {client.runtime for client in clients} == {background_runtime}
    assert threading.active_count() == before
    for client in clients:
        client.close()


def test_handlers_run_in_tasks_inside_zio_run(server: NatsServer) -> None:
    def main() -> None:
        seen: zio.Channel[bool] = zio.Channel(1)
        with nats_zio.connect(server.url) as client:
            client.subscribe("x", cb=lambda message: seen.send(threading.current_thread() is threading.main_thread()))
            client.publish("x")
            assert seen.recv(timeout=30)

    zio.run(main)


def test_handlers_run_on_threads_inside_zio_run_if_so_chosen(server: NatsServer) -> None:
    def main() -> None:
        seen: zio.Channel[bool] = zio.Channel(1)
        with nats_zio.connect(server.url, run_callbacks="thread") as client:
            client.subscribe("x", cb=lambda message: seen.send(threading.current_thread() is threading.main_thread()))
            client.publish("x")
            assert not seen.recv(timeout=30)

    zio.run(main)


def test_the_background_runtime_closes_its_clients_and_a_new_one_serves_new_clients(
    server: NatsServer, background_runtime: zio.Runtime
) -> None:
    client = nats_zio.connect(server.url)
    background_runtime.close()
    assert client.is_closed
    with pytest.raises((nats_zio.ConnectionClosedError, zio.RuntimeClosed)):
        client.publish("x")
    try:
        again = nats_zio.connect(server.url)
        again.flush()
        assert again.runtime is not background_runtime
    finally:
        zio.background().close()


def test_the_warning_beside_asyncio_names_the_line_that_calls_the_client(
    nats_client: nats_zio.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("zio._core.foreign._warned_asyncio", False)

    async def main() -> None:
        nats_client.flush()
        nats_client.flush()

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        asyncio.run(main())
    assert [(warning.category, warning.filename) for warning in caught] == [(RuntimeWarning, __file__)]
