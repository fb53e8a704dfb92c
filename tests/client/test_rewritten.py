"""Replies under another subject than they were asked to come to: each to its request, or counted and told."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import nats_zio
import zio
from nats_zio.events import Reconnected, UnmatchedReply
from nats_zio.protocol import matches
from nats_zio.testing import NatsServer, ScriptedServer
from nats_zio.testing.scripted import Command, ServedClient
from tests.client.helpers import LIMIT, away, eventually, next_event, read_all
from tests.client.scripted import connected

Run = Callable[..., Any]
PULL = "$JS.API.CONSUMER.MSG.NEXT"


# Pulls from a real server.


@pytest.fixture(scope="module")
def jetstream_server() -> Iterator[NatsServer]:
    with NatsServer(jetstream=True) as server:
        yield server


class Stock:
    """A stream of its own with one consumer to pull from, and a client for each test."""

    def __init__(self, server: NatsServer, nc: nats_zio.Client, name: str) -> None:
        self.server = server
        self.nc = nc
        self.name = name
        self.pull = f"{PULL}.{name}.q"
        self._api("STREAM.CREATE." + name, {"name": name, "subjects": [f"{name}.*"], "storage": "memory"})
        config = {"durable_name": "q", "ack_policy": "none"}
        self._api(f"CONSUMER.DURABLE.CREATE.{name}.q", {"stream_name": name, "config": config})

    def _api(self, what: str, body: dict[str, Any]) -> None:
        answer = json.loads(self.nc.request(f"$JS.API.{what}", json.dumps(body), timeout=LIMIT).data)
        assert "error" not in answer, answer

    def add(self, *payloads: bytes) -> None:
        for payload in payloads:
            assert b'"seq"' in self.nc.request(f"{self.name}.x", payload, timeout=LIMIT).data

    def left(self) -> list[str]:
        """What the client has subscribed on the server, but for the inbox that requests share."""
        listed = away(self.server.monitor, "/connz?subs=1")
        ours = [link for link in listed["connections"] if link.get("name") == self.name]
        assert len(ours) == 1
        return [sub for sub in ours[0].get("subscriptions_list", []) if not sub.endswith(".*")]


def _in_task() -> bool:
    return zio.lowlevel.runtime_here() is not None


@pytest.fixture
def stocked(jetstream_server: NatsServer, subject: str, run: Run) -> Callable[[Callable[[Stock], Any]], None]:
    """Run a function with a stock, from a task and from a plain thread; nothing may be left on the server."""
    name = subject.replace(".", "_")

    def start(test: Callable[[Stock], Any]) -> None:
        def main() -> None:
            with nats_zio.connect(jetstream_server.url, name=name) as nc:
                stock = Stock(jetstream_server, nc, name)
                test(stock)
                eventually(lambda: stock.left() == [], "no subscription is left on the server")
                assert nc.stats.unmatched_replies == 0

        run(main)

    return start


Stocked = Callable[[Callable[[Stock], Any]], None]


def in_parallel(count: int, work: Callable[[int], None]) -> None:
    """Let as many tasks, or plain threads where this is one, do it at once."""
    if _in_task():
        with zio.TaskGroup() as group:
            for number in range(count):
                group.spawn(work, number)
        return
    errors: list[BaseException] = []

    def guarded(number: int) -> None:
        try:
            work(number)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=guarded, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]


def test_many_pulls_at_once_have_each_their_message_beside_other_requests(stocked: Stocked) -> None:
    def test(stock: Stock) -> None:
        nc = stock.nc
        echo = nc.subscribe(f"echo.{stock.name}", cb=lambda message: message.respond(message.data))
        payloads = [b"%d" % number for number in range(24)]
        stock.add(*payloads)
        pulled: list[bytes] = []

        def work(number: int) -> None:
            for turn in range(3):
                pulled.append(nc.request(stock.pull, b"1", timeout=LIMIT).data)
                mine = b"%d of %d" % (turn, number)
                assert nc.request(f"echo.{stock.name}", mine, timeout=LIMIT).data == mine

        in_parallel(8, work)
        assert sorted(pulled, key=int) == payloads
        echo.unsubscribe()

    stocked(test)


def test_a_pull_of_several_messages_gathers_them(stocked: Stocked) -> None:
    def test(stock: Stock) -> None:
        stock.add(b"1", b"2", b"3", b"4")
        body = json.dumps({"batch": 3})
        replies = stock.nc.request_many(stock.pull, body, max_msgs=3, timeout=LIMIT)
        assert [reply.data for reply in replies] == [b"1", b"2", b"3"]
        body = json.dumps({"batch": 3, "no_wait": True})
        replies = stock.nc.request_many(stock.pull, body, timeout=LIMIT, until=lambda reply: reply.status is not None)
        assert [reply.data for reply in replies] == [b"4"]
        assert replies.reason == "sentinel"

    stocked(test)


def test_a_pull_that_times_out_leaves_nothing_behind(stocked: Stocked) -> None:
    def test(stock: Stock) -> None:
        with pytest.raises(nats_zio.TimeoutError):
            stock.nc.request(stock.pull, b"1", timeout=0.01)
        replies = stock.nc.request_many(stock.pull, b"1", timeout=0.01)
        assert (list(replies), replies.reason) == ([], "timeout")

    stocked(test)


def test_a_pull_that_is_cancelled_leaves_nothing_behind(stocked: Stocked) -> None:
    def test(stock: Stock) -> None:
        with zio.move_on_after(0.05) as scope:
            stock.nc.request(stock.pull, b"1", timeout=None)
        assert scope.expired
        with zio.move_on_after(0.05) as scope:
            list(stock.nc.request_many(stock.pull, b"1", timeout=None))
        assert scope.expired

    stocked(test)


def test_a_gathering_pull_that_is_left_leaves_nothing_behind(stocked: Stocked) -> None:
    def test(stock: Stock) -> None:
        stock.add(b"1", b"2")
        for reply in stock.nc.request_many(stock.pull, json.dumps({"batch": 5}), timeout=LIMIT):
            assert reply.data == b"1"
            break
        stock.nc.request_many(stock.pull, b"1", timeout=LIMIT).close()

    stocked(test)


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"data": 5}, TypeError),
        ({"headers": {"a": "\n"}}, nats_zio.HeaderError),
        ({"data": b"x" * (1 << 21)}, nats_zio.MaxPayloadError),
    ],
)
def test_a_pull_that_cannot_be_sent_leaves_nothing_behind(
    stocked: Stocked, arguments: Any, error: type[Exception]
) -> None:
    def test(stock: Stock) -> None:
        with pytest.raises(error):
            stock.nc.request(stock.pull, **arguments)
        with pytest.raises(error):
            stock.nc.request_many(stock.pull, **arguments)

    stocked(test)


def test_a_pull_goes_on_over_the_next_connection(stocked: Stocked) -> None:
    def test(stock: Stock) -> None:
        nc = stock.nc
        seen = nc.events()

        def break_and_add() -> None:
            eventually(lambda: len(stock.left()) == 2, "both pulls wait at the server")
            nc.force_reconnect()
            next_event(seen, Reconnected)
            stock.add(b"1")

        def work(number: int) -> None:
            if number == 0:
                break_and_add()
            elif number == 1:
                with pytest.raises(nats_zio.DisconnectedError):
                    nc.request(stock.pull, b"1", timeout=LIMIT)
            else:
                assert nc.request(stock.pull, b"1", timeout=LIMIT, retry_on_disconnect=True).data == b"1"

        in_parallel(3, work)
        stock.add(b"2")
        assert nc.request(stock.pull, b"1", timeout=LIMIT).data == b"2"

    stocked(test)


# Other rewritten replies, from a scripted server.


class Importing:
    """Answers requests under other subjects, like a server with service imports, when it is told to."""

    def __init__(self, server: ScriptedServer) -> None:
        self.asked: list[tuple[ServedClient, Command]] = []
        self.at_once: Callable[[str], str | None] = lambda subject: None  # under what subject to answer, if at once
        server.on_command = self._take

    def _take(self, client: ServedClient, command: Command) -> bool:
        if command.verb != "PUB" or len(command.args) != 2:
            return False
        self.asked.append((client, command))
        under = self.at_once(command.args[0])
        if under is not None:
            self.answer(len(self.asked) - 1, under)
        return True

    def answer(self, number: int, under: str | None = None) -> None:
        client, command = self.asked[number]
        reply = command.args[1]
        data = f"to {command.args[0]}".encode()
        for sub in client.subscriptions.values():
            if matches(sub.subject, reply):
                client.send(f"MSG {under or reply} {sub.sid} {len(data)}\r\n".encode() + data + b"\r\n")

    def wait(self, count: int) -> None:
        eventually(lambda: len(self.asked) == count, f"{count} requests have come")


def ask(nc: nats_zio.Client, subject: str) -> bytes | type[BaseException]:
    try:
        return nc.request(subject, timeout=5).data
    except nats_zio.TimeoutError:
        return nats_zio.TimeoutError


def test_a_rewritten_reply_goes_to_the_only_request_there_is() -> None:
    def test(server: ScriptedServer, nc: nats_zio.Client) -> None:
        Importing(server).at_once = lambda subject: "exported"
        assert nc.request("a").data == b"to a"
        assert nc.request("a").data == b"to a"
        assert [reply.data for reply in nc.request_many("b", max_msgs=1)] == [b"to b"]
        assert nc.stats.unmatched_replies == 0

    connected(test)


def test_a_rewritten_reply_while_several_requests_wait_is_counted_and_told(caplog: pytest.LogCaptureFixture) -> None:
    def test(server: ScriptedServer, nc: nats_zio.Client) -> None:
        peer, seen = Importing(server), nc.events()
        asking = [zio.spawn(ask, nc, subject) for subject in ("a", "b")]
        peer.wait(2)
        peer.answer(0, "exported")
        peer.answer(1)
        assert [task.join() for task in asking] == [nats_zio.TimeoutError, b"to b"]
        assert nc.stats.unmatched_replies == 1
        assert read_all(seen) == [UnmatchedReply("exported")]

    connected(test)
    zio.lowlevel.wait_logged()
    assert [record.levelname for record in caplog.records if "'exported'" in record.getMessage()] == ["WARNING"]


def test_what_was_asked_when_a_reply_could_not_be_matched_can_be_matched_the_next_time() -> None:
    def test(server: ScriptedServer, nc: nats_zio.Client) -> None:
        peer = Importing(server)
        for task in [zio.spawn(ask, nc, subject) for subject in ("a", "b")]:
            if len(peer.asked) < 2:
                peer.wait(2)
                peer.answer(0, "exported")
            assert task.join() is nats_zio.TimeoutError
        asking = [zio.spawn(ask, nc, subject) for subject in ("a", "b", "a")]
        peer.wait(5)
        for number in (4, 3, 2):
            peer.answer(number, "exported")
        assert [task.join() for task in asking] == [b"to a", b"to b", b"to a"]
        assert nc.stats.unmatched_replies == 1

    connected(test)


def test_a_late_rewritten_reply_is_not_taken_for_that_of_the_next_request() -> None:
    def test(server: ScriptedServer, nc: nats_zio.Client) -> None:
        peer = Importing(server)
        assert ask(nc, "slow") is nats_zio.TimeoutError
        asking = zio.spawn(ask, nc, "other")
        peer.wait(2)
        peer.answer(0, "exported")
        peer.answer(1)
        assert asking.join() == b"to other"
        assert nc.stats.unmatched_replies == 1

    connected(test)


def test_a_rewritten_reply_is_matched_again_long_after_a_request_was_given_up() -> None:
    def test(server: ScriptedServer, nc: nats_zio.Client) -> None:
        peer = Importing(server)
        assert ask(nc, "slow") is nats_zio.TimeoutError
        zio.sleep(60)
        peer.at_once = lambda subject: "exported"
        assert nc.request("other").data == b"to other"

    connected(test)


def test_a_request_that_waits_by_an_inbox_of_its_own_is_in_nobodys_way() -> None:
    def test(server: ScriptedServer, nc: nats_zio.Client) -> None:
        peer = Importing(server)
        asking = [zio.spawn(ask, nc, subject) for subject in (f"{PULL}.S.q", "a")]
        peer.wait(2)
        peer.answer(1, "exported")
        peer.answer(0, "S.x")
        assert [task.join() for task in asking] == [f"to {PULL}.S.q".encode(), b"to a"]
        assert nc.stats.unmatched_replies == 0

    connected(test)


def test_a_subject_that_answers_as_it_is_asked_costs_no_subscription_any_more() -> None:
    def test(server: ScriptedServer, nc: nats_zio.Client) -> None:
        peer = Importing(server)
        peer.at_once = lambda subject: "exported"
        assert nc.request("a").data == b"to a"
        peer.at_once = lambda subject: None
        inboxes = []
        for number in (1, 2):
            asking = zio.spawn(ask, nc, "a")
            peer.wait(number + 1)
            inboxes.append(
                any(sub.subject == peer.asked[-1][1].args[1] for sub in server.clients[0].subscriptions.values())
            )
            peer.answer(number)
            assert asking.join() == b"to a"
        assert inboxes == [True, False], "its own the first time, then the one that all share"

    connected(test)


def test_the_refusal_of_a_pull_ends_it_at_once() -> None:
    def test(server: ScriptedServer, nc: nats_zio.Client) -> None:
        def refuse(client: ServedClient, command: Command) -> bool:
            if command.verb == "PUB":
                client.error(f'Permissions Violation for Publish to "{command.args[1]}"')
            return command.verb == "PUB"

        server.on_command = refuse
        start = zio.now()
        with pytest.raises(nats_zio.PermissionDeniedError):
            nc.request(f"{PULL}.S.q", timeout=5)
        assert zio.now() - start < 5
        nc.flush()
        nc.flush()
        assert [sub.subject for sub in server.clients[0].subscriptions.values() if not sub.subject.endswith(".*")] == []

    connected(test)
