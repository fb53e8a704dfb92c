"""-ERR, text by text: whom the client tells, and that only the end of the stream ends a connection."""

from __future__ import annotations

from typing import Any

import pytest

import nats_zio
import zio
from nats_zio import ClosedReason, Status, events
from nats_zio.testing import ScriptedServer
from nats_zio.testing.scripted import Command, ServedClient
from tests.client.catalogue import CATALOGUE, Row
from tests.client.scripted import SOON, connected, kinds, rest, scripted, until

pytestmark = pytest.mark.simulated

FOR_EVER = 3600.0  # seconds

every_row = pytest.mark.parametrize("row", CATALOGUE, ids=str)


def is_told(event: Any, row: Row) -> None:
    if row.subject is not None:
        assert (event.subject, event.sub, event.error.subject) == (row.subject, None, row.subject)
    assert event.error.text == row.text
    assert (event.__class__, event.error.__class__) == (row.event, row.error)


def serves(nc: nats_zio.Client) -> nats_zio.Subscription:
    """Something whose working shows that all is well; `works` looks."""
    nc.subscribe("echo", cb=lambda message: message.respond(message.data))
    sub = nc.subscribe("a.*")
    nc.flush()
    return sub


def works(nc: nats_zio.Client, sub: nats_zio.Subscription) -> None:
    assert nc.status is Status.CONNECTED
    assert nc.request("echo", b"hello").data == b"hello"
    nc.publish("a.b", b"1")
    nc.flush()
    assert [message.data for message in sub.next_batch(10)] == [b"1"]


@every_row
def test_without_an_end_of_the_stream_the_connection_stays(row: Row) -> None:
    def test(server: ScriptedServer, nc: nats_zio.Client) -> None:
        sub = serves(nc)
        seen = nc.events()
        server.error(row.text)
        is_told(seen.recv(timeout=SOON), row)
        works(nc, sub)
        zio.sleep(FOR_EVER)
        works(nc, sub)
        assert rest(seen) == []
        assert len(server.all_clients) == 1

    connected(test)


@every_row
def test_with_the_end_of_the_stream_the_client_connects_again(row: Row) -> None:
    def test(server: ScriptedServer, nc: nats_zio.Client) -> None:
        sub = serves(nc)
        seen = nc.events()
        server.error(row.text, close=True)
        told, lost, restored = until(seen, events.Reconnected)
        is_told(told, row)
        assert isinstance(lost, events.Disconnected)
        assert isinstance(restored, events.Reconnected)
        if row.ends:  # then it says why
            assert isinstance(lost.error, row.error)
            assert lost.error.text == row.text
        else:
            assert isinstance(lost.error, ConnectionResetError)
        works(nc, sub)
        assert rest(seen) == []

    connected(test)


@every_row
def test_no_error_however_often_it_comes_ends_the_client(row: Row) -> None:
    def test(server: ScriptedServer, nc: nats_zio.Client) -> None:
        sub = serves(nc)
        seen = nc.events()
        for _ in range(20):
            server.error(row.text, close=True)
            until(seen, events.Reconnected)
            nc.flush()  # else it may be an answer to what was subscribed again
        works(nc, sub)
        assert nc.stats.reconnects == 20

    connected(test)


def refuse(row: Row, times: int) -> Any:
    """A hook of the server: answer the next CONNECTs with the error and the end."""
    left = times

    def answer(client: ServedClient, command: Command) -> bool:
        nonlocal left
        if command.verb != "CONNECT" or left == 0:
            return False
        left -= 1
        client.error(row.text, close=True)
        return True

    return answer


@every_row
def test_in_answer_to_the_first_connect_it_is_raised(row: Row) -> None:
    def test(server: ScriptedServer) -> None:
        server.on_command = refuse(row, 1)
        with pytest.raises(nats_zio.Error) as caught:
            nats_zio.connect(server.url)
        if row.error is nats_zio.AuthError:
            error: Any = caught.value
        else:
            assert type(caught.value) is nats_zio.NoServersError
            error = caught.value.errors[server.url]
        assert isinstance(error, nats_zio.ServerError)
        assert error.text == row.text
        assert row.text in str(caught.value)

    scripted(test)


@every_row
def test_in_answer_to_a_later_connect_it_is_told_and_the_client_tries_on(row: Row) -> None:
    def test(server: ScriptedServer, nc: nats_zio.Client) -> None:
        sub = serves(nc)
        seen = nc.events()
        server.on_command = refuse(row, 5)
        server.clients[0].close()
        told = until(seen, events.Reconnected)
        assert kinds(told) == [events.Disconnected, *[events.ReconnectFailed] * 5, events.Reconnected]
        for event in told[1:-1]:
            assert isinstance(event, events.ReconnectFailed)
            assert isinstance(event.error, nats_zio.ServerError)
            assert event.error.text == row.text
        works(nc, sub)

    connected(test, options={"abort_on_auth_error": False})


