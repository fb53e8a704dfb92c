"""Clients that nobody holds any more are drained and closed, unless one of their subscriptions is still of use."""

from __future__ import annotations

import gc
import warnings
from collections.abc import Iterator
from typing import Any

import pytest

import nats_zio
import zio
from nats_zio.events import Closed
from nats_zio.testing import NatsServer
from tests.client.conftest import Run
from tests.client.helpers import LIMIT, next_event
from tests.client.scripting import run_script


@pytest.fixture
def warned() -> Iterator[list[warnings.WarningMessage]]:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", ResourceWarning)
        yield caught


def texts(caught: list[warnings.WarningMessage]) -> list[str]:
    return [str(warning.message) for warning in caught if "Client" in str(warning.message)]


def test_a_forgotten_client_sends_what_it_has_accepted_and_closes_with_a_warning(
    run: Run, server: NatsServer, warned: list[warnings.WarningMessage]
) -> None:
    def main() -> None:
        with nats_zio.connect(server.url) as other, other.subscribe("x") as sub:
            other.flush()
            nc = nats_zio.connect(server.url, name="shop", user="ann", password="forgotten-secret")
            events = nc.events()
            nc.publish("x", b"1")
            del nc
            assert isinstance(next_event(events, Closed), Closed)
            assert sub.next(timeout=LIMIT).data == b"1"

    run(main)
    (text,) = texts(warned)
    assert text.startswith("<Client 'shop' connected nats://")
    assert text.endswith("was never closed, and nobody holds it any more")
    assert "forgotten-secret" not in text


def test_a_subscription_in_hand_keeps_its_client_and_both_end_together(
    run: Run, server: NatsServer, warned: list[warnings.WarningMessage]
) -> None:
    def main() -> None:
        nc = nats_zio.connect(server.url)
        events = nc.events()
        sub = nc.subscribe("x", queue="q")
        nc.flush()
        del nc
        with nats_zio.connect(server.url) as other:
            for number in range(3):
                other.publish("x", b"%d" % number)
                assert sub.next(timeout=LIMIT).data == b"%d" % number
        assert texts(warned) == []
        assert len(events) == 0
        del sub
        next_event(events, Closed)

    run(main)
    assert len(texts(warned)) == 1


def test_a_subscription_that_goes_with_its_client_does_not_keep_it(
    run: Run, server: NatsServer, warned: list[warnings.WarningMessage]
) -> None:
    kept: list[Any] = []

    def ask() -> bytes:
        nc = nats_zio.connect(server.url)
        kept.append(nc.events())
        sub = nc.subscribe("x")
        nc.publish("x", b"1")
        return sub.next(timeout=LIMIT).data

    def main() -> None:
        assert ask() == b"1"
        next_event(kept.pop(), Closed)

    run(main)
    assert len(texts(warned)) == 1


@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_a_loop_over_messages_keeps_the_client(run: Run, server: NatsServer) -> None:
    def main() -> None:
        with nats_zio.connect(server.url) as other:
            got = []
            subscribed = nats_zio.connect(server.url)
            sub = subscribed.subscribe("x", max_msgs=3)
            subscribed.flush()
            del subscribed
            messages = iter(sub)
            del sub
            for number in range(3):
                other.publish("x", b"%d" % number)
            for message in messages:
                gc.collect()
                got.append(message.data)
            assert got == [b"0", b"1", b"2"]

    run(main)


@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_replies_in_hand_keep_the_client(run: Run, server: NatsServer) -> None:
    def main() -> None:
        with nats_zio.connect(server.url) as other:

            def answer(message: nats_zio.Message) -> None:
                for _ in range(2):
                    message.respond(b"yes")

            other.subscribe("x", cb=answer)
            other.flush()
            replies = nats_zio.connect(server.url).request_many("x", max_msgs=2, timeout=LIMIT)
            gc.collect()
            assert [reply.data for reply in replies] == [b"yes", b"yes"]

    run(main)


def test_a_client_with_a_handler_goes_on_until_that_has_had_its_last_message(
    run: Run, server: NatsServer, warned: list[warnings.WarningMessage]
) -> None:
    def main() -> None:
        handled: zio.Channel[bytes] = zio.Channel(10)

        def serve() -> Any:
            nc = nats_zio.connect(server.url)
            nc.subscribe("x", cb=lambda message: handled.send(message.data), max_msgs=2)
            nc.flush()
            return nc.events()

        events = serve()
        gc.collect()
        with nats_zio.connect(server.url) as other:
            other.publish("x", b"1")
            assert handled.recv(timeout=LIMIT) == b"1"
            assert texts(warned) == []
            other.publish("x", b"2")
            assert handled.recv(timeout=LIMIT) == b"2"
        next_event(events, Closed)

    run(main)
    assert len(texts(warned)) == 1


@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_after_a_reconnect_a_subscription_in_hand_is_still_there(run: Run, server: NatsServer) -> None:
    def main() -> None:
        nc = nats_zio.connect(server.url, reconnect_wait=0.01)
        events = nc.events()
        sub = nc.subscribe("x")
        nc.flush()
        nc.force_reconnect()
        del nc
        next_event(events, nats_zio.events.Reconnected)
        with nats_zio.connect(server.url) as other:
            other.publish("x", b"1")
            assert sub.next(timeout=LIMIT).data == b"1"
        del sub
        next_event(events, Closed)

    run(main)


def test_there_is_no_warning_for_a_client_that_was_closed_not_opened_or_not_made(
    run: Run, server: NatsServer, warned: list[warnings.WarningMessage]
) -> None:
    def main() -> None:
        nats_zio.connect(server.url).close()
        nats_zio.connect(server.url).drain()
        nats_zio.connect(server.url, lazy=True)
        with pytest.raises(nats_zio.NoServersError):
            nats_zio.connect("nats://127.0.0.1:1")
        with pytest.raises(nats_zio.OptionError):
            nats_zio.connect(server.url, no_such_option=True)
        gc.collect()

    run(main)
    assert texts(warned) == []


def test_a_run_that_ends_with_its_client_open_is_not_warned(
    server: NatsServer, warned: list[warnings.WarningMessage]
) -> None:
    def main() -> None:
        nc = nats_zio.connect(server.url)
        nc.publish("x")

    zio.run(main)
    assert texts(warned) == []


def test_a_script_that_ends_with_its_client_open_is_not_warned(server: NatsServer) -> None:
    """What it published goes out all the same; that is what a script may rely on."""
    script = run_script("publish_and_end.py", server.url, "normal", 10, 10, env={"PYTHONWARNINGS": "always"})
    assert "never closed" not in script.stderr
