"""The first connection where it does not come at once: retried in the background, or not made before it is needed."""

from __future__ import annotations

import gc
import multiprocessing
import os
import threading
import warnings
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import nats_zio
import zio
from nats_zio import Status, events
from nats_zio.testing import NatsServer, ScriptedServer
from nats_zio.testing.scripted import User
from nats_zio.user_functions import UserFunctions
from tests.client.helpers import Peer, away, eventually, next_event
from tests.secrecy import secret
from zio.testing import SimNetwork, run_virtual

Run = Callable[..., Any]
URL = "nats://a:4222"


def simulated(main: Callable[[], None]) -> None:
    run_virtual(main, seed=1, network=SimNetwork(1))


# retry_on_failed_connect.


def test_connect_returns_while_no_server_is_there_and_all_that_is_done_counts_once_there_is_one() -> None:
    def main() -> None:
        nc = nats_zio.connect(URL, retry_on_failed_connect=True)
        assert (nc.status, nc.is_connected, nc.connected_url) == (Status.CONNECTING, False, None)
        seen = nc.events()
        sub = nc.subscribe("x")
        for number in range(10):
            nc.publish("x", b"%d" % number)
        with ScriptedServer("a", 4222):
            assert isinstance(next_event(seen, events.Connected), events.Connected)
            assert nc.status is Status.CONNECTED
            nc.flush()
            assert [sub.next().data for _ in range(10)] == [b"%d" % number for number in range(10)]
            assert nc.stats.reconnects == 0
            nc.close()

    simulated(main)


def test_a_request_waits_for_the_first_connection_within_its_timeout() -> None:
    def main() -> None:
        nc = nats_zio.connect(URL, retry_on_failed_connect=True, reconnect_max_wait=0.5)
        with pytest.raises(nats_zio.TimeoutError, match="not connected"):
            nc.request("echo", timeout=0.3)
        task = zio.spawn(lambda: nc.request("nobody", timeout=5))
        zio.sleep(2)
        with ScriptedServer("a", 4222):
            with pytest.raises(nats_zio.NoRespondersError):  # so it was sent, and answered
                task.join()
            nc.close()

    simulated(main)


def test_each_failed_attempt_is_told_and_the_last_one_closes_the_client() -> None:
    def main() -> None:
        said: list[Any] = []
        nc = nats_zio.connect(
            URL, retry_on_failed_connect=True, max_reconnect_attempts=4, on_event=said.append, reconnect_wait=0.01
        )
        zio.sleep(100)
        assert [type(event).__name__ for event in said] == ["ReconnectFailed"] * 4 + ["Closed"]
        assert isinstance(said[-1].error, nats_zio.NoServersError)
        with pytest.raises(nats_zio.ConnectionClosedError):
            nc.flush()

    simulated(main)


def test_without_it_connect_raises() -> None:
    def main() -> None:
        with pytest.raises(nats_zio.NoServersError):
            nats_zio.connect(URL)

    simulated(main)


def test_a_refusal_is_tried_again_too_and_twice_the_same_ends_it() -> None:
    def main() -> None:
        password = secret()
        with ScriptedServer("a", 4222, users={"ann": User(secret())}) as server:
            url = f"nats://bob:{password}@a:4222"
            nc = nats_zio.connect(url, retry_on_failed_connect=True)
            closed = next_event(nc.events(), events.Closed, limit=60)
            assert isinstance(closed.error.errors["nats://a:4222"], nats_zio.AuthError)
            nc = nats_zio.connect(
                f"nats://bob:{password}@a:4222", retry_on_failed_connect=True, abort_on_auth_error=False
            )
            seen = nc.events()
            zio.sleep(60)
            assert nc.status is Status.CONNECTING
            server.users["bob"] = User(password)  # type: ignore[index]
            next_event(seen, events.Connected, limit=60)
            nc.close()

    simulated(main)


@pytest.mark.parametrize("ending", ["close", "drain"])
def test_a_client_that_never_had_a_connection_ends_at_once(ending: str) -> None:
    def main() -> None:
        nc = nats_zio.connect(URL, retry_on_failed_connect=True)
        start = zio.now()
        getattr(nc, ending)()
        assert zio.now() == start
        assert nc.is_closed

    simulated(main)