@pytest.mark.parametrize("row", [row for row in CATALOGUE if not row.ends], ids=str)
def test_an_error_during_the_handshake_that_ends_nothing_is_told_after_it(row: Row) -> None:
    def test(server: ScriptedServer, nc: nats_zio.Client) -> None:
        sub = serves(nc)
        seen = nc.events()
        server.on_command = lambda client, command: client.error(row.text) if command.verb == "CONNECT" else None
        server.clients[0].close()
        told = until(seen, events.Reconnected)
        zio.sleep(SOON)
        told += rest(seen)
        (said,) = (event for event in told if isinstance(event, row.event))
        is_told(said, row)
        assert sorted(map(str, kinds(told))) == sorted(map(str, (events.Disconnected, row.event, events.Reconnected)))
        works(nc, sub)

    connected(test)


@pytest.mark.parametrize(
    "line",
    [
        b"-ERR 'unquoted\r\n",
        b"-ERR no quotes at all\r\n",
        b"-ERR\r\n",
        b"-err 'Stale Connection'\r\n",
        b"-ERR\t'Stale Connection'\n",
        b"-ERR '\xff\xfe\x00'\r\n",
    ],
)
def test_an_error_that_is_oddly_written_ends_nothing(line: bytes) -> None:
    def test(server: ScriptedServer, nc: nats_zio.Client) -> None:
        sub = serves(nc)
        seen = nc.events()
        server.send(line)
        assert isinstance(seen.recv(timeout=SOON), events.ServerError)
        works(nc, sub)
        assert rest(seen) == []

    connected(test)


# Whom it is about.


def waiting_requests(nc: nats_zio.Client, *subjects: str) -> list[zio.Task[Any]]:
    tasks = [zio.spawn(nc.request, subject, b"?") for subject in subjects]
    for task in tasks:
        zio.spawn(outcome, task)
    zio.sleep(0.1)
    assert not any(task.done for task in tasks)
    return tasks


def outcome(task: zio.Task[Any]) -> BaseException | None:
    try:
        task.join(timeout=SOON)
    except nats_zio.Error as exc:
        return exc
    return None


@pytest.mark.parametrize(
    "subject", ["mute.b", 'mute.quo"te', "mute.back\\slash", "mute.ünïcode", "mute.zero\u200bwidth"]
)
def test_a_denied_publish_fails_the_request_that_waits(subject: str) -> None:
    def test(server: ScriptedServer, nc: nats_zio.Client) -> None:
        nc.subscribe("mute.*")  # nobody answers
        other, denied = waiting_requests(nc, "mute.a", subject)
        text = f"Permissions Violation for Publish to {go_quoted(subject)}"
        server.error(text)
        start = zio.now()
        error = outcome(denied)
        assert isinstance(error, nats_zio.PermissionDeniedError)
        assert (error.text, error.subject) == (text, subject)
        assert zio.now() - start < 0.1
        assert not other.done
        assert isinstance(outcome(other), nats_zio.TimeoutError)

    connected(test)


def go_quoted(text: str) -> str:
    """As Go's %q writes it."""
    parts = []
    for letter in text:
        if letter in '"\\':
            parts.append("\\" + letter)
        elif letter.isprintable():
            parts.append(letter)
        else:
            parts.append(f"\\u{ord(letter):04x}")
    return f'"{"".join(parts)}"'


def test_a_denied_reply_subject_fails_the_request_it_belongs_to() -> None:
    def test(server: ScriptedServer, nc: nats_zio.Client) -> None:
        nc.subscribe("mute.*")
        one, denied, three = waiting_requests(nc, "mute.a", "mute.b", "mute.c")
        replies = dict(command.args for command in server.clients[0].commands if command.verb == "PUB")
        server.error(f'Permissions Violation for Publish with Reply of "{replies["mute.b"]}"')
        error = outcome(denied)
        assert isinstance(error, nats_zio.PermissionDeniedError)
        assert error.subject == replies["mute.b"]
        assert not one.done
        assert not three.done
        assert isinstance(outcome(one), nats_zio.TimeoutError)
        assert isinstance(outcome(three), nats_zio.TimeoutError)

    connected(test)


@pytest.mark.parametrize(
    ("text", "denied"),
    [
        ('Subscription to "a.b"', "newest"),
        ('Subscription to "a.b" using queue "team"', "team"),
        ('Subscription to "a.b" (sid "1")', "plain"),
        ('Subscription to "a.b" using queue "team" (sid "2")', "team"),
        ('Subscription to "a.b", too many tokens', "newest"),
    ],
)
def test_a_denied_subscription_ends_for_good_and_no_other_does(text: str, denied: str) -> None:
    def test(server: ScriptedServer, nc: nats_zio.Client) -> None:
        subs = {
            "plain": nc.subscribe("a.b"),
            "team": nc.subscribe("a.b", queue="team"),
            "other": nc.subscribe("a.c"),
            "newest": nc.subscribe("a.b"),
        }
        seen = nc.events()
        nc.flush()
        server.error(f"Permissions Violation for {text}")
        (event,) = until(seen, events.PermissionViolation)
        assert isinstance(event, events.PermissionViolation)
        assert event.sub is subs[denied]
        for name, sub in subs.items():
            assert sub.closed_reason is (ClosedReason.PERMISSION_DENIED if name == denied else None)
        with pytest.raises(nats_zio.PermissionDeniedError, match=r"Permissions Violation for Subscription to"):
            subs[denied].next()
        server.clients[0].close()
        until(seen, events.Reconnected)
        nc.flush()
        assert sorted(server.clients[0].subscriptions) == sorted(
            str(sub.sid) for name, sub in subs.items() if name != denied
        )

    connected(test)
