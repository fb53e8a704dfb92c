"""What a program keeps, copies, pickles and hands on: messages, headers, events, reports, and what they hold."""

from __future__ import annotations

import copy
import dataclasses
import pickle
from collections.abc import Callable
from typing import Any

import pytest

import nats_zio
from nats_zio import ClosedReason, Headers, Message, MessageStatus, Status, SubscriptionSnapshot, events
from nats_zio.events import Receiver
from nats_zio.testing import NatsServer, ScriptedServer
from tests.client.scripted import connected, until

Run = Callable[..., object]
Way = Callable[[Any], Any]


def through_pickle(value: Any) -> Any:
    return pickle.loads(pickle.dumps(value))


def through_oldest_pickle(value: Any) -> Any:
    return pickle.loads(pickle.dumps(value, protocol=2))


@pytest.fixture(params=[copy.copy, copy.deepcopy, through_pickle, through_oldest_pickle])
def way(request: pytest.FixtureRequest) -> Way:
    """How a value is taken along."""
    return request.param  # type: ignore[no-any-return]


def parts(message: Message) -> tuple[object, ...]:
    return message.subject, message.data, message.reply, message.headers.pairs(), message.status


# Messages.


def test_a_received_message_is_taken_along_whole(way: Way) -> None:
    def test(_server: ScriptedServer, nc: nats_zio.Client) -> None:
        with nc.subscribe("a") as sub:
            for looked in (False, True):
                nc.publish("a", b"data", reply="r", headers={"k": ["1", "2"]})
                message = sub.next()
                if looked:
                    assert message.headers
                again = way(message)
                assert again is not message
                assert isinstance(again, Message)
                assert parts(again) == parts(message) == ("a", b"data", "r", [("k", "1"), ("k", "2")], None)
                assert repr(again) == repr(message)
                assert parts(way(again)) == parts(message)

    connected(test)


def test_a_made_message_is_taken_along_whole(way: Way) -> None:
    message = Message("a", "größe", reply="r", headers=[("k", "1"), ("k", "2")])
    assert parts(way(message)) == ("a", "größe".encode(), "r", [("k", "1"), ("k", "2")], None)
    assert parts(way(Message("a"))) == ("a", b"", None, [], None)


@pytest.mark.parametrize("data", [bytearray(b"ace"), memoryview(b"abcdef")[::2], "ace"])
def test_a_made_message_has_the_bytes_of_whatever_it_was_given(way: Way, data: Any) -> None:
    message = Message("a", data)
    assert (message.data, type(message.data)) == (b"ace", bytes)
    assert way(message).data == b"ace"


def test_headers_that_cannot_be_sent_can_be_taken_along(way: Way) -> None:
    """They are refused where they are sent, not where they are kept."""
    message = Message("a", headers={"two words": " x\r\n"})
    assert way(message).headers.pairs() == [("two words", " x\r\n")]


def test_changed_headers_are_taken_along_and_shared_with_no_copy(way: Way) -> None:
    def test(_server: ScriptedServer, nc: nats_zio.Client) -> None:
        with nc.subscribe("a") as sub:
            nc.publish("a", headers={"k": "1"})
            for message in (sub.next(), Message("a", headers={"k": "1"})):
                message.headers["k"] = "2"
                again = way(message)
                assert again.headers.pairs() == [("k", "2")]
                again.headers["k"] = "3"
                message.headers.add("k", "4")
                assert (message.headers.get_all("k"), again.headers.get_all("k")) == (["2", "4"], ["3"])

    connected(test)


def test_a_status_message_is_taken_along(way: Way) -> None:
    def test(server: ScriptedServer, nc: nats_zio.Client) -> None:
        with nc.subscribe("a") as sub:
            nc.flush()
            block = b"NATS/1.0 404 No Messages\r\n\r\n"
            server.clients[0].send(b"HMSG a 1 %d %d\r\n%b\r\n" % (len(block), len(block), block))
            message = sub.next()
            for again in (way(message), way(way(message))):
                assert again.status == MessageStatus(404, "No Messages")
                assert not again.headers

    connected(test)