def test_from_plain_threads_too(background_runtime: object, server: NatsServer) -> None:
    server.stop()
    nc = nats_zio.connect(server.url, retry_on_failed_connect=True, reconnect_wait=0.02, reconnect_max_wait=0.1)
    sub = nc.subscribe("x")
    nc.publish("x", b"kept")
    server.start()
    assert sub.next(timeout=30).data == b"kept"
    nc.close()


# lazy.


def test_a_lazy_client_can_be_shown_before_it_is_used() -> None:
    nc = nats_zio.connect(URL, lazy=True, name="sleepy")
    assert repr(nc) == "<Client 'sleepy' connecting>"
    nc.close()
    assert repr(nc) == "<Client 'sleepy' closed>"


def test_a_lazy_client_opens_nothing_before_it_is_used() -> None:
    def main() -> None:
        with ScriptedServer("a", 4222) as server:
            with nats_zio.connect(URL, lazy=True) as nc:
                zio.sleep(10)
                assert (nc.status, nc.is_connected, nc.servers, nc.discovered_servers) == (
                    Status.CONNECTING,
                    False,
                    [URL],
                    [],
                )
                assert nc.stats == nats_zio.Stats(0, 0, 0, 0, 0)
                assert nc.max_payload == nc.server_info.max_payload == 1 << 20
                assert not server.all_clients
            assert nc.is_closed
            assert not server.all_clients

    simulated(main)


FIRST: dict[str, Callable[[nats_zio.Client], Any]] = {
    "publish": lambda nc: nc.publish("x", b"first"),
    "publish with headers": lambda nc: nc.publish("x", b"first", headers={"a": "b"}),
    "subscribe": lambda nc: nc.subscribe("y"),
    "flush": lambda nc: nc.flush(),
    "rtt": lambda nc: nc.rtt(),
    "force_reconnect": lambda nc: nc.force_reconnect(),
    "request": lambda nc: nc.request("echo", b"first"),
}


@pytest.mark.parametrize("call", FIRST)
def test_the_first_call_opens_it_once_and_for_all(run: Run, nats_server: NatsServer, peer: Peer, call: str) -> None:
    peer.subscribe("echo", reply=lambda message: message.data)
    peer.do(peer.nc.flush(60))

    def main() -> None:
        with nats_zio.connect(nats_server.url, lazy=True) as nc:
            FIRST[call](nc)
            nc.flush()
            assert nc.is_connected
            sub = nc.subscribe("twice")
            nc.publish("twice", b"1")
            assert sub.next().data == b"1"

    run(main)


@pytest.mark.parametrize("call", FIRST)
def test_the_first_call_raises_what_connect_would_and_the_next_one_tries_again(call: str) -> None:
    def main() -> None:
        nc = nats_zio.connect(URL, lazy=True)
        for _ in range(2):
            with pytest.raises(nats_zio.NoServersError):
                FIRST[call](nc)
        with ScriptedServer("a", 4222), nats_zio.connect(URL) as other:
            other.subscribe("echo", cb=lambda message: message.respond(b""))
            other.flush()
            FIRST[call](nc)
            nc.close()

    simulated(main)


def test_many_tasks_that_use_it_first_share_one_connection() -> None:
    def main() -> None:
        with ScriptedServer("a", 4222) as server, nats_zio.connect(URL, lazy=True) as nc:
            with zio.TaskGroup() as group:
                for number in range(50):
                    group.spawn(nc.publish, "x", b"%d" % number)
            nc.flush()
            assert len(server.all_clients) == 1
            assert len([command for command in server.clients[0].commands if command.verb == "PUB"]) == 50

    simulated(main)


