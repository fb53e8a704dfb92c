"""What a server forbids: told to whom it concerns, and the link stays up."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

import nats_zio
from nats_zio import ClosedReason
from nats_zio.events import PermissionViolation
from nats_zio.testing import NatsServer
from tests.client.helpers import LIMIT, next_event
from tests.secrecy import secret

Run = Callable[..., object]

PASSWORD = secret()

CONFIG = f"""
authorization {{
  users = [
    {{ user: ann, password: {PASSWORD}, permissions: {{
        publish: {{ deny: ["no.>"] }}
        subscribe: {{ deny: ["no.>", "shared bad"] }} }} }}
    {{ user: inboxless, password: {PASSWORD}, permissions: {{ subscribe: {{ deny: ["_INBOX.>"] }} }} }}
    {{ user: prefixed, password: {PASSWORD}, permissions: {{ subscribe: {{ allow: ["_INBOX.prefixed.>", "a"] }} }} }}
    {{ user: responder, password: {PASSWORD}, permissions: {{
        publish: {{ deny: [">"] }}, subscribe: [">"], allow_responses: {{ max: 1, expires: "1m" }} }} }}
  ]
}}
"""


@pytest.fixture(scope="module")
def strict() -> Iterator[NatsServer]:
    with NatsServer(config=CONFIG) as server:
        yield server


def _url(server: NatsServer, user: str = "ann") -> str:
    return server.url.replace("nats://", f"nats://{user}:{PASSWORD}@")


def test_a_denied_publish_is_an_event_and_the_link_stays_up(run: Run, strict: NatsServer) -> None:
    def main() -> None:
        with nats_zio.connect(_url(strict)) as nc, nc.subscribe("a") as sub:
            events = nc.events()
            nc.publish("no.entry", b"x")
            nc.publish("a", b"y")
            event = events.recv(timeout=LIMIT)
            assert isinstance(event, PermissionViolation)
            assert (event.subject, event.sub) == ("no.entry", None)
            assert isinstance(event.error, nats_zio.PermissionDeniedError)
            assert event.error.subject == "no.entry"
            assert sub.next().data == b"y"
            assert len(events) == 0

    run(main)


def test_a_denied_subscription_ends_with_permission_denied_error(run: Run, strict: NatsServer) -> None:
    def main() -> None:
        with nats_zio.connect(_url(strict)) as nc:
            events = nc.events()
            allowed, denied = nc.subscribe("a"), nc.subscribe("no.entry")
            with pytest.raises(nats_zio.PermissionDeniedError) as caught:
                denied.next()
            assert caught.value.subject == "no.entry"
            assert denied.closed_reason is ClosedReason.PERMISSION_DENIED
            with pytest.raises(nats_zio.PermissionDeniedError):
                list(denied)
            event = next_event(events, PermissionViolation)
            assert event.sub is denied
            nc.publish("a", b"y")
            assert allowed.next().data == b"y"
            assert allowed.closed_reason is None
            assert len(events) == 0

    run(main)


def test_of_two_subscriptions_the_denied_one_ends(run: Run, strict: NatsServer) -> None:
    def main() -> None:
        with nats_zio.connect(_url(strict)) as nc:
            plain, bad = nc.subscribe("shared"), nc.subscribe("shared", queue="bad")
            good = nc.subscribe("shared", queue="good")
            nc.flush()
            assert bad.closed_reason is ClosedReason.PERMISSION_DENIED
            assert plain.closed_reason is None
            assert good.closed_reason is None

    run(main)


def test_a_denied_subscription_is_not_tried_again_after_a_reconnect(run: Run, strict: NatsServer) -> None:
    def main() -> None:
        with nats_zio.connect(_url(strict)) as nc:
            nc.subscribe("no.entry")
            nc.flush()
            events = nc.events()
            nc.force_reconnect()
            next_event(events, nats_zio.events.Reconnected)
            nc.flush()
            assert len(events) == 0

    run(main)


def test_a_denied_request_raises_at_once(run: Run, strict: NatsServer) -> None:
    def main() -> None:
        with nats_zio.connect(_url(strict)) as nc:
            with pytest.raises(nats_zio.PermissionDeniedError):
                nc.request("no.entry", timeout=LIMIT)
            assert len(nc._core.requests) == 0

    run(main)


def test_a_client_that_may_not_have_an_inbox_learns_it_at_every_request(run: Run, strict: NatsServer) -> None:
    def main() -> None:
        with nats_zio.connect(_url(strict, "inboxless")) as nc:
            nc.subscribe("a", cb=lambda message: message.respond(b"x"))
            for _ in range(2):
                with pytest.raises(nats_zio.PermissionDeniedError, match="_INBOX"):
                    nc.request("a", timeout=LIMIT)
                assert len(nc._core.requests) == 0
            nc.flush()

    run(main)


def test_an_inbox_prefix_fits_the_permissions(run: Run, strict: NatsServer) -> None:
    def main() -> None:
        with nats_zio.connect(_url(strict, "prefixed"), inbox_prefix="_INBOX.prefixed") as nc:
            nc.subscribe("a", cb=lambda message: message.respond(b"x"))
            assert nc.request("a").data == b"x"

    run(main)


def test_a_denied_response_is_an_event(run: Run, strict: NatsServer) -> None:
    def main() -> None:
        with (
            nats_zio.connect(_url(strict, "responder")) as nc,
            nats_zio.connect(_url(strict)) as asker,
        ):
            events = nc.events()

            def answer_twice(message: nats_zio.Message) -> None:
                message.respond(b"1")
                message.respond(b"2")

            nc.subscribe("a", cb=answer_twice)
            nc.flush()
            assert asker.request("a").data == b"1"
            event = next_event(events, PermissionViolation)
            assert event.subject is not None
            assert event.subject.startswith("_INBOX.")
            assert asker.request("a").data == b"1"

    run(main)
