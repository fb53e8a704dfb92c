"""The scripted server is true to the real one: the same bytes in, the same bytes out, and clients see no difference."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import nats_zio
import zio
from nats_zio import events
from nats_zio.testing import ScriptedServer
from nats_zio.testing.scripted import Permissions, User, covers, matches
from tests.protocol import record_traffic
from tests.protocol.reference import Got, read_from_server
from tests.secrecy import secret
from zio.testing import SimNetwork, run_virtual, wait_all_parked

RECORDINGS = Path(record_traffic.__file__).parent / "recordings"

PASSWORD = secret()


def limited(password: str) -> dict[str, User]:
    rights = Permissions(publish_deny=["secret.>", 'quo"ted'], subscribe_deny=["secret.>", "work.* hidden"])
    return {"limited": User(password, rights)}


# What differs from server to server, and from one start to the next.
VOLATILE = {"server_id", "git_commit", "go", "host", "port", "client_id", "client_ip", "xkey"}


def comparable(stream: bytes) -> Any:
    groups, found = read_from_server(stream)
    return groups, [
        (verb, {key: value for key, value in content.items() if key not in VOLATILE} if verb == "INFO" else content)
        for verb, content in found
    ]


def without_infos(stream: bytes) -> list[bytes]:
    return [line for line in stream.split(b"\n") if not line.startswith(b"INFO ")]


@pytest.mark.parametrize(
    ("name", "users"),
    [
        ("core", None),
        ("stream", None),
        ("large", None),
        ("permissions", limited("limited")),
        ("authorization", limited("limited")),
    ],
)
def test_it_answers_recorded_commands_as_the_real_server_did(
    name: str, users: dict[str, User] | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(record_traffic, "HERE", tmp_path)

    def main() -> None:
        with ScriptedServer(name="recorded", ping_interval=0.3, users=users) as server:
            zio.to_thread(getattr(record_traffic, f"record_{name}"), server.port)

    zio.run(main)
    real, ours = (RECORDINGS / f"{name}.bin").read_bytes(), (tmp_path / f"{name}.bin").read_bytes()
    assert comparable(ours) == comparable(real)
    assert without_infos(ours) == without_infos(real)


@pytest.mark.parametrize("split", [None, 1, 7, 1000])
@pytest.mark.parametrize("name", ["core", "stream", "large", "permissions", "jetstream"])
def test_recorded_traffic_replayed_reaches_the_client_as_it_was(name: str, split: int | None) -> None:
    recorded = (RECORDINGS / f"{name}.bin").read_bytes()
    recorded = recorded[recorded.index(b"PONG\r\n") + 6 :]  # behind the handshake
    if name == "large" and split == 1:
        recorded = recorded[:3000]
        recorded = recorded[: recorded.index(b"MSG big 1 100000")]
    groups, found = read_from_server(recorded)

    def main() -> None:
        with ScriptedServer() as server, nats_zio.connect(server.url, pending_bytes=None, no_randomize=True) as nc:
            seen = nc.events()
            subs = {sid: nc.subscribe(f"number.{sid}") for sid in range(1, 334)}
            nc.flush()
            server.split = split
            server.clients[0].send(recorded)
            zio.sleep(10)
            received = {
                sid: [Got(m.subject, m.reply, m.raw_headers, m.data) for m in sub.next_batch(10_000)]
                for sid, sub in subs.items()
                if sub.pending_msgs
            }
            assert received == groups
            errors = [str(content) for verb, content in found if verb == "-ERR"]
            told = [seen.recv() for _ in range(len(seen))]
            assert [str(getattr(event, "error", event)) for event in told] == errors
            pings = sum(verb == "PING" for verb, _ in found)
            assert sum(command.verb == "PONG" for command in server.clients[0].commands) == pings
            assert nc.stats.reconnects == 0

    run_virtual(main, network=SimNetwork(1), seed=1)


# What it can do besides.


def simulated(test: Callable[[ScriptedServer, nats_zio.Client], None], **server_options: Any) -> None:
    def main() -> None:
        with ScriptedServer("s1", 4222, **server_options) as server:
            with nats_zio.connect(server.url) as nc:
                test(server, nc)
            zio.sleep(1)
            assert not server.clients

    run_virtual(main, network=SimNetwork(1), seed=1)


def test_it_stops_and_starts_again_on_its_port() -> None:
    def test(server: ScriptedServer, nc: nats_zio.Client) -> None:
        seen = nc.events()
        for end in (server.stop, server.kill):
            end()
            assert isinstance(seen.recv(), events.Disconnected)
            zio.sleep(1)
            assert not nc.is_connected
            server.start()
            while not isinstance(seen.recv(), events.Reconnected):
                pass
        assert len(server.all_clients) == 3

    simulated(test)


def test_it_pings_a_silent_client_and_gives_up_one_that_does_not_answer() -> None:
    def test(server: ScriptedServer, nc: nats_zio.Client) -> None:
        seen = nc.events()
        zio.sleep(3600)
        assert server.clients[0].id == 1
        assert sum(command.verb == "PONG" for command in server.clients[0].commands) > 10
        zio.lowlevel.here().loop.runtime.network.connections[0].up.vanish()
        error = seen.recv()
        assert isinstance(error, events.ServerError)
        assert str(error.error) == "Stale Connection"

    simulated(test, ping_interval=10)


def test_hooks_see_commands_first_and_may_keep_them() -> None:
    def test(server: ScriptedServer, nc: nats_zio.Client) -> None:
        server.on_command = lambda client, command: command.verb == "PUB" and command.args == ["lost"]
        with nc.subscribe(">") as sub:
            nc.publish("lost", b"1")
            nc.publish("kept", b"2")
            nc.flush()
            assert [sub.next().subject for _ in range(sub.pending_msgs)] == ["kept"]
            assert [command.data for command in server.clients[0].commands if command.verb == "PUB"] == [b"1", b"2"]

    simulated(test)


def test_pongs_are_dropped_or_late_when_told_so() -> None:
    def test(server: ScriptedServer, nc: nats_zio.Client) -> None:
        server.pong = 2.0
        assert 2 < nc.rtt() < 2.1
        server.pong = "drop"
        with pytest.raises(nats_zio.TimeoutError):
            nc.flush(timeout=1)
        server.pong = "send"

    simulated(test)


def test_it_reads_nothing_while_told_so() -> None:
    def test(server: ScriptedServer, nc: nats_zio.Client) -> None:
        client = server.clients[0]
        client.reading.clear()
        nc.publish("a", b"x")  # the read under way still takes this
        zio.sleep(1)
        nc.publish("a", b"y")
        zio.sleep(1)
        assert client.received.count(b"PUB") == 1
        client.reading.set()
        nc.flush()
        assert client.received.count(b"PUB") == 2

    simulated(test)


def test_half_closed_it_still_reads() -> None:
    def test(server: ScriptedServer, nc: nats_zio.Client) -> None:
        seen = nc.events()
        server.clients[0].half_close()
        assert isinstance(seen.recv(), events.Disconnected)
        assert isinstance(seen.recv(), events.Reconnected)
        wait_all_parked()

    simulated(test)


def test_it_closes_after_any_byte() -> None:
    def test(server: ScriptedServer, nc: nats_zio.Client) -> None:
        seen = nc.events()
        sub = nc.subscribe("a")
        nc.flush()
        client = server.clients[0]
        down = client.stream.connection.down  # type: ignore[attr-defined]
        before = down.sent
        server.split = 3
        client.close_after(17)
        client.send(b"MSG a 1 1\r\nx\r\nMSG a 1 1\r\ny\r\n")
        lost = seen.recv()
        assert isinstance(lost, events.Disconnected)
        assert isinstance(lost.error, ConnectionResetError)
        assert down.sent == before + 17
        assert [message.data for message in sub.next_batch(10)] == [b"x"]

    simulated(test)


def test_it_closes_after_what_is_being_written_if_that_is_more() -> None:
    def test(server: ScriptedServer, nc: nats_zio.Client) -> None:
        seen = nc.events()
        client = server.clients[0]
        down = client.stream.connection.down  # type: ignore[attr-defined]
        down.allow(10)
        client.send(b"MSG a 1 1\r\nx\r\n")
        wait_all_parked()
        client.close_after(3)
        down.allow(None)
        assert isinstance(seen.recv(timeout=1), events.Disconnected)

    simulated(test)


def test_who_takes_nothing_for_too_long_is_cut_off() -> None:
    """As by the write deadline of a real server: without a word."""

    def test(server: ScriptedServer, nc: nats_zio.Client) -> None:
        seen = nc.events()
        zio.lowlevel.here().loop.runtime.network.connections[0].down.allow(10)
        start = zio.now()
        server.info()
        lost = seen.recv()
        assert isinstance(lost, events.Disconnected)
        assert isinstance(lost.error, ConnectionResetError)
        assert 3 <= zio.now() - start < 4

    simulated(test, write_deadline=3)


def test_started_again_it_is_another_server() -> None:
    def test(server: ScriptedServer, nc: nats_zio.Client) -> None:
        seen = nc.events()
        before = nc.server_info.server_id
        server.lame_duck()
        server.stop()
        server.start()
        while not isinstance(seen.recv(), events.Reconnected):
            pass
        assert nc.server_info.server_id != before
        assert not nc.server_info.ldm

    simulated(test)


def test_subscriptions_beyond_the_limit_are_refused() -> None:
    def test(server: ScriptedServer, nc: nats_zio.Client) -> None:
        seen = nc.events()
        for _ in range(3):
            nc.subscribe("a")
        nc.flush()
        assert str(seen.recv().error) == "maximum subscriptions exceeded"  # type: ignore[attr-defined]
        assert len(server.clients[0].subscriptions) == 2

    simulated(test, max_subscriptions=2)


@pytest.mark.parametrize(
    ("pattern", "subject", "result"),
    [
        ("a.b", "a.b", True),
        ("a.*", "a.b", True),
        ("a.*", "a.b.c", False),
        ("a.*", "a", False),
        ("a.>", "a.b.c", True),
        ("a.>", "a", False),
        (">", "a", True),
        ("*.b", "a.b", True),
        ("a*", "ab", False),
        ("a.b", "a", False),
    ],
)
def test_subjects_match_as_on_the_server(pattern: str, subject: str, result: bool) -> None:
    assert matches(pattern, subject) is result
    assert covers(pattern, subject) is result


def test_a_pattern_covers_wildcards_only_with_its_own() -> None:
    assert covers("a.*", "a.*")
    assert covers("a.>", "a.*")
    assert covers("a.>", "a.>")
    assert not covers("a.*", "a.>")
    assert not covers("a.b", "a.*")
