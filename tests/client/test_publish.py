"""publish: what is sent is what the other side gets, and bad input is refused before anything is sent."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

import nats_zio
import zio
from nats_zio.testing import NatsServer
from tests.client.helpers import LIMIT, Peer

Run = Callable[..., Any]

SMALL = 100  # max_payload of the small server


@pytest.fixture(scope="module")
def small_server() -> Iterator[NatsServer]:
    with NatsServer(config=f"max_payload: {SMALL}\nmax_pending: 1mb\n") as server:
        yield server


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"bytes", b"bytes"),
        (b"", b""),
        (bytearray(b"array"), b"array"),
        (memoryview(b"view"), b"view"),
        (memoryview(b"a-b-c-")[::2], b"abc"),
        ("größe", "größe".encode()),
        (b"\r\nPUB x 1\r\n\x00", b"\r\nPUB x 1\r\n\x00"),
        (b"x" * 300_000, b"x" * 300_000),
    ],
    ids=["bytes", "empty", "bytearray", "memoryview", "strided", "str", "protocol", "large"],
)
def test_data_of_every_type_arrives_as_its_bytes(
    run: Run, nats_server: NatsServer, peer: Peer, subject: str, data: Any, expected: bytes
) -> None:
    received = peer.subscribe(subject)

    def main() -> None:
        with nats_zio.connect(nats_server.url) as nc:
            nc.publish(subject, data)

    run(main)
    message = received.get(timeout=LIMIT)
    assert message.data == expected
    assert message.headers is None


def test_data_left_out_is_empty(run: Run, nats_server: NatsServer, peer: Peer, subject: str) -> None:
    received = peer.subscribe(subject)

    def main() -> None:
        with nats_zio.connect(nats_server.url) as nc:
            nc.publish(subject)

    run(main)
    assert received.get(timeout=LIMIT).data == b""


def test_a_buffer_may_be_reused_at_once(run: Run, nats_server: NatsServer, peer: Peer, subject: str) -> None:
    received = peer.subscribe(subject)

    def main() -> None:
        with nats_zio.connect(nats_server.url) as nc:
            buffer = bytearray(b"one")
            nc.publish(subject, buffer)
            buffer[:] = b"two"
            nc.publish(subject, memoryview(buffer))
            buffer[:] = b"bad"

    run(main)
    assert [received.get(timeout=LIMIT).data for _ in range(2)] == [b"one", b"two"]


def test_headers_and_reply_arrive(run: Run, nats_server: NatsServer, peer: Peer, subject: str) -> None:
    received = peer.subscribe(subject)

    def main() -> None:
        with nats_zio.connect(nats_server.url) as nc:
            nc.publish(subject, b"x", reply="answer.here", headers={"Trace-Id": "42", "Empty": ""})

    run(main)
    message = received.get(timeout=LIMIT)
    assert (message.data, message.reply) == (b"x", "answer.here")
    assert message.headers == {"Trace-Id": "42", "Empty": ""}


def test_headers_with_several_values_and_their_order_survive(run: Run, nats_server: NatsServer, subject: str) -> None:
    def main() -> None:
        with nats_zio.connect(nats_server.url) as nc, nc.subscribe(subject) as sub:
            nc.publish(subject, headers=[("b", "1"), ("a", "2"), ("b", "3"), ("B", "ü")])
            message = sub.next()
            assert message.headers.pairs() == [("b", "1"), ("b", "3"), ("a", "2"), ("B", "ü")]
            assert message.status is None

    run(main)


def test_headers_without_entries_are_a_plain_message(run: Run, nats_server: NatsServer, subject: str) -> None:
    def main() -> None:
        with nats_zio.connect(nats_server.url) as nc, nc.subscribe(subject) as sub:
            nc.publish(subject, b"x", headers={})
            assert sub.next().raw_headers is None

    run(main)


def test_messages_arrive_in_the_order_published(run: Run, nats_server: NatsServer, peer: Peer, subject: str) -> None:
    received = peer.subscribe(subject)
    count = 5000

    def main() -> None:
        with nats_zio.connect(nats_server.url) as nc:
            for number in range(count):
                nc.publish(subject, b"%d" % number, headers={"n": "1"} if number % 3 == 0 else None)

    run(main)
    assert [int(received.get(timeout=LIMIT).data) for _ in range(count)] == list(range(count))


@pytest.mark.parametrize(
    "bad",
    ["", " ", "a b", "a\r\nb", ".a", "a.", "a..b", "a.*", ">", "a.>", "\ud800", "a" * 5000, None, b"a"],
    ids=lambda bad: repr(bad)[:12],
)
def test_a_bad_subject_is_refused_and_nothing_is_sent(run: Run, nats_server: NatsServer, bad: Any) -> None:
    def main() -> None:
        with nats_zio.connect(nats_server.url) as nc:
            events = nc.events()
            with pytest.raises(nats_zio.BadSubjectError) as caught:
                nc.publish(bad, b"x")
            assert isinstance(caught.value, ValueError)
            with pytest.raises(nats_zio.BadSubjectError):
                nc.publish("fine", b"x", reply=bad or "")
            with pytest.raises(nats_zio.BadSubjectError):
                nc.request(bad, b"x")
            nc.flush()
            assert nc.stats.out_msgs == 0
            assert len(events) == 0

    run(main)


@pytest.mark.parametrize("odd", ["wild.*", "all.>", "a..b", ".a", "a."])
def test_without_subject_validation_the_server_decides_what_a_subject_means(
    run: Run, nats_server: NatsServer, odd: str
) -> None:
    def main() -> None:
        with nats_zio.connect(nats_server.url, skip_subject_validation=True) as nc, nc.subscribe("back") as sub:
            nc.publish(odd, b"x")
            nc.publish("back", b"y", reply=odd)
            assert sub.next().reply == odd
            with pytest.raises(nats_zio.Error):  # no responders, or no reply; but not refused
                nc.request(odd, timeout=0.01)
            assert nc.stats.out_msgs == 3
            nc.flush()

    run(main)


@pytest.mark.parametrize("bad", ["", "a b", "a\tb", "a\r\nPUB b 0", "\0", "\ud800", "s" * 5000, None, b"a"])
def test_without_subject_validation_what_would_break_the_protocol_is_still_refused(
    run: Run, nats_server: NatsServer, bad: Any
) -> None:
    def main() -> None:
        with nats_zio.connect(nats_server.url, skip_subject_validation=True) as nc:
            for call in (nc.publish, nc.request, nc.subscribe, lambda name: nc.publish("a", reply=name or "")):
                with pytest.raises(nats_zio.BadSubjectError):
                    call(bad)
            nc.flush()
            assert nc.stats.out_msgs == 0
            subscribed = [entry.subject for entry in nc._core.subscriptions.values()]
            assert all(subject.endswith(".*") for subject in subscribed), "but for the inbox of all requests"

    run(main)


def test_subject_and_reply_together_must_fit_the_control_line(run: Run, nats_server: NatsServer) -> None:
    def main() -> None:
        with nats_zio.connect(nats_server.url) as nc:
            nc.publish("s" * 4000, b"x")
            with pytest.raises(nats_zio.BadSubjectError):
                nc.publish("s" * 2500, b"x", reply="r" * 2500)
            nc.flush()
            assert nc.stats.out_msgs == 1

    run(main)


@pytest.mark.parametrize(
    "bad",
    [
        {"a b": "x"},
        {"": "x"},
        {"a:": "x"},
        {"ä": "x"},
        {"a": "x\r\ny"},
        {"a": "x\n"},
        {"a": 1},
        {"a": b"x"},
        {1: "x"},
        ["ab", 3],
    ],
    ids=repr,
)
def test_bad_headers_are_refused_and_nothing_is_sent(run: Run, nats_server: NatsServer, bad: Any) -> None:
    def main() -> None:
        with nats_zio.connect(nats_server.url) as nc:
            for call in (nc.publish, nc.request):
                with pytest.raises(nats_zio.HeaderError) as caught:
                    call("a", b"x", headers=bad)
                assert isinstance(caught.value, ValueError)
            assert nc.stats.out_msgs == 0

    run(main)


@pytest.mark.parametrize("bad", [None, 1, ["a"], {"a": 1}])
def test_data_of_another_type_raises_type_error(run: Run, nats_server: NatsServer, bad: Any) -> None:
    def main() -> None:
        with nats_zio.connect(nats_server.url) as nc:
            with pytest.raises(TypeError):
                nc.publish("a", bad)
            with pytest.raises(TypeError):
                nc.request("a", bad)
            assert nc.stats.out_msgs == 0

    run(main)


def test_a_payload_above_the_limit_is_refused_and_the_link_stays_up(run: Run, small_server: NatsServer) -> None:
    def main() -> None:
        with nats_zio.connect(small_server.url) as nc, nc.subscribe("a") as sub:
            assert nc.max_payload == SMALL
            with pytest.raises(nats_zio.MaxPayloadError) as caught:
                nc.publish("a", b"x" * (SMALL + 1))
            assert (caught.value.size, caught.value.limit) == (SMALL + 1, SMALL)
            nc.publish("a", b"x" * SMALL)
            assert len(sub.next().data) == SMALL
            assert nc.stats.out_msgs == 1

    run(main)


def test_headers_count_towards_the_payload_limit(run: Run, small_server: NatsServer) -> None:
    headers = {"k": "v"}
    size = len(nats_zio.protocol.encode_headers(headers))

    def main() -> None:
        with nats_zio.connect(small_server.url) as nc, nc.subscribe("a") as sub:
            with pytest.raises(nats_zio.MaxPayloadError) as caught:
                nc.publish("a", b"x" * (SMALL - size + 1), headers=headers)
            assert caught.value.size == SMALL + 1
            nc.publish("a", b"x" * (SMALL - size), headers=headers)
            assert len(sub.next().data) == SMALL - size

    run(main)


def test_the_payload_limit_holds_after_other_messages_of_the_same_tick(run: Run, small_server: NatsServer) -> None:
    def main() -> None:
        with nats_zio.connect(small_server.url) as nc:
            for _ in range(20):
                nc.publish("a", b"x" * 10)
                with pytest.raises(nats_zio.MaxPayloadError):
                    nc.publish("a", b"x" * (SMALL + 1))
            nc.flush()
            assert nc.stats.out_msgs == 20

    run(main)


def test_a_request_above_the_limit_is_refused_and_forgotten(run: Run, small_server: NatsServer) -> None:
    def main() -> None:
        with nats_zio.connect(small_server.url) as nc:
            for _ in range(3):
                with pytest.raises(nats_zio.MaxPayloadError):
                    nc.request("a", b"x" * (SMALL + 1))
            assert len(nc._core.requests) == 0
            nc.flush()

    run(main)


def test_a_limit_raised_by_a_later_info_is_taken_over(run: Run) -> None:
    with NatsServer(config=f"max_payload: {SMALL}\n") as server:

        def main() -> None:
            with nats_zio.connect(server.url) as nc:
                server.reload(f"max_payload: {SMALL * 3}\n")
                nc.force_reconnect()
                nc.flush()
                assert nc.max_payload == SMALL * 3
                nc.publish("a", b"x" * SMALL * 2)
                nc.flush()

        run(main)


def test_publishes_of_one_tick_leave_in_one_send(nats_server: NatsServer, subject: str) -> None:
    sends: list[int] = []

    class Counting(zio.net.SystemNetwork):
        def connect(self, host: str, port: int) -> zio.net.Stream:
            stream = super().connect(host, port)
            send = stream.send_noted

            def send_noted(data: Any, noted: list[int], allowed: Any) -> Exception | None:
                sends.append(len(data))
                return send(data, noted, allowed)

            stream.send_noted = send_noted  # type: ignore[method-assign]
            return stream

    def main() -> None:
        with nats_zio.connect(nats_server.url) as nc, nc.subscribe(subject) as sub:
            counts = []
            for _ in range(20):  # a tick may end early, since it is bounded in time
                nc.flush()
                del sends[:]
                for _ in range(20):
                    nc.publish(subject, b"0123456789")
                sub.next_batch(20)
                counts.append(len(sends))
            assert 1 in counts
            assert sum(counts) < 20 * 20 / 2

    zio.Runtime(network=Counting()).run(main)


def test_a_cancelled_scope_publishes_nothing(run: Run, nats_server: NatsServer, subject: str) -> None:
    def main() -> None:
        with nats_zio.connect(nats_server.url) as nc:
            with zio.move_on_after(LIMIT) as scope:
                scope.cancel()
                nc.publish(subject, b"x")
            nc.flush()
            assert nc.stats.out_msgs == 0

    run(main)