def test_a_header_block_that_cannot_be_read_stays_so(way: Way) -> None:
    def test(server: ScriptedServer, nc: nats_zio.Client) -> None:
        with nc.subscribe("a") as sub:
            nc.flush()
            server.clients[0].send(b"HMSG a 1 5 7\r\nbad\r\nab\r\n")
            again = way(sub.next())
            assert again.data == b"ab"
            with pytest.raises(nats_zio.HeaderError):
                _ = again.headers

    connected(test)


def test_a_copied_message_cannot_respond_and_says_why(way: Way) -> None:
    def test(_server: ScriptedServer, nc: nats_zio.Client) -> None:
        with nc.subscribe("a") as sub:
            nc.publish("a", reply="r")
            for message in (way(sub.next()), Message("a", reply="r")):
                with pytest.raises(nats_zio.Error, match="'a' has no client to respond with"):
                    message.respond(b"x")
            assert nc.stats.out_msgs == 1

    connected(test)


@pytest.mark.parametrize(
    ("arguments", "error", "said"),
    [
        ({"subject": 5}, nats_zio.BadSubjectError, "subject must be a str, not int: 5"),
        ({"subject": None}, nats_zio.BadSubjectError, "subject must be a str, not NoneType: None"),
        ({"subject": b"a"}, nats_zio.BadSubjectError, "subject must be a str, not bytes: b'a'"),
        ({"subject": "a", "reply": 5}, nats_zio.BadSubjectError, "reply must be a str, not int: 5"),
        ({"subject": "a", "data": 5}, TypeError, "data must be bytes, bytearray, memoryview or str, not int"),
        ({"subject": "a", "data": None}, TypeError, "data must be bytes, bytearray, memoryview or str, not NoneType"),
        ({"subject": "a", "headers": {"k": 5}}, nats_zio.HeaderError, "value of header 'k' is 5: must be"),
        ({"subject": "a", "headers": {5: "v"}}, nats_zio.HeaderError, "header key 5 is not a str"),
        ({"subject": "a", "headers": 5}, nats_zio.HeaderError, "headers must be a mapping or pairs, not int: 5"),
        ({"subject": "a", "headers": ["ab"]}, nats_zio.HeaderError, "headers must be pairs of key and value, not 'ab'"),
        ({"subject": "a", "headers": "ab"}, nats_zio.HeaderError, "headers must be a mapping or pairs, not str: 'ab'"),
    ],
)
def test_a_message_of_wrong_arguments_is_not_made(arguments: Any, error: type[Exception], said: str) -> None:
    with pytest.raises(error) as caught:
        Message(**arguments)
    assert str(caught.value).startswith(said)


def test_made_and_received_messages_are_published_with_all_they_have(run: Run, nats_server: NatsServer) -> None:
    def main() -> None:
        with nats_zio.connect(nats_server.url) as nc, nc.subscribe("values.>") as sub:
            nc.publish_msg(Message("values.a", "ü", reply="values.r", headers={"k": ["1", "2"]}))
            received = sub.next()
            assert parts(received) == ("values.a", "ü".encode(), "values.r", [("k", "1"), ("k", "2")], None)
            for message in (received, copy.copy(received), through_pickle(received)):
                nc.publish_msg(message)
                assert parts(sub.next()) == parts(received)
            received.headers["k"] = "3"
            nc.publish_msg(received)
            assert sub.next().headers.pairs() == [("k", "3")]
            nc.publish_msg(Message("values.b"))
            assert parts(sub.next()) == ("values.b", b"", None, [], None)

    run(main)


