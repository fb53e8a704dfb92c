"""Core messaging with a server in a container."""

from __future__ import annotations

import os
from collections import Counter
from typing import Any

import pytest

import nats_zio
import zio
from integration.containers import IMAGE, NatsContainer
from tests.client.helpers import eventually


def test_publish_and_subscribe(run: Any, shared_server: NatsContainer, subject: str) -> None:
    def body() -> None:
        with nats_zio.connect(shared_server.url, name="pubsub") as nc:
            assert nc.is_connected
            assert nc.server_info.version == IMAGE.partition(":")[2]
            assert nc.connected_url == shared_server.url
            sub = nc.subscribe(subject)
            wild = nc.subscribe(f"{subject}.>")
            for number in range(1000):
                nc.publish(subject, b"%d" % number)
            nc.publish(f"{subject}.a.b", b"deep")
            assert [sub.next().data for _ in range(1000)] == [b"%d" % number for number in range(1000)]
            message = wild.next()
            assert (message.subject, message.data, message.reply) == (f"{subject}.a.b", b"deep", None)
            assert sub.delivered == 1000
            assert sub.dropped == 0
            sub.unsubscribe()
            nc.publish(subject, b"to nobody")
            nc.flush()
            assert sub.pending_msgs == 0
        assert nc.is_closed

    run(body)


def test_two_clients_and_handlers(run: Any, shared_server: NatsContainer, subject: str) -> None:
    def body() -> None:
        url = shared_server.url
        taken: list[bytes] = []
        with nats_zio.connect(url) as near, nats_zio.connect(url, no_echo=True) as far:
            near.subscribe(subject, cb=lambda message: taken.append(message.data))
            own = far.subscribe(subject)
            near.flush()
            for number in range(500):
                far.publish(subject, b"%d" % number)
            far.flush()
            eventually(lambda: len(taken) == 500, "the handler has them all")
            assert taken == [b"%d" % number for number in range(500)]
            assert own.pending_msgs == 0, "no_echo: not to oneself"
            near.publish(subject, b"from the other")
            assert own.next().data == b"from the other"

    run(body)


def test_queue_groups(run: Any, shared_server: NatsContainer, subject: str) -> None:
    def body() -> None:
        url = shared_server.url
        with nats_zio.connect(url) as a, nats_zio.connect(url) as b, nats_zio.connect(url) as publisher:
            members = [nc.subscribe(subject, queue="workers") for nc in (a, a, b, b)]
            others = [nc.subscribe(subject, queue="audit") for nc in (a, b)]
            alone = b.subscribe(subject)
            a.flush()
            b.flush()
            for number in range(2000):
                publisher.publish(subject, b"%d" % number)
            publisher.flush()
            a.flush()
            b.flush()
            everything = Counter(b"%d" % number for number in range(2000))
            for group in (members, others, [alone]):
                shares = [sub.pending_msgs for sub in group]
                assert Counter(sub.next().data for sub in group for _ in range(sub.pending_msgs)) == everything
                assert all(shares), f"a member got nothing: {shares}"

    run(body)


def test_headers_and_status(run: Any, shared_server: NatsContainer, subject: str) -> None:
    def body() -> None:
        with nats_zio.connect(shared_server.url) as nc:
            sub = nc.subscribe(subject)
            nc.publish(subject, b"body", headers={"Trace": "abc", "Many": ["one", "two"], "Empty": ""})
            nc.publish(subject, b"", headers={"Only": "headers"}, reply=f"{subject}.reply")
            first, second = sub.next(), sub.next()
            assert first.headers is not None
            assert first.headers.get("Trace") == "abc"
            assert first.headers.get_all("Many") == ["one", "two"]
            assert first.headers.get("Empty") == ""
            assert (second.data, second.reply) == (b"", f"{subject}.reply")
            with pytest.raises(nats_zio.HeaderError):
                nc.publish(subject, headers={"Bad": "two\r\nlines"})

    run(body)


def test_requests(run: Any, shared_server: NatsContainer, subject: str) -> None:
    def body() -> None:
        url = shared_server.url
        with nats_zio.connect(url) as service, nats_zio.connect(url) as nc:
            service.subscribe(f"{subject}.*", queue="service", cb=lambda message: message.respond(message.data[::-1]))
            service.flush()
            for number in range(300):
                assert nc.request(f"{subject}.x", b"<%d>" % number).data == (b"<%d>" % number)[::-1]
            with pytest.raises(nats_zio.NoRespondersError):
                nc.request(f"{subject}.nobody.here", b"", timeout=5)
            silent = service.subscribe(f"{subject}.silent.one")
            service.flush()
            with pytest.raises(nats_zio.TimeoutError):
                nc.request(f"{subject}.silent.one", b"?", timeout=0.2)
            late = silent.next()
            late.respond(b"too late")
            service.flush()
            assert nc.request(f"{subject}.x", b"still right").data == b"thgir llits"

    run(body)


