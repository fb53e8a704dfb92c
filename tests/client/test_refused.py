"""A subscription that the server refuses: which one an error is about, and what becomes of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

import nats_zio
import zio
from nats_zio import ClosedReason, events
from nats_zio.events import PermissionViolation
from nats_zio.testing import NatsServer, ScriptedServer
from nats_zio.testing.scripted import Command, ServedClient
from tests.client.helpers import LIMIT, away, next_event
from tests.secrecy import secret
from zio.testing import SimNetwork, run_virtual

Run = Callable[..., object]


def simulated(test: Callable[[ScriptedServer, nats_zio.Client], None], **server_options: Any) -> None:
    def main() -> None:
        with ScriptedServer("s1", 4222, **server_options) as server, nats_zio.connect(server.url) as nc:
            test(server, nc)

    run_virtual(main, network=SimNetwork(1), seed=1)


def _reasons(*subs: nats_zio.Subscription) -> list[ClosedReason | None]:
    return [sub.closed_reason for sub in subs]


# Too many.


def test_subscriptions_beyond_the_limit_end_with_the_servers_error(run: Run) -> None:
    def main() -> None:
        with nats_zio.connect(server.url) as nc:
            seen = nc.events()
            subs = [nc.subscribe(f"s.{number}") for number in range(5)]
            nc.flush()
            assert _reasons(*subs) == [None, None, None, ClosedReason.SERVER_ERROR, ClosedReason.SERVER_ERROR]
            for sub in subs[3:]:
                for take in (sub.next, lambda sub=sub: list(sub)):
                    with pytest.raises(nats_zio.ServerError, match="maximum subscriptions exceeded"):
                        take()
            told = [seen.recv() for _ in range(2)]
            assert [type(event) for event in told] == [events.ServerError] * 2
            assert {event.sub for event in told} == set(subs[3:])  # type: ignore[attr-defined]
            nc.publish("s.0", b"x")
            assert subs[0].next().data == b"x"
            assert len(seen) == 0

    with NatsServer(config="max_subscriptions: 3") as server:
        run(main)


def test_a_refused_subscription_is_not_made_again_on_the_next_connection(run: Run) -> None:
    def main() -> None:
        with nats_zio.connect(server.url) as nc:
            kept = nc.subscribe("kept")
            nc.subscribe("refused")
            nc.flush()
            seen = nc.events()
            nc.force_reconnect()
            next_event(seen, events.Reconnected)
            nc.publish("kept", b"x")
            assert kept.next().data == b"x"
            assert len(seen) == 0
            assert list(nc._core.subscriptions) == [kept.sid]

    with NatsServer(config="max_subscriptions: 1") as server:
        run(main)


def test_what_a_new_connection_does_not_allow_any_more_ends_from_the_newest_on() -> None:
    def test(server: ScriptedServer, nc: nats_zio.Client) -> None:
        subs = [nc.subscribe(f"s.{number}") for number in range(4)]
        nc.flush()
        server.max_subscriptions = 2
        nc.force_reconnect()
        nc.flush()
        assert _reasons(*subs) == [None, None, ClosedReason.SERVER_ERROR, ClosedReason.SERVER_ERROR]

    simulated(test)


def test_a_refused_inbox_fails_its_requests_with_the_servers_error(run: Run) -> None:
    def main() -> None:
        with nats_zio.connect(server.url) as nc:
            sub = nc.subscribe("a", cb=lambda message: message.respond(b"x"))
            for _ in range(2):
                with pytest.raises(nats_zio.ServerError, match="maximum subscriptions exceeded"):
                    nc.request("a", timeout=LIMIT)
                assert list(nc._core.subscriptions) == [sub.sid]
            sub.unsubscribe()
            with pytest.raises(nats_zio.NoRespondersError):
                nc.request("a", timeout=LIMIT)

    with NatsServer(config="max_subscriptions: 1") as server:
        run(main)


def test_an_error_is_about_a_subscription_sent_between_the_last_pong_and_the_next() -> None:
    """The server decides on one subscription after the other; each has a PING behind it before the first is decided."""

    def test(server: ScriptedServer, nc: nats_zio.Client) -> None:
        def refuse_odd_ones(client: ServedClient, command: Command) -> bool:
            if command.verb == "SUB" and int(command.args[0][2:]) % 2:
                client.error("maximum subscriptions exceeded")
                return True
            return False

        server.on_command = refuse_odd_ones
        subs, flushes = [], []
        with zio.TaskGroup() as group:
            for number in range(6):
                subs.append(nc.subscribe(f"s.{number}"))
                flushes.append(group.spawn(nc.flush))
                zio.pause()
                zio.pause()  # the first one may have been the flush's own, at the end of its time slice
        assert _reasons(*subs) == [None, ClosedReason.SERVER_ERROR] * 3

    simulated(test)


def test_of_those_in_question_one_that_has_had_messages_was_accepted() -> None:
    def test(server: ScriptedServer, nc: nats_zio.Client) -> None:
        early, late = nc.subscribe("a"), nc.subscribe("b")
        nc.publish("b", b"x")
        late.next()
        server.error("maximum subscriptions exceeded")
        zio.sleep(1)
        assert _reasons(early, late) == [ClosedReason.SERVER_ERROR, None]

    simulated(test)


def test_an_error_about_an_unsubscribed_one_ends_no_other() -> None:
    def test(server: ScriptedServer, nc: nats_zio.Client) -> None:
        server.max_subscriptions = 1
        accepted, refused = nc.subscribe("a"), nc.subscribe("b")
        refused.unsubscribe()
        nc.flush()
        assert _reasons(accepted, refused) == [None, ClosedReason.UNSUBSCRIBED]

    simulated(test)


def test_an_error_about_nothing_in_question_is_only_told() -> None:
    def test(server: ScriptedServer, nc: nats_zio.Client) -> None:
        sub = nc.subscribe("a")
        nc.flush()
        seen = nc.events()
        server.error("maximum subscriptions exceeded")
        event = seen.recv()
        assert isinstance(event, events.ServerError)
        assert event.sub is None
        assert sub.closed_reason is None

    simulated(test)


def test_after_a_hundred_subscriptions_the_server_is_asked_which_it_has_accepted() -> None:
    def test(server: ScriptedServer, nc: nats_zio.Client) -> None:
        for _ in range(250):
            nc.subscribe("a").unsubscribe()
        zio.sleep(1)
        verbs = [command.verb for command in server.clients[0].commands]
        assert verbs.count("PING") == 1 + 2
        server.error("maximum subscriptions exceeded")  # about one of the last fifty, all gone
        zio.sleep(1)
        sub = nc.subscribe("b")
        nc.flush()
        assert sub.closed_reason is None

    simulated(test)


# No subject.


def test_an_invalid_subject_ends_the_subscription_that_has_it(run: Run, nats_server: NatsServer) -> None:
    def main() -> None:
        with nats_zio.connect(nats_server.url, skip_subject_validation=True) as nc:
            subs = [nc.subscribe(name) for name in ("ok.1", "a..b", "ok.2", "a.>.b", "ok.3")]
            nc.flush()
            refused = ClosedReason.SERVER_ERROR
            assert _reasons(*subs) == [None, refused, None, refused, None]
            with pytest.raises(nats_zio.ServerError, match="Invalid Subject"):
                subs[1].next()
            with pytest.raises(nats_zio.ServerError, match="Invalid Subject"):
                nc.subscribe("b.", confirm=True)
            nc.publish("ok.3", b"x")
            assert subs[4].next().data == b"x"

    run(main)


# Not permitted.

PASSWORD = secret()

STRICT = f"""
max_sub_tokens: 3
authorization {{ users = [
    {{ user: ann, password: {PASSWORD}, permissions: {{ subscribe: {{ deny: ["no.>", "shared bad"] }} }} }}
] }}
"""


def _url(server: NatsServer) -> str:
    return server.url.replace("nats://", f"nats://ann:{PASSWORD}@")


def test_a_plain_subscription_is_told_from_one_with_a_queue(run: Run) -> None:
    def main() -> None:
        with nats_zio.connect(_url(server)) as nc:
            seen = nc.events()
            subs = [
                nc.subscribe("no.entry"),
                nc.subscribe("no.entry", queue="one"),
                nc.subscribe("shared"),
                nc.subscribe("shared", queue="bad"),
                nc.subscribe("shared", queue="good"),
            ]
            nc.flush()
            denied = ClosedReason.PERMISSION_DENIED
            assert _reasons(*subs) == [denied, denied, None, denied, None]
            assert [next_event(seen, PermissionViolation).sub for _ in range(3)] == [subs[0], subs[1], subs[3]]

    with NatsServer(config=STRICT) as server:
        run(main)


@pytest.mark.parametrize("name", ['quo"ted', "back\\slash", "größe", "mixed\"\\'ü", "\u202e", "😀"])
def test_a_name_that_the_server_escapes_is_recognised(run: Run, name: str) -> None:
    def main() -> None:
        with nats_zio.connect(_url(server)) as nc:
            denied, other = nc.subscribe(f"no.{name}", queue=name), nc.subscribe(f"no.{name}", queue="x")
            with pytest.raises(nats_zio.PermissionDeniedError) as caught:
                denied.next()
            assert caught.value.subject == f"no.{name}"
            nc.flush()
            assert other.closed_reason is ClosedReason.PERMISSION_DENIED

    with NatsServer(config=STRICT) as server:
        run(main)


def test_too_many_tokens_end_the_subscription_whatever_its_queue(run: Run) -> None:
    def main() -> None:
        with nats_zio.connect(_url(server)) as nc:
            fine, denied = nc.subscribe("a.b.c"), nc.subscribe("a.b.c.d", queue="q")
            with pytest.raises(nats_zio.PermissionDeniedError, match="too many tokens"):
                denied.next()
            assert fine.closed_reason is None

    with NatsServer(config=STRICT) as server:
        run(main)


def test_a_permission_taken_away_later_ends_those_it_concerns(run: Run) -> None:
    def main() -> None:
        with nats_zio.connect(_url(server)) as nc:
            first, second, other = nc.subscribe("later"), nc.subscribe("later"), nc.subscribe("other")
            nc.flush()
            away(server.reload, STRICT.replace('"no.>"', '"no.>", "later"'))
            for sub in (first, second):
                with pytest.raises(nats_zio.PermissionDeniedError):
                    sub.next(timeout=LIMIT)
            nc.flush()
            assert other.closed_reason is None

    with NatsServer(config=STRICT) as server:
        run(main)


def test_the_sid_in_an_error_says_which_one_it_is() -> None:
    def test(server: ScriptedServer, nc: nats_zio.Client) -> None:
        subs = [nc.subscribe("a") for _ in range(3)]
        nc.flush()
        server.error(f'Permissions Violation for Subscription to "a" (sid "{subs[1].sid}")')
        zio.sleep(1)
        assert _reasons(*subs) == [None, ClosedReason.PERMISSION_DENIED, None]

    simulated(test)
