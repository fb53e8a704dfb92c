"""Options of `connect` and `subscribe` whose effect no other module shows. In simulated time."""

from __future__ import annotations

import base64
from collections.abc import Callable
from typing import Any

import nkeys
import pytest

import nats_zio
import zio
from nats_zio import events
from nats_zio.testing import ScriptedServer
from tests.client.helpers import next_event
from tests.secrecy import secret
from zio.testing import SimNetwork, run_virtual

URL = "nats://a:4222"


def with_server(main: Callable[[ScriptedServer], None]) -> None:
    def start() -> None:
        with ScriptedServer("a", 4222) as server:
            main(server)

    run_virtual(start, seed=1, network=SimNetwork(1))


def test_request_timeout_is_the_default_of_calls() -> None:
    def main(server: ScriptedServer) -> None:
        with nats_zio.connect(URL, request_timeout=77.0) as nc, nc.subscribe("silent") as sub:
            for call in (lambda: nc.request("silent"), nc.subscribe("nothing").next):
                start = zio.now()
                with pytest.raises(nats_zio.TimeoutError):
                    call()
                assert zio.now() - start == pytest.approx(77.0, rel=0.01)
            assert len(sub) == 1

    with_server(main)


def test_without_allow_reconnect_a_lost_connection_is_the_end() -> None:
    def main(server: ScriptedServer) -> None:
        nc = nats_zio.connect(URL, allow_reconnect=False)
        server.clients[0].close()
        zio.sleep(60)
        assert nc.is_closed

    with_server(main)


NONCE = "a-nonce"
PAIR = nkeys.from_seed(nkeys.encode_seed(bytes(range(32)), nkeys.PREFIX_BYTE_USER))
SEED = PAIR.seed.decode()
CREDENTIALS = f"""-----BEGIN NATS USER JWT-----
aa.bb.cc
------END NATS USER JWT------

-----BEGIN USER NKEY SEED-----
{SEED}
------END USER NKEY SEED------
""".encode()

WAYS: dict[str, tuple[dict[str, Any], set[str]]] = {
    "password": ({"user": "ann", "password": secret()}, {"user", "pass"}),
    "token": ({"token": secret()}, {"auth_token"}),
    "nkey_seed": ({"nkey_seed": SEED}, {"nkey", "sig"}),
    "credentials": ({"credentials": CREDENTIALS}, {"jwt", "sig"}),
    "auth": ({"auth": lambda info: nats_zio.Auth(token=secret())}, {"auth_token"}),
}


@pytest.mark.parametrize("way", WAYS)
def test_who_we_are_is_said_in_connect(way: str) -> None:
    options, fields = WAYS[way]

    def main(server: ScriptedServer) -> None:
        server.info(nonce=NONCE)
        with nats_zio.connect(URL, **options):
            said = server.clients[0].options
            assert {name for name in ("user", "pass", "auth_token", "nkey", "jwt", "sig") if said.get(name)} == fields
            if "sig" in fields:
                signature = base64.urlsafe_b64decode(said["sig"] + "==")
                assert PAIR.verify(NONCE.encode(), signature)

    with_server(main)


def test_tls_is_not_done_without() -> None:
    def main(server: ScriptedServer) -> None:
        with pytest.raises(nats_zio.TLSRequiredError):
            nats_zio.connect(URL, tls=True)
        assert not server.all_clients[0].received

    with_server(main)


def test_connect_timeout_is_the_time_that_a_silent_server_has() -> None:
    def main(server: ScriptedServer) -> None:
        server.greeting = b""
        start = zio.now()
        with pytest.raises(nats_zio.NoServersError, match=r"within 2\.5 s"):
            nats_zio.connect(URL, connect_timeout=2.5)
        assert zio.now() - start == pytest.approx(2.5)

    with_server(main)


@pytest.mark.parametrize("changed", ["ping_interval", "max_outstanding_pings"])
def test_so_many_pings_may_be_unanswered(changed: str) -> None:
    options: dict[str, Any] = {"ping_interval": 7.0} if changed == "ping_interval" else {"max_outstanding_pings": 5}
    interval, pings = options.get("ping_interval", 30.0), options.get("max_outstanding_pings", 2)

    def main(server: ScriptedServer) -> None:
        with nats_zio.connect(URL, **options) as nc:
            seen = nc.events()
            start = zio.now()
            server.pong = "drop"
            lost = next_event(seen, events.Disconnected, limit=1000)
            assert isinstance(lost.error, nats_zio.StaleConnectionError)
            # One interval in which something was heard, one without for each ping, one for the last answer.
            assert zio.now() - start == pytest.approx(interval * (pings + 2), rel=0.01)
            server.pong = "send"

    with_server(main)