def test_many_requests_at_once(shared_server: NatsContainer, subject: str) -> None:
    def body() -> None:
        url = shared_server.url
        with nats_zio.connect(url) as service, nats_zio.connect(url) as nc:
            service.subscribe(subject, cb=lambda message: message.respond(message.data))
            service.flush()

            def ask(number: int) -> None:
                for step in range(20):
                    token = b"%d.%d" % (number, step)
                    assert nc.request(subject, token).data == token

            with zio.TaskGroup() as group:
                for number in range(100):
                    group.spawn(ask, number)

    zio.run(body)


def test_big_payloads(run: Any, shared_server: NatsContainer, subject: str) -> None:
    def body() -> None:
        with nats_zio.connect(shared_server.url) as nc:
            assert nc.max_payload == 1 << 20
            sub = nc.subscribe(subject)
            payloads = [os.urandom(size) for size in (0, 1, 32 << 10, (64 << 10) + 1, (1 << 20) - 1, 1 << 20)] * 4
            for payload in payloads:
                nc.publish(subject, payload)
            for payload in payloads:
                assert sub.next().data == payload
            with pytest.raises(nats_zio.MaxPayloadError):
                nc.publish(subject, bytes((1 << 20) + 1))
            with pytest.raises(nats_zio.MaxPayloadError):  # headers count
                nc.publish(subject, bytes(1 << 20), headers={"A": "b"})
            assert nc.is_connected

    run(body)


def test_limits_end_a_subscription(run: Any, shared_server: NatsContainer, subject: str) -> None:
    def body() -> None:
        with nats_zio.connect(shared_server.url) as nc:
            limited = nc.subscribe(subject, max_msgs=10)
            later = nc.subscribe(subject)
            later.unsubscribe(after=5)
            for number in range(20):
                nc.publish(subject, b"%d" % number)
            nc.flush()
            assert [message.data for message in limited] == [b"%d" % number for number in range(10)]
            assert [message.data for message in later] == [b"%d" % number for number in range(5)]
            assert subscriptions_at(shared_server, nc) == 0

    run(body)


def subscriptions_at(server: NatsContainer, nc: Any) -> int:
    """How many subscriptions the server holds for this client."""
    page = server.monitor("/connz?subs=1")
    mine = [each for each in page["connections"] if each["cid"] == nc.server_info.client_id]
    assert len(mine) == 1
    return int(mine[0]["subscriptions"])


def test_slow_consumer_is_told(run: Any, shared_server: NatsContainer, subject: str) -> None:
    def body() -> None:
        with nats_zio.connect(shared_server.url) as nc:
            events = nc.events()
            slow = nc.subscribe(subject, pending_msgs=100)
            healthy = nc.subscribe(subject)
            for number in range(1000):
                nc.publish(subject, b"%d" % number)
            nc.flush()
            assert (slow.pending_msgs, slow.dropped) == (100, 900)
            assert healthy.pending_msgs == 1000
            event = events.recv(timeout=5)
            assert isinstance(event, nats_zio.events.SlowConsumer)
            assert event.sub is slow
            slow.unsubscribe()
            healthy.unsubscribe()

    run(body)


def test_drain_handles_all_that_came(run: Any, shared_server: NatsContainer, subject: str) -> None:
    def body() -> None:
        url = shared_server.url
        taken: list[bytes] = []

        def slowly(message: nats_zio.Message) -> None:
            zio.sleep(0.001)
            taken.append(message.data)
            message.respond(message.data)

        with nats_zio.connect(url) as publisher:
            nc = nats_zio.connect(url)
            nc.subscribe(subject, cb=slowly)
            nc.flush()
            answers = publisher.subscribe(f"{subject}.answers")
            for number in range(300):
                publisher.publish(subject, b"%d" % number, reply=f"{subject}.answers")
            publisher.flush()
            report = nc.drain()
            assert report.unread_msgs == 0
            assert not report.timed_out
            assert nc.is_closed
            assert taken == [b"%d" % number for number in range(300)]
            publisher.flush()
            assert [answers.next().data for _ in range(300)] == taken
            with pytest.raises(nats_zio.ConnectionClosedError):
                nc.publish(subject, b"after the end")

    run(body)


def test_traffic_counts_agree_with_the_server(shared_server: NatsContainer, subject: str) -> None:
    def body() -> None:
        with nats_zio.connect(shared_server.url) as nc:
            sub = nc.subscribe(subject)
            for _ in range(200):
                nc.publish(subject, b"12345")
            nc.flush()
            page = shared_server.monitor("/connz")
            (mine,) = [each for each in page["connections"] if each["cid"] == nc.server_info.client_id]
            assert (mine["lang"], mine["in_msgs"], mine["in_bytes"]) == ("python-zio", 200, 1000)
            assert (nc.stats.out_msgs, nc.stats.out_bytes, nc.stats.in_msgs) == (200, 1000, 200)
            assert sub.pending_msgs == 200

    zio.run(body)


def test_no_server_is_an_error_at_once(run: Any, start: Any) -> None:
    gone = start()
    gone.kill()

    def body() -> None:
        with pytest.raises(nats_zio.NoServersError) as caught:
            nats_zio.connect(gone.url)
        assert isinstance(caught.value.errors[gone.url], OSError)

    run(body)