def test_many_threads_that_use_it_first_share_one_connection(server: NatsServer) -> None:
    nc = nats_zio.connect(server.url, lazy=True)
    start = threading.Barrier(8)

    def use(number: int) -> None:
        start.wait()
        nc.publish("x", b"%d" % number)
        nc.flush()

    threads = [threading.Thread(target=use, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert nc.stats.out_msgs == 8
    assert nc.server_info.client_id
    nc.close()
    nc.runtime.close()


def test_it_lives_where_it_is_first_used(server: NatsServer) -> None:
    nc = nats_zio.connect(server.url, lazy=True)
    assert threading.active_count() == 1, "no runtime before it is needed"

    def main() -> None:
        with nc:
            nc.publish("x")
            assert nc.runtime is zio.lowlevel.runtime_here()

    zio.run(main)
    assert threading.active_count() == 1


@pytest.mark.parametrize("ending", ["close", "drain"])
def test_a_lazy_client_that_was_closed_before_use_is_closed(ending: str) -> None:
    def main() -> None:
        nc = nats_zio.connect(URL, lazy=True)
        getattr(nc, ending)()
        assert (nc.is_closed, nc.status) == (True, Status.CLOSED)
        for call in FIRST.values():
            with pytest.raises(nats_zio.ConnectionClosedError):
                call(nc)
        with pytest.raises(nats_zio.ConnectionClosedError):
            nc.set_servers(URL)

    simulated(main)


def test_servers_set_before_the_first_use_are_the_ones() -> None:
    def main() -> None:
        nc = nats_zio.connect("nats://elsewhere:4222", lazy=True)
        nc.set_servers(URL)
        with ScriptedServer("a", 4222):
            nc.flush()
            nc.close()

    simulated(main)


@pytest.fixture
def quiet_fork() -> Iterator[None]:
    """Newer Pythons warn of a fork beside threads, which is just what is tested here."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        yield


@pytest.mark.usefixtures("quiet_fork")
@pytest.mark.parametrize("used_before", [False, True])
def test_in_a_forked_child_it_begins_anew(server: NatsServer, peer_of_server: Peer, used_before: bool) -> None:
    got = peer_of_server.subscribe("from.*")
    nc = nats_zio.connect(server.url, lazy=True, name="lazy")
    if used_before:
        nc.publish("from.parent", b"0")
        nc.flush()
    pids = []
    for _ in range(3):
        pid = os.fork()
        if pid == 0:
            status = 1
            try:
                nc.publish("from.child", str(os.getpid()))
                sub = nc.subscribe(f"to.{os.getpid()}")
                nc.publish(f"to.{os.getpid()}", b"loop")
                assert sub.next().data == b"loop"
                nc.close()
                status = 0
            finally:
                os._exit(status)
        pids.append(pid)
    assert [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in pids] == [0, 0, 0]
    nc.publish("from.parent", b"1")
    nc.flush()
    nc.close()
    nc.runtime.close()
    heard = [got.get(timeout=30) for _ in range(4 + used_before)]
    assert sorted(message.data.decode() for message in heard if message.subject == "from.child") == sorted(
        map(str, pids)
    )


@pytest.fixture
def peer_of_server(server: NatsServer) -> Iterator[Peer]:
    with Peer(server.url) as connected:
        yield connected


def _child(nc: nats_zio.Client, queue: Any) -> None:
    queue.put([nc.request("who", timeout=30).data, os.getpid()])


@pytest.mark.usefixtures("quiet_fork")
def test_a_pool_of_forked_workers_uses_one_lazy_client_each(server: NatsServer, peer_of_server: Peer) -> None:
    peer_of_server.subscribe("who", reply=lambda message: b"peer")
    nc = nats_zio.connect(server.url, lazy=True)
    nc.flush()
    context = multiprocessing.get_context("fork")
    queue = context.SimpleQueue()
    workers = [context.Process(target=_child, args=(nc, queue)) for _ in range(4)]
    for worker in workers:
        worker.start()
    answers = [queue.get() for _ in workers]
    for worker in workers:
        worker.join(30)
        assert worker.exitcode == 0
    assert [answer for answer, _ in answers] == [b"peer"] * 4
    assert nc.request("who").data == b"peer"
    nc.close()
    nc.runtime.close()
    queue.close()


# on_event.


def test_on_event_is_called_with_every_event_in_order(run: Run, server: NatsServer) -> None:
    said: list[Any] = []

    def main() -> None:
        with nats_zio.connect(server.url, on_event=said.append, reconnect_wait=0.02) as nc:
            away(server.restart)
            eventually(lambda: nc.stats.reconnects)
            nc.flush()

    run(main)
    names = [type(event).__name__ for event in said if not isinstance(event, events.ReconnectFailed)]
    assert names == ["Connected", "Disconnected", "Reconnected", "Closed"]


def test_on_event_may_use_the_client_and_block(run: Run, server: NatsServer) -> None:
    done = threading.Event()

    def main() -> None:
        def on_event(event: events.Event) -> None:
            if isinstance(event, events.Connected):
                eventually(lambda: clients)
                clients[0].flush()
                clients[0].close()
                done.set()

        clients: list[nats_zio.Client] = []
        clients.append(nats_zio.connect(server.url, on_event=on_event))
        eventually(lambda: clients[0].is_closed)
        eventually(done.is_set)

    run(main)


def test_an_on_event_that_fails_is_logged_and_called_again(caplog: pytest.LogCaptureFixture) -> None:
    calls: list[str] = []

    def on_event(event: events.Event) -> None:
        calls.append(type(event).__name__)
        raise RuntimeError("a mistake of the user's")

    def main() -> None:
        with ScriptedServer("a", 4222), nats_zio.connect(URL, on_event=on_event) as nc:
            nc.flush()

    simulated(main)
    assert calls == ["Connected", "Closed"]
    assert caplog.text.count("on_event= failed") == 2


def test_an_on_event_that_does_not_return_does_not_hold_up_the_end(caplog: pytest.LogCaptureFixture) -> None:
    def main() -> None:
        with ScriptedServer("a", 4222):
            nc = nats_zio.connect(URL, on_event=lambda event: zio.sleep(1000))
            start = zio.now()
            nc.close()
            assert zio.now() - start < 3

    simulated(main)
    assert "has not returned" in caplog.text


def test_a_lazy_client_that_could_not_connect_is_kept_by_nobody(run: Run) -> None:
    def main() -> None:
        nc = nats_zio.connect("nats://127.0.0.1:1", lazy=True)
        with pytest.raises(nats_zio.NoServersError):
            nc.flush()
        core = weakref.ref(nc._core)
        del nc
        gc.collect()
        assert core() is None

    run(main)


def test_a_call_amid_the_first_call_of_a_lazy_client_is_refused_and_that_goes_on(
    server: NatsServer, background_runtime: zio.Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a signal handler, say, or a finalizer: it can neither be made nor wait for what it has interrupted."""
    outcomes: list[str] = []
    nc = nats_zio.connect(server.url, lazy=True)

    class Interrupted(UserFunctions):
        def __init__(self, runtime: zio.Runtime, *, in_threads: bool) -> None:
            super().__init__(runtime, in_threads=in_threads)
            with pytest.raises(zio.BlockingNotAllowed, match="just being opened"):
                nc.publish("x", b"2")
            outcomes.append("refused")

    with nats_zio.connect(server.url) as other, other.subscribe("x") as sub:
        other.flush()
        monkeypatch.setattr("nats_zio.core.UserFunctions", Interrupted)
        with nc:
            nc.publish("x", b"1")
        assert sub.next(timeout=5).data == b"1"
    assert outcomes == ["refused"]


# A message above the limit that no server has set yet.


@pytest.mark.parametrize("lazy", [False, True])
@pytest.mark.parametrize("limit", [1 << 20, 4 << 20])
def test_before_there_was_a_server_a_large_message_is_kept_and_the_server_decides(lazy: bool, limit: int) -> None:
    def main() -> None:
        said: list[events.Event] = []
        nc = nats_zio.connect(URL, lazy=lazy, retry_on_failed_connect=True, on_event=said.append)
        nc.publish("large", b"x" * (2 << 20))
        nc.publish("small", b"y")
        with ScriptedServer("a", 4222, max_payload=limit) as server:
            nc.flush(timeout=60)
            nc.close()
            published = [command.args[0] for command in server.all_clients[-1].commands if command.verb == "PUB"]
            assert len(server.all_clients) == 1, "no connection was lost by it"
        given_up = [event for event in said if isinstance(event, events.MessageGivenUp)]
        if limit > 2 << 20:
            assert (published, given_up) == (["large", "small"], [])
            return
        assert published == ["small"]
        assert [(event.subject, event.size) for event in given_up] == [("large", 2 << 20)]
        error = given_up[0].error
        assert isinstance(error, nats_zio.MaxPayloadError)
        assert (error.size, error.limit) == (2 << 20, limit)

    simulated(main)


@pytest.mark.parametrize("limit", [1 << 20, 4 << 20])
def test_a_lazy_client_measures_its_first_message_by_the_limit_of_the_server_that_it_then_has(limit: int) -> None:
    def main() -> None:
        with (
            ScriptedServer("a", 4222, max_payload=limit) as server,
            nats_zio.connect(URL, lazy=True) as nc,
        ):
            if limit < 2 << 20:
                with pytest.raises(nats_zio.MaxPayloadError, match=str(limit)):
                    nc.publish("large", b"x" * (2 << 20))
            else:
                nc.publish("large", b"x" * (2 << 20))
            nc.flush()
            published = [command.args[0] for command in server.all_clients[0].commands if command.verb == "PUB"]
            assert published == (["large"] if limit > 2 << 20 else [])

    simulated(main)