def test_jitter_spreads_the_attempts() -> None:
    def main(server: ScriptedServer) -> None:
        nc = nats_zio.connect(URL, reconnect_wait=10.0, reconnect_max_wait=10.0, reconnect_jitter=0.5)
        zio.sleep(60)
        seen = nc.events()
        server.kill()
        waits = []
        next_event(seen, events.ReconnectFailed)
        for _ in range(50):
            last = zio.now()
            next_event(seen, events.ReconnectFailed, limit=60)
            waits.append(zio.now() - last)
        assert 10.0 <= min(waits) < 11.0
        assert 14.0 < max(waits) <= 15.1
        nc.close()

    with_server(main)


def test_verbose_has_the_server_confirm_each_command() -> None:
    def main(server: ScriptedServer) -> None:
        with nats_zio.connect(URL, verbose=True) as nc:
            sub = nc.subscribe("x")
            nc.publish("x", b"1")
            nc.flush()
            assert sub.next().data == b"1"
            assert server.clients[0].options["verbose"] is True

    with_server(main)


def test_pedantic_is_told_to_the_server() -> None:
    def main(server: ScriptedServer) -> None:
        with nats_zio.connect(URL, pedantic=True) as nc:
            nc.flush()
            assert server.clients[0].options["pedantic"] is True

    with_server(main)


LIMITS: dict[str, tuple[dict[str, Any], list[bytes], int]] = {
    "pending_msgs": ({"pending_msgs": 3}, [b"0", b"1", b"2"], 5),
    "pending_bytes": ({"pending_bytes": 2}, [b"0", b"1"], 6),
    "overflow": ({"overflow": "drop_old", "pending_msgs": 3}, [b"5", b"6", b"7"], 5),
}


def overflow(nc: nats_zio.Client, **limits: Any) -> tuple[list[bytes], int]:
    sub = nc.subscribe("x", **limits)
    for number in range(8):
        nc.publish("x", b"%d" % number)
    nc.flush()
    return [sub.next().data for _ in range(len(sub))], sub.dropped


@pytest.mark.parametrize("limit", LIMITS)
def test_the_clients_limits_hold_for_its_subscriptions(limit: str) -> None:
    options, kept, dropped = LIMITS[limit]

    def main(server: ScriptedServer) -> None:
        with nats_zio.connect(URL, **options) as nc:
            assert overflow(nc) == (kept, dropped)

    with_server(main)


@pytest.mark.parametrize("limit", LIMITS)
def test_a_subscription_has_limits_of_its_own(limit: str) -> None:
    options, kept, dropped = LIMITS[limit]

    def main(server: ScriptedServer) -> None:
        with nats_zio.connect(URL, pending_msgs=1000) as nc:
            assert overflow(nc, **options) == (kept, dropped)

    with_server(main)


def test_a_handler_gets_the_messages() -> None:
    def main(server: ScriptedServer) -> None:
        got: list[bytes] = []
        with nats_zio.connect(URL) as nc:
            nc.subscribe("x", cb=lambda message: got.append(message.data))
            nc.publish("x", b"1")
        assert got == [b"1"]

    with_server(main)


def test_max_msgs_ends_a_subscription() -> None:
    def main(server: ScriptedServer) -> None:
        with nats_zio.connect(URL) as nc:
            sub = nc.subscribe("x", max_msgs=2)
            for number in range(5):
                nc.publish("x", b"%d" % number)
            nc.flush()
            assert len(sub) == 2
            assert sub.closed_reason is nats_zio.ClosedReason.LIMIT_REACHED

    with_server(main)


def test_who_waits_for_room_goes_on_when_the_connection_breaks() -> None:
    """There is room again: in the buffer for the reconnect."""

    def main(server: ScriptedServer) -> None:
        nc = nats_zio.connect(URL, reconnect_wait=1000.0, reconnect_max_wait=1000.0, reconnect_buffer_size=64 << 20)
        zio.sleep(2000)
        server.clients[0].reading.clear()

        def fill() -> None:
            for _ in range(50):
                nc.publish("x", bytes(100_000))

        filling = zio.spawn(fill)
        zio.sleep(10)
        assert not filling.done
        server.kill()
        filling.join(timeout=10)
        assert not nc.is_connected
        server.start()
        nc.force_reconnect()
        nc.close()

    with_server(main)
