"""Sentences of docs/promises.md that no other test is about."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import pytest

import nats_zio
import zio
from nats_zio import ClosedReason, Status
from nats_zio.events import Disconnected, Reconnected
from nats_zio.testing import NatsServer, ScriptedServer
from nats_zio.testing.scripted import Command, ServedClient
from tests.client.helpers import LIMIT, away, next_event
from tests.client.scripted import connected, until
from zio.testing import wait_all_parked

Run = Callable[..., Any]


# Proof.


@pytest.mark.parametrize("silence", [0.05, 0.5])
def test_a_pong_that_the_client_asked_for_by_itself_proves_what_was_published(silence: float) -> None:
    def test(server: ScriptedServer, nc: nats_zio.Client) -> None:
        seen = nc.events()
        for _ in range(3):
            nc.publish("a", b"12345")
        zio.sleep(silence)  # a ping is sent after a tenth of a second in which messages were
        server.kill()
        lost = until(seen, Disconnected)[-1]
        assert isinstance(lost, Disconnected)
        assert (lost.unflushed_msgs, lost.unflushed_bytes) == ((3, 15) if silence < 0.1 else (0, 0))
        server.start()
        until(seen, Reconnected)

    connected(test, options={"ping_interval": 1.0})


# When the link breaks.


def test_a_handler_at_work_when_the_link_breaks_goes_on_and_what_it_publishes_is_kept(
    run: Run, server: NatsServer
) -> None:
    def main() -> None:
        working, go_on = zio.Event(), zio.Event()

        def handle(message: nats_zio.Message) -> None:
            working.set()
            assert go_on.wait(timeout=LIMIT)
            nc.publish("done", message.data)

        with nats_zio.connect(server.url, reconnect_wait=0.01) as nc:
            events = nc.events()
            nc.subscribe("work", cb=handle)
            done = nc.subscribe("done")
            nc.publish("work", b"1")
            assert working.wait(timeout=LIMIT)
            away(server.kill)
            next_event(events, Disconnected)
            go_on.set()
            away(server.start)
            assert done.next(timeout=LIMIT).data == b"1"

    run(main)


def test_a_link_that_breaks_ends_a_close_under_way_with_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    def test(server: ScriptedServer, nc: nats_zio.Client) -> None:
        server.pong = "drop"
        nc.publish("a", b"12345")
        begin = zio.now()
        closing = zio.spawn(nc.close)
        zio.sleep(0.5)
        server.kill()
        closing.join()
        assert zio.now() - begin == pytest.approx(0.5, abs=0.1)  # and not after the two seconds of a close
        assert nc.status is Status.CLOSED

    with caplog.at_level(logging.WARNING, "nats_zio"):
        connected(test)
    (record,) = caplog.records
    assert record.getMessage().startswith("closing a client with 1 messages (5 bytes) of which it is not proved")


# A request that is given up before it was sent.


def _time_out(nc: nats_zio.Client) -> None:
    with pytest.raises(nats_zio.TimeoutError, match="not connected"):
        nc.request("ask", b"123", timeout=0.05)


def _cut_off(nc: nats_zio.Client) -> None:
    with zio.move_on_after(0.05) as scope:
        nc.request("ask", b"123", timeout=None)
    assert scope.expired


def _leave(nc: nats_zio.Client) -> None:
    assert list(nc.request_many("ask", b"123", timeout=0.05)) == []


@pytest.mark.parametrize("give_up", [_time_out, _cut_off, _leave])
def test_a_request_given_up_while_there_is_no_connection_is_not_sent(
    give_up: Callable[[nats_zio.Client], None], run: Run, server: NatsServer
) -> None:
    def main() -> None:
        with nats_zio.connect(server.url, reconnect_wait=0.01, reconnect_max_wait=0.02) as nc:
            events = nc.events()
            everything = nc.subscribe(">")
            away(server.kill)
            next_event(events, Disconnected)
            nc.publish("before", b"1")
            give_up(nc)
            nc.publish("after", b"2")
            away(server.start)
            next_event(events, Reconnected)
            nc.flush()
            assert [message.subject for message in everything.next_batch(10)] == ["before", "after"]
            assert (nc.stats.out_msgs, nc.stats.out_bytes) == (2, 2)

    run(main)


def test_a_request_given_up_is_not_counted_as_lost() -> None:
    def test(server: ScriptedServer, nc: nats_zio.Client) -> None:
        seen = nc.events()
        server.kill()
        until(seen, Disconnected)
        nc.publish("a", b"1")
        _time_out(nc)
        server.start()
        until(seen, Reconnected)
        nc.publish("a", b"2")
        zio.sleep(0.1)
        server.kill()
        lost = until(seen, Disconnected)[-1]
        assert isinstance(lost, Disconnected)
        assert (lost.unflushed_msgs, lost.unflushed_bytes) == (2, 2)
        server.start()
        until(seen, Reconnected)

    connected(test)


def test_requests_given_up_make_room_in_the_reconnect_buffer() -> None:
    def publish_without_end(nc: nats_zio.Client) -> None:
        for _ in range(20_000):
            nc.publish("a", b"1")

    def test(server: ScriptedServer, nc: nats_zio.Client) -> None:
        seen = nc.events()
        server.kill()
        until(seen, Disconnected)
        for _ in range(4000):  # of more than 50 bytes each
            with zio.move_on_after(0.001):
                nc.request("ask", timeout=None)
        with pytest.raises(nats_zio.ReconnectBufferFullError):
            publish_without_end(nc)
        assert nc.stats.out_msgs == 8334  # of 12 bytes; the last one begins before 100,000
        server.start()
        until(seen, Reconnected)
        nc.flush()
        sent = [command.args[0] for command in server.clients[-1].commands if command.verb == "PUB"]
        assert sent == ["a"] * 8334

    connected(test, options={"reconnect_buffer_size": 100_000})


# Drain.


def test_while_draining_a_handler_may_publish_and_request(run: Run, server: NatsServer) -> None:
    def main() -> None:
        answers: list[bytes] = []
        working, go_on = zio.Event(), zio.Event()

        def handle(message: nats_zio.Message) -> None:
            working.set()
            assert go_on.wait(timeout=LIMIT)
            answers.append(nc.request("square", b"3").data)
            nc.publish("done", b"published")

        with nats_zio.connect(server.url) as other:
            done = other.subscribe("done")
            other.subscribe("square", cb=lambda request: request.respond(b"9"))
            other.flush()
            nc = nats_zio.connect(server.url)
            sub = nc.subscribe("work", cb=handle)
            nc.publish("work")
            assert working.wait(timeout=LIMIT)
            draining = zio.spawn(nc.drain)
            while sub.closed_reason is None:  # no event tells of it
                zio.sleep(0.001)
            assert nc.status is Status.DRAINING
            go_on.set()
            assert draining.join(timeout=LIMIT) == nats_zio.DrainReport({})
            assert answers == [b"9"]
            assert done.next(timeout=LIMIT).data == b"published"

    run(main)


def test_a_drain_of_a_subscription_that_is_cancelled_has_ended_it_all_the_same() -> None:
    def test(server: ScriptedServer, nc: nats_zio.Client) -> None:
        sub = nc.subscribe("a")
        nc.publish("a", b"1")
        nc.flush()
        server.pong = "drop"
        draining = zio.spawn(sub.drain)
        wait_all_parked()
        draining.cancel()
        with pytest.raises(zio.Cancelled):
            draining.join()
        assert sub.closed_reason is ClosedReason.DRAINED
        assert [message.data for message in sub] == [b"1"]
        server.pong = "send"
        nc.publish("a", b"2")
        nc.flush()
        assert not server.route("a")

    connected(test)


# Cancel.


def test_what_never_waits_is_done_in_a_cancelled_scope_too(run: Run, server: NatsServer) -> None:
    def main() -> None:
        with nats_zio.connect(server.url) as nc:
            old = nc.subscribe("old")
            with zio.CancelScope() as scope:
                scope.cancel()
                new = nc.subscribe("new")
                old.unsubscribe()
                events = nc.events()
                assert new.try_next() is None
                nc.force_reconnect()
            next_event(events, Reconnected)
            assert old.closed
            nc.publish("new", b"1")
            assert new.next().data == b"1"

    run(main)


# Limits.


def test_replies_have_no_limit() -> None:
    asked: list[tuple[ServedClient, str]] = []

    def hold(client: ServedClient, command: Command) -> bool:
        if command.verb == "PUB":
            asked.append((client, command.args[1]))
        return command.verb == "PUB"

    def test(server: ScriptedServer, nc: nats_zio.Client) -> None:
        server.on_command = hold
        asking = [zio.spawn(nc.request, "ask") for _ in range(100)]
        zio.sleep(1)
        assert len(asked) == 100
        client, inbox = asked[0]
        (mux,) = server.route(inbox)
        # All replies in one piece, so that they come at once.
        client.send(b"".join(f"MSG {reply} {mux.sid} 3\r\nyes\r\n".encode() for _, reply in asked))
        assert {task.join().data for task in asking} == {b"yes"}

    connected(test, options={"pending_msgs": 1, "pending_bytes": 1, "overflow": "error"})