@pytest.mark.parametrize(
    ("message", "error", "said"),
    [
        (Message("a.*"), nats_zio.BadSubjectError, "'a.*' has a wildcard"),
        (Message(""), nats_zio.BadSubjectError, "must not be empty"),
        (Message("a", reply="b c"), nats_zio.BadSubjectError, "'b c'"),
        (Message("a", headers={"k": "1\n"}), nats_zio.HeaderError, "CR or LF"),
        (Message("a", b"x" * (1 << 20) + b"y"), nats_zio.MaxPayloadError, "1048577 bytes"),
    ],
)
def test_a_message_that_cannot_be_sent_is_refused_when_it_is_published(
    message: Message, error: type[Exception], said: str
) -> None:
    def test(_server: ScriptedServer, nc: nats_zio.Client) -> None:
        with pytest.raises(error) as caught:
            nc.publish_msg(message)
        assert said in str(caught.value)
        assert nc.stats.out_msgs == 0

    connected(test)


def test_only_a_message_is_published_as_one(run: Run, nats_server: NatsServer) -> None:
    def main() -> None:
        with nats_zio.connect(nats_server.url) as nc:
            for value in ("a", None, b"x", Message):
                with pytest.raises(TypeError, match=r"publish_msg needs a nats_zio\.Message, not "):
                    nc.publish_msg(value)  # type: ignore[arg-type]

    run(main)


# Headers, counts, what the server says.


def test_headers_are_taken_along_and_not_shared(way: Way) -> None:
    headers = Headers({"k": ["1", "2"], "l": "3"})
    again = way(headers)
    assert again == headers
    again.add("k", "9")
    assert headers.get_all("k") == ["1", "2"]


def test_what_a_client_tells_of_itself_is_taken_along(way: Way) -> None:
    def test(_server: ScriptedServer, nc: nats_zio.Client) -> None:
        for value in (nc.stats, nc.server_info, nc.status, nc.servers, nc.options, MessageStatus(503, "x")):
            assert way(value) == value
        assert nc.server_info.extra["unknown"] == {"field": [1]}
        assert way(nc.server_info).extra["unknown"] == {"field": [1]}
        with pytest.raises(TypeError):
            way(nc.server_info).extra["unknown"] = 5
        assert way(Status.CONNECTED) is Status.CONNECTED
        assert way(ClosedReason.DRAINED) is ClosedReason.DRAINED

    connected(test, unknown={"field": [1]})


def test_a_client_is_not_taken_along(way: Way) -> None:
    """A copy that is forgotten would close the connection of the client that is used."""

    def test(_server: ScriptedServer, nc: nats_zio.Client) -> None:
        with pytest.raises(TypeError, match="cannot be copied or pickled"):
            way(nc)
        nc.flush()

    connected(test)


# Subscriptions, and what holds them.


def test_a_subscription_is_taken_along_as_what_it_was(way: Way) -> None:
    def test(_server: ScriptedServer, nc: nats_zio.Client) -> None:
        sub = nc.subscribe("a.*", queue="q", pending_msgs=2)
        for data in (b"1", b"22", b"333"):
            nc.publish("a.b", data)
        nc.flush()
        sub.next()
        snapshot = way(sub)
        expected = SubscriptionSnapshot("a.*", "q", sub.sid, None, 1, 2, 1, 1, 3)
        assert snapshot == expected
        for name in (item.name for item in dataclasses.fields(SubscriptionSnapshot)):
            assert getattr(snapshot, name) == getattr(sub, name)
        assert not snapshot.closed
        sub.unsubscribe()
        assert snapshot == expected, "it is what was"
        assert (way(sub).closed_reason, way(sub).closed) == (ClosedReason.UNSUBSCRIBED, True)
        assert way(snapshot) == snapshot

    connected(test)


