"""The same actions against a real server and the scripted one: clients see no difference, so it cannot drift away."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest

import nats_zio
import zio
from nats_zio import events
from nats_zio.testing import NatsServer, ScriptedServer
from nats_zio.testing.scripted import Permissions, User
from tests.client.helpers import away, eventually
from tests.secrecy import secret
from zio.testing import SimNetwork, run_virtual

Say = Callable[..., None]
PASSWORD = secret()
LIMIT = 20.0  # seconds, of whichever clock


class RealStage:
    """What an action may have done to a real server."""

    def __init__(self, server: NatsServer, scene: Scene) -> None:
        self._server = server
        self._scene = scene
        self.url = server.url

    def kill(self) -> None:
        away(self._server.kill)

    def stop(self) -> None:
        away(self._server.stop)

    def start(self) -> None:
        away(self._server.restart)

    def lame_duck(self) -> None:
        self._server.lame_duck()

    def take_rights_away(self) -> None:
        away(self._server.reload, self._scene.config_later)

    def be_too_fast(self, nc: nats_zio.Client) -> None:
        """Another client publishes more than the server keeps for one that does not read."""

        def flood() -> None:
            with socket.create_connection(("127.0.0.1", self._server.port)) as other:
                other.sendall(b'CONNECT {"verbose":false}\r\n')
                message = b"PUB flood 100000\r\n" + b"x" * 100_000 + b"\r\n"
                while not enough.is_set():
                    other.sendall(message)
                other.sendall(b"PING\r\n")
                other.settimeout(LIMIT)
                while b"PONG\r\n" not in other.recv(65536):
                    pass

        enough = threading.Event()
        flooding = threading.Thread(target=flood)
        flooding.start()
        until = time.monotonic() + LIMIT
        while not self._slow_consumers() and time.monotonic() < until:
            time.sleep(0.01)  # not zio.sleep: the loop itself is held up, so nothing is read
        enough.set()
        away(flooding.join)

    def _slow_consumers(self) -> int:
        return int(self._server.monitor("/varz")["slow_consumers"])


class ScriptedStage:
    """The same, done to the scripted server."""

    def __init__(self, server: ScriptedServer, scene: Scene) -> None:
        self._server = server
        self._scene = scene
        self.url = server.url

    def kill(self) -> None:
        self._server.kill()

    def stop(self) -> None:
        self._server.stop()

    def start(self) -> None:
        self._server.start()

    def lame_duck(self) -> None:
        self._server.lame_duck()

    def take_rights_away(self) -> None:
        self._server.reload(self._scene.users_later)

    def be_too_fast(self, nc: nats_zio.Client) -> None:
        self._server.max_pending = 100_000
        for _ in range(300):
            for sub in self._server.route("flood"):
                sub.client.deliver(sub, "flood", None, b"", b"x" * 100_000)


Stage = RealStage | ScriptedStage
Action = Callable[[nats_zio.Client, Say, Stage], None]


@dataclass
class Scene:
    """An action, and the servers on which it takes place."""

    action: Action
    config: str = ""
    scripted: dict[str, Any] = field(default_factory=dict)
    options: dict[str, Any] = field(default_factory=dict)
    config_later: str = ""
    users_later: dict[str, User] = field(default_factory=dict)
    jetstream: bool = False
    talks_to_itself: bool = False  # so that it makes no sense without echo


def tell_events(seen: events.Receiver, say: Say, until: type[events.Event]) -> None:
    """Say what comes, up to an event of this kind."""
    told: list[Any] = []
    with zio.timeout(LIMIT):
        while not told or not isinstance(told[-1], until):
            event = seen.recv()
            if until is events.ReconnectFailed or not isinstance(event, events.ReconnectFailed):
                told.append(event)  # how often it is tried in vain is a matter of time
    for event in told:
        error = getattr(event, "error", None)
        words = [text for text in (getattr(error, "text", None),) if text]
        say(type(event).__name__, kind(error), *words, getattr(event, "unflushed_msgs", None))


def kind(error: BaseException | None) -> str:
    """What it is; the ways in which a system says that a connection has ended are one."""
    return "ConnectionError" if isinstance(error, (ConnectionResetError, BrokenPipeError)) else type(error).__name__


def raw(nc: nats_zio.Client, frame: bytes) -> None:
    """Something that no client of ours would send."""
    nc._core.outbound.control(frame)


# Messages.


def core_messaging(nc: nats_zio.Client, say: Say, stage: Stage) -> None:
    plain, wild = nc.subscribe("a.b"), nc.subscribe("a.>")
    nc.publish("a.b", b"one")
    nc.publish("a.c", b"two", reply="r")
    nc.publish("a.b", b"three", headers={"Key": ["x", "y"]})
    nc.publish("a", b"to nobody")
    nc.flush()
    for sub in (plain, wild):
        while message := sub.try_next():
            say(sub.subject, message.subject, message.reply, message.data, message.raw_headers)
    plain.unsubscribe()
    nc.publish("a.b", b"four")
    nc.flush()
    say(plain.closed_reason, wild.pending_msgs, nc.stats)


def queue_groups(nc: nats_zio.Client, say: Say, stage: Stage) -> None:
    members = [nc.subscribe("work", queue="team") for _ in range(3)]
    alone = nc.subscribe("*")
    for number in range(60):
        nc.publish("work", b"%d" % number)
    nc.flush()
    say(sum(sub.pending_msgs for sub in members), alone.pending_msgs, all(sub.pending_msgs for sub in members))


def limits(nc: nats_zio.Client, say: Say, stage: Stage) -> None:
    first = nc.subscribe("n", max_msgs=3)
    second = nc.subscribe("n")
    for _ in range(5):
        nc.publish("n", b"")
    nc.flush()
    second.unsubscribe(after=7)
    for _ in range(5):
        nc.publish("n", b"")
    nc.flush()
    say(len(list(first)), first.closed_reason, len(list(second)), second.closed_reason, nc.stats.in_msgs)


def requests(nc: nats_zio.Client, say: Say, stage: Stage) -> None:
    nc.subscribe("echo", cb=lambda message: message.respond(message.data + b"!"))
    say(nc.request("echo", b"hello").data, nc.request("echo", b"again", headers={"a": "b"}).data)
    with pytest.raises(nats_zio.NoRespondersError) as caught:
        nc.request("nobody")
    say(str(caught.value), nc.stats.in_msgs)


def drain(nc: nats_zio.Client, say: Say, stage: Stage) -> None:
    sub = nc.subscribe("d")
    for _ in range(10):
        nc.publish("d", b"x")
    report = nc.drain()
    say(report.unread_msgs, len(list(sub)), sub.closed_reason, nc.status)


# What is refused.

USERS = f"""
authorization {{
  users = [
    {{user: limited, password: "{PASSWORD}", permissions: {{
      publish: {{deny: ["secret.>", "quo\\"ted"]}}, subscribe: {{deny: ["secret.>", "work.* hidden"]}}}}}}
  ]
}}
"""
LIMITED = {
    "limited": User(
        PASSWORD,
        Permissions(publish_deny=["secret.>", 'quo"ted'], subscribe_deny=["secret.>", "work.* hidden"]),
    )
}
LOGIN = {"user": "limited", "password": PASSWORD}


def permissions(nc: nats_zio.Client, say: Say, stage: Stage) -> None:
    seen = nc.events()
    denied = nc.subscribe("secret.plan")
    hidden = nc.subscribe("work.one", queue="hidden")
    allowed = nc.subscribe("work.one", queue="other")
    everything = nc.subscribe(">")
    nc.publish("secret.plan", b"x")
    nc.publish('quo"ted', b"x")
    nc.publish("open", b"x", reply="_R_.reserved.reply")
    nc.publish("work.one", b"x")
    with pytest.raises(nats_zio.PermissionDeniedError) as caught:
        nc.request("secret.service")
    nc.flush()
    say(str(caught.value), denied.closed_reason, hidden.closed_reason, allowed.pending_msgs, everything.pending_msgs)
    for _ in range(len(seen)):
        event = seen.recv()
        say(type(event).__name__, str(getattr(event, "error", "")), getattr(event, "subject", ""))


def wrong_credentials(nc: nats_zio.Client, say: Say, stage: Stage) -> None:
    for options in (
        {},
        {"user": "limited", "password": secret()},
        {"user": "nobody", "password": secret()},
        {"token": secret()},
    ):
        with pytest.raises(nats_zio.AuthError) as caught:
            nats_zio.connect(stage.url, **options)
        say(type(caught.value).__name__, str(caught.value))


def rights_taken_away(nc: nats_zio.Client, say: Say, stage: Stage) -> None:
    """The server reads a configuration that allows less: it names the subscription that has ended."""
    kept, ended = nc.subscribe("open.a"), nc.subscribe("open.b", queue="q")
    nc.flush()
    seen = nc.events()
    stage.take_rights_away()
    tell_events(seen, say, events.PermissionViolation)
    say(kept.closed_reason, ended.closed_reason, str(ended.error))
    nc.publish("open.a", b"still here")
    say(kept.next(timeout=LIMIT).data, nc.stats.reconnects)


def user_taken_away(nc: nats_zio.Client, say: Say, stage: Stage) -> None:
    """The server closes the connection, and does not take the client again; the client goes on trying."""
    seen = nc.events()
    stage.take_rights_away()
    tell_events(seen, say, events.ReconnectFailed)
    say(nc.is_closed)


def max_connections(nc: nats_zio.Client, say: Say, stage: Stage) -> None:
    with pytest.raises(nats_zio.NoServersError) as caught:
        nats_zio.connect(stage.url)
    (error,) = caught.value.errors.values()
    say(type(error).__name__, str(error))
    nc.flush()
    nc.close()
    eventually(lambda: can_connect(stage.url))


def can_connect(url: str) -> bool:
    """A server may take a moment to notice that one has gone."""
    try:
        nats_zio.connect(url).close()
    except nats_zio.NoServersError:
        return False
    return True


def max_subscriptions(nc: nats_zio.Client, say: Say, stage: Stage) -> None:
    seen = nc.events()
    subs = [nc.subscribe(f"a.{number}") for number in range(4)]
    nc.flush()
    say(*(sub.closed_reason for sub in subs))
    for _ in range(len(seen)):
        event: Any = seen.recv()
        say(type(event).__name__, str(event.error), subs.index(event.sub))
    nc.publish("a.0", b"x")
    say(subs[0].next(timeout=LIMIT).data, nc.stats.reconnects)


def invalid_subject(nc: nats_zio.Client, say: Say, stage: Stage) -> None:
    seen = nc.events()
    good, bad = nc.subscribe("a.b"), nc.subscribe("a..b")
    nc.flush()
    event: Any = seen.recv(timeout=LIMIT)
    say(type(event).__name__, str(event.error), event.sub is bad, bad.closed_reason, good.closed_reason)


def invalid_publish_subject(nc: nats_zio.Client, say: Say, stage: Stage) -> None:
    """Of interest to a pedantic client only; the message goes out all the same."""
    seen = nc.events()
    sub = nc.subscribe("a.>")
    raw(nc, b"pub a.* 1\r\nx\r\n")
    nc.flush()
    for _ in range(len(seen)):
        event: Any = seen.recv()
        say(type(event).__name__, str(event.error))
    say(sub.pending_msgs)


def max_payload(nc: nats_zio.Client, say: Say, stage: Stage) -> None:
    say(nc.max_payload)
    with pytest.raises(nats_zio.MaxPayloadError) as caught:
        nc.publish("a", b"x" * 1001)
    say(str(caught.value))
    nc.publish("a", b"x" * 1000)
    nc.flush()
    seen = nc.events()
    raw(nc, b"pub a 1001\r\n" + b"x" * 1001 + b"\r\n")
    tell_events(seen, say, events.Reconnected)


# How connections end.


def unknown_operation(nc: nats_zio.Client, say: Say, stage: Stage) -> None:
    seen = nc.events()
    raw(nc, b"NONSENSE\r\n")
    tell_events(seen, say, events.Reconnected)
    nc.flush()


def long_control_line(nc: nats_zio.Client, say: Say, stage: Stage) -> None:
    seen = nc.events()
    raw(nc, b"SUB " + b"a" * 5000 + b" 77\r\n")
    tell_events(seen, say, events.Reconnected)
    nc.flush()


def silent_end(nc: nats_zio.Client, say: Say, stage: Stage) -> None:
    """Arguments that do not parse: the server closes without a word."""
    seen = nc.events()
    raw(nc, b"SUB too many names here\r\n")
    tell_events(seen, say, events.Reconnected)
    nc.flush()


def too_slow(nc: nats_zio.Client, say: Say, stage: Stage) -> None:
    """More is pending for the client than the server keeps: it closes, without a word too."""
    sub = nc.subscribe("flood", pending_bytes=None)
    nc.flush()
    seen = nc.events()
    stage.be_too_fast(nc)
    tell_events(seen, say, events.Reconnected)
    nc.flush()
    say(sub.closed_reason)


def killed(nc: nats_zio.Client, say: Say, stage: Stage) -> None:
    sub = nc.subscribe("a")
    nc.flush()
    first = nc.server_info.server_id
    nc.publish("a", b"proved")
    nc.flush()
    seen = nc.events()
    stage.kill()
    lost = seen.recv(timeout=LIMIT)
    assert isinstance(lost, events.Disconnected)
    say(kind(lost.error), lost.unflushed_msgs, nc.is_connected)
    nc.publish("a", b"kept")
    eventually(lambda: len(seen) > 0)
    stage.start()
    tell_events(seen, say, events.Reconnected)
    nc.flush()
    say([message.data for message in sub.next_batch(10)], nc.server_info.server_id == first)


def stopped(nc: nats_zio.Client, say: Say, stage: Stage) -> None:
    sub = nc.subscribe("a", max_msgs=2)
    nc.publish("a", b"1")
    nc.flush()
    seen = nc.events()
    stage.stop()
    stage.start()
    tell_events(seen, say, events.Reconnected)
    for number in b"2", b"3":
        nc.publish("a", number)
    nc.flush()
    say([message.data for message in sub], sub.closed_reason)


def in_lame_duck_mode(nc: nats_zio.Client, say: Say, stage: Stage) -> None:
    """It says so, and serves on for the time being."""
    seen = nc.events()
    stage.lame_duck()
    tell_events(seen, say, events.LameDuck)
    say(nc.server_info.ldm, nc.is_connected)
    with nc.subscribe("a") as sub:
        nc.publish("a", b"x")
        say(sub.next(timeout=LIMIT).data)


def what_info_says(nc: nats_zio.Client, say: Say, stage: Stage) -> None:
    nc.flush()  # by now there was a second one
    info = nc.server_info
    say(info.jetstream, info.headers, info.proto, info.max_payload, info.auth_required, info.ldm)
    say(info.connect_info, info.remote_account, info.api_lvl, info.tls_required, info.tls_available, info.version)
    say(info.connect_urls, info.domain, info.cluster, sorted(info.extra))


SCENES = [
    Scene(core_messaging),
    Scene(queue_groups, talks_to_itself=True),
    Scene(limits, talks_to_itself=True),
    Scene(requests, talks_to_itself=True),
    Scene(drain),
    Scene(permissions, USERS, {"users": LIMITED}, LOGIN),
    Scene(wrong_credentials, USERS, {"users": LIMITED}, LOGIN),
    Scene(
        rights_taken_away,
        USERS,
        {"users": LIMITED},
        LOGIN,
        USERS.replace('subscribe: {deny: ["secret.>",', 'subscribe: {deny: ["secret.>", "open.b",'),
        {"limited": User(PASSWORD, Permissions(subscribe_deny=["secret.>", "open.b", "work.* hidden"]))},
        talks_to_itself=True,
    ),
    Scene(
        user_taken_away,
        USERS,
        {"users": LIMITED},
        LOGIN,
        USERS.replace("user: limited", "user: another"),
        {"another": LIMITED["limited"]},
    ),
    Scene(max_connections, "max_connections: 1", {"max_connections": 1}),
    Scene(max_subscriptions, "max_subscriptions: 2", {"max_subscriptions": 2}, talks_to_itself=True),
    Scene(invalid_subject, options={"skip_subject_validation": True}),
    Scene(invalid_publish_subject),
    Scene(max_payload, "max_payload: 1000", {"max_payload": 1000}),
    Scene(unknown_operation),
    Scene(long_control_line),
    Scene(silent_end),
    Scene(too_slow, "max_pending: 1000000\nmax_payload: 500000", {"max_payload": 500_000}, talks_to_itself=True),
    Scene(killed, talks_to_itself=True),
    Scene(stopped, talks_to_itself=True),
    Scene(in_lame_duck_mode, "lame_duck_duration: 30s\nlame_duck_grace_period: 10s", talks_to_itself=True),
    Scene(what_info_says),
    Scene(what_info_says, jetstream=True, scripted={"jetstream": True}),
]
VARIANTS: list[dict[str, Any]] = [{}, {"verbose": True, "pedantic": True}, {"no_echo": True}]


def observe(stage: Stage, scene: Scene, variant: dict[str, Any]) -> list[Any]:
    seen: list[Any] = []
    with nats_zio.connect(stage.url, reconnect_wait=0.01, request_timeout=LIMIT, **scene.options, **variant) as nc:
        scene.action(nc, lambda *what: seen.append(what), stage)
        seen.append(nc.server_info.headers)
        if scene.action in {killed, stopped, in_lame_duck_mode, user_taken_away}:
            nc.close()  # rather than wait for a server that may be gone
            stage.kill()
    return seen


@pytest.mark.parametrize(
    ("scene", "variant"),
    [
        pytest.param(
            scene, variant, id="-".join((scene.action.__name__, "jetstream" if scene.jetstream else "", *variant))
        )
        for variant in VARIANTS
        for scene in SCENES
        if not (variant.get("no_echo") and scene.talks_to_itself)
    ],
)
def test_clients_see_no_difference(scene: Scene, variant: dict[str, Any]) -> None:
    with NatsServer(jetstream=scene.jetstream, config=scene.config) as server:
        # Whether it is ready was asked by a connection of its own.
        eventually(lambda: server.monitor("/varz")["connections"] == 0)
        expected = zio.run(lambda: observe(RealStage(server, scene), scene, variant))
    assert len(expected) > 1

    def scripted(split: int | None = None) -> list[Any]:
        with ScriptedServer("127.0.0.1", **scene.scripted) as other:
            other.split = split
            return observe(ScriptedStage(other, scene), scene, variant)

    assert zio.run(scripted) == expected
    assert run_virtual(scripted, seed=1, network=SimNetwork(1, jitter=0.01, split_reads=0.3)) == expected
    assert run_virtual(lambda: scripted(1), seed=2, network=SimNetwork(2)) == expected