def every_event(nc: nats_zio.Client) -> list[events.Event]:
    sub, message = nc.subscribe("a"), Message("a", b"x", headers={"k": "v"})
    error = nats_zio.PermissionDeniedError("no", "a")
    return [
        events.Connected("nats://a:1"),
        events.Disconnected(ConnectionResetError(104, "reset"), 1, 2),
        events.Disconnected(None, 0, 0),
        events.Reconnected("nats://a:1"),
        events.ReconnectFailed("nats://a:1", error),
        events.Closed(nats_zio.NoServersError("none", {"nats://a:1": OSError(111, "refused")})),
        events.ServersDiscovered(["nats://b:1"]),
        events.LameDuck("nats://a:1"),
        events.SlowConsumer(sub, 3),
        events.PermissionViolation(error, "a", sub),
        events.ServerError(nats_zio.ServerError("bad"), sub),
        events.MessageGivenUp("a", 5, nats_zio.MaxPayloadError(5, 4)),
        events.UnmatchedReply("a"),
        events.CallbackError(sub, message, ZeroDivisionError("x")),
        events.CallbackError(None, None, nats_zio.SubscriptionClosedError("a", ClosedReason.DRAINED, sub)),
    ]


def shown(value: object) -> str:
    """Errors and messages are not equal to their copies, and look the same; a subscription becomes a snapshot."""
    fields = {item.name: getattr(value, item.name) for item in dataclasses.fields(value)}  # type: ignore[arg-type]
    return repr({**fields, "sub": None}) + repr(getattr(fields.get("sub"), "sid", None))


def test_every_event_is_taken_along(way: Way) -> None:
    def test(_server: ScriptedServer, nc: nats_zio.Client) -> None:
        made: list[Any] = list(every_event(nc))
        # By name: a dataclass with slots is made twice.
        assert {type(event).__name__ for event in made} == {kind.__name__ for kind in events.Event.__subclasses__()}
        for event in made:
            again = way(event)
            assert type(again) is type(event)
            assert shown(again) == shown(event)
            if way is not copy.copy and getattr(event, "sub", None) is not None:
                assert isinstance(again.sub, SubscriptionSnapshot)
                assert again.sub.subject == "a"

    connected(test)


def test_an_event_of_a_slow_consumer_is_taken_along_as_it_comes(way: Way) -> None:
    def test(_server: ScriptedServer, nc: nats_zio.Client) -> None:
        seen: Receiver = nc.events()
        nc.subscribe("a", pending_msgs=1)
        nc.publish("a")
        nc.publish("a")
        nc.flush()
        event: Any = until(seen, events.SlowConsumer)[-1]
        again = way(event)
        assert (again.dropped, again.sub.subject, again.sub.dropped) == (1, "a", 1)

    connected(test)


def test_a_report_of_a_drain_is_taken_along(way: Way) -> None:
    def test(_server: ScriptedServer, nc: nats_zio.Client) -> None:
        subs = [nc.subscribe("a"), nc.subscribe("a"), nc.subscribe("b")]
        for subject in ("a", "b", "b"):
            nc.publish(subject)
        nc.flush()
        report = nc.drain()
        again = way(report)
        assert report.unread == {subs[0]: 1, subs[1]: 1, subs[2]: 2}
        assert [(sub.subject, count) for sub, count in again.unread.items()] == [("a", 1), ("a", 1), ("b", 2)]
        assert (again.unread_msgs, again.timed_out) == (4, False)

    connected(test)


def test_the_error_of_an_ended_subscription_says_which_one_it_was(way: Way) -> None:
    def test(_server: ScriptedServer, nc: nats_zio.Client) -> None:
        sub = nc.subscribe("a")
        sub.unsubscribe()
        with pytest.raises(nats_zio.SubscriptionClosedError) as caught:
            sub.next()
        again = way(caught.value)
        assert (str(again), again.subject, again.reason) == (str(caught.value), "a", ClosedReason.UNSUBSCRIBED)
        assert again.source.subject == "a"
        assert again.source.closed_reason is ClosedReason.UNSUBSCRIBED

    connected(test)
