"""request: every reply to its request, and a prompt end when there can be none."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest

import nats_zio
import zio
from nats_zio.testing import NatsServer, ScriptedServer
from nats_zio.testing.scripted import Command, ServedClient
from tests.client.helpers import LIMIT, Peer, away, eventually, next_event
from zio.testing import SimNetwork, run_virtual

Run = Callable[..., object]


def test_a_request_returns_the_reply_of_another_library(
    run: Run, nats_server: NatsServer, peer: Peer, subject: str
) -> None:
    asked = peer.subscribe(subject, reply=lambda message: message.data.upper())

    def main() -> None:
        with nats_zio.connect(nats_server.url) as nc:
            assert nc.request(subject, b"abc").data == b"ABC"
            assert nc.request(subject, "größe", headers={"a": "1"}).data == "größe".encode().upper()
            assert nc.request(subject).data == b""

    run(main)
    assert asked.get(timeout=LIMIT).headers is None
    assert asked.get(timeout=LIMIT).headers == {"a": "1"}


def test_a_request_of_another_library_is_answered_with_headers(
    run: Run, nats_server: NatsServer, peer: Peer, subject: str
) -> None:
    def main() -> None:
        def answer(message: nats_zio.Message) -> None:
            message.respond(message.data * 2, headers={"served": "yes"})

        with nats_zio.connect(nats_server.url) as nc:
            nc.subscribe(subject, cb=answer)
            nc.flush()
            reply = away(peer.do, peer.nc.request(subject, b"ab", timeout=LIMIT))
            assert reply.data == b"abab"
            assert reply.headers == {"served": "yes"}

    run(main)


def test_respond_to_a_message_without_reply_subject_raises(run: Run, nats_server: NatsServer, subject: str) -> None:
    def main() -> None:
        with nats_zio.connect(nats_server.url) as nc, nc.subscribe(subject) as sub:
            nc.publish(subject)
            with pytest.raises(nats_zio.Error, match="reply"):
                sub.next().respond(b"x")

    run(main)


@pytest.mark.parametrize(
    "reply", [b"a..b", b"caf\xe9.\xff", b"a.*", b"x" * 4070], ids=["empty token", "not UTF-8", "wildcard", "long"]
)
def test_any_reply_subject_that_comes_from_the_server_can_be_responded_to(reply: bytes) -> None:
    def main() -> None:
        with ScriptedServer() as server, nats_zio.connect(server.url) as nc:
            server.on_command = lambda _, command: command.verb in ("PUB", "HPUB")
            sub = nc.subscribe("a")
            nc.flush()
            served = server.all_clients[0]
            served.send(b"MSG a 1 %b 1\r\nx\r\n" % reply)
            message = sub.next()
            message.respond(b"1")
            message.respond("2")
            message.respond(b"3", headers={"a": "b"})
            nc.flush()
            assert b"PUB %b 1\r\n1\r\nPUB %b 1\r\n2\r\nHPUB %b " % (reply, reply, reply) in served.received
            assert b"a: b\r\n\r\n3\r\n" in served.received

    run_virtual(main, network=SimNetwork())


def test_nobody_listening_raises_no_responders_at_once(run: Run, nats_server: NatsServer, subject: str) -> None:
    def main() -> None:
        with nats_zio.connect(nats_server.url) as nc:
            with pytest.raises(nats_zio.NoRespondersError) as caught:
                nc.request(subject, b"x", timeout=LIMIT)
            assert caught.value.subject == subject
            assert len(nc._core.requests) == 0

    run(main)


def test_no_reply_in_time_raises_timeout_error_and_the_late_reply_is_dropped(
    run: Run, nats_server: NatsServer, subject: str
) -> None:
    def main() -> None:
        with nats_zio.connect(nats_server.url) as nc, nc.subscribe(subject) as sub:
            for _ in range(20):
                with pytest.raises(nats_zio.TimeoutError, match=subject) as caught:
                    nc.request(subject, b"late", timeout=0.005)
                assert isinstance(caught.value, TimeoutError)
            assert len(nc._core.requests) == 0
            for _ in range(20):
                sub.next().respond(b"too late")
            nc.flush()
            assert len(nc._core.requests) == 0
            nc.subscribe(subject + ".x", cb=lambda message: message.respond(b"right"))
            assert nc.request(subject + ".x").data == b"right"

    run(main)


def test_the_default_timeout_is_the_option(run: Run, nats_server: NatsServer, subject: str) -> None:
    def main() -> None:
        with (
            nats_zio.connect(nats_server.url, request_timeout=0.02) as nc,
            nc.subscribe(subject),
            pytest.raises(nats_zio.TimeoutError, match=r"0\.02"),
        ):
            nc.request(subject)

    run(main)


def test_a_second_reply_is_dropped(run: Run, nats_server: NatsServer, subject: str) -> None:
    def main() -> None:
        def twice(message: nats_zio.Message) -> None:
            message.respond(message.data + b"1")
            message.respond(message.data + b"2")

        with nats_zio.connect(nats_server.url) as nc:
            nc.subscribe(subject, cb=twice)
            assert [nc.request(subject, b"%d" % n).data for n in range(10)] == [b"%d1" % n for n in range(10)]

    run(main)


def test_concurrent_requests_of_tasks_are_never_crossed(nats_server: NatsServer, peer: Peer, subject: str) -> None:
    peer.subscribe(subject, reply=lambda message: message.data)

    def main() -> None:
        with nats_zio.connect(nats_server.url) as nc:

            def ask(who: int) -> None:
                for number in range(20):
                    data = b"%d/%d" % (who, number)
                    assert nc.request(subject, data).data == data

            with zio.TaskGroup() as group:
                for who in range(50):
                    group.spawn(ask, who)
            assert len(nc._core.requests) == 0

    zio.run(main)


def test_concurrent_requests_of_threads_are_never_crossed(
    background_runtime: object, nats_server: NatsServer, peer: Peer, subject: str
) -> None:
    peer.subscribe(subject, reply=lambda message: message.data)
    crossed: list[bytes] = []
    with nats_zio.connect(nats_server.url) as nc:

        def ask(who: int) -> None:
            for number in range(50):
                data = b"%d/%d" % (who, number)
                if (got := nc.request(subject, data).data) != data:
                    crossed.append(got)

        threads = [threading.Thread(target=ask, args=(who,)) for who in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(nc._core.requests) == 0
    assert crossed == []


def test_a_cancelled_request_leaves_no_entry_and_the_next_gets_its_own_reply(
    nats_server: NatsServer, subject: str
) -> None:
    def main() -> None:
        with nats_zio.connect(nats_server.url) as nc, nc.subscribe(subject) as sub:
            with zio.move_on_after(0.01) as scope:
                nc.request(subject, b"first")
            assert scope.expired
            assert len(nc._core.requests) == 0
            task = zio.spawn(nc.request, subject, b"second")
            for _ in range(2):
                message = sub.next()
                message.respond(b"to " + message.data)
            assert task.join().data == b"to second"

    zio.run(main)


def test_a_timeout_scope_ends_a_request_of_a_thread(
    background_runtime: object, nats_server: NatsServer, subject: str
) -> None:
    with nats_zio.connect(nats_server.url) as nc, nc.subscribe(subject):
        with pytest.raises(TimeoutError), zio.timeout(0.02):
            nc.request(subject, timeout=LIMIT)
        assert len(nc._core.requests) == 0


def _in_background(fn: Callable[[], object]) -> Callable[[], object]:
    """Start `fn` in a task, or in a thread where there is no runtime; returns what waits for its error."""
    if zio.lowlevel.runtime_here() is not None:

        def caught() -> object:
            try:
                return fn()
            except Exception as exc:
                return exc

        return zio.spawn(caught).join
    outcome: list[object] = []

    def run() -> None:
        try:
            outcome.append(fn())
        except BaseException as exc:
            outcome.append(exc)

    thread = threading.Thread(target=run)
    thread.start()

    def join() -> object:
        thread.join(LIMIT)
        return outcome[0]

    return join


def test_close_releases_a_waiting_request_at_once(run: Run, nats_server: NatsServer, subject: str) -> None:
    def main() -> None:
        nc = nats_zio.connect(nats_server.url)
        sub = nc.subscribe(subject)
        outcome = _in_background(lambda: nc.request(subject, timeout=None))
        sub.next()
        nc.close()
        assert isinstance(outcome(), nats_zio.ConnectionClosedError)
        assert len(nc._core.requests) == 0

    run(main)


def test_a_request_written_when_the_link_breaks_ends_at_once(run: Run, server: NatsServer) -> None:
    def main() -> None:
        with nats_zio.connect(server.url) as nc:
            sub = nc.subscribe("a")
            outcome = _in_background(lambda: nc.request("a", timeout=None))
            sub.next()
            away(server.kill)
            assert isinstance(outcome(), nats_zio.DisconnectedError)
            assert len(nc._core.requests) == 0
            nc.close()

    run(main)


def test_a_request_made_while_disconnected_is_answered_after_the_reconnect(run: Run, server: NatsServer) -> None:
    def main() -> None:
        with nats_zio.connect(server.url, reconnect_wait=0.01) as nc:
            nc.subscribe("a", cb=lambda message: message.respond(message.data + b"!"))
            nc.flush()
            events = nc.events()
            away(server.kill)
            next_event(events, nats_zio.events.Disconnected)

            def ask(number: int) -> Callable[[], object]:
                return _in_background(lambda: nc.request("a", b"%d" % number, timeout=LIMIT).data)

            outcomes = [ask(number) for number in range(5)]
            eventually(lambda: len(nc._core.requests) == 5)
            away(server.start)
            assert [outcome() for outcome in outcomes] == [b"%d!" % n for n in range(5)]

    run(main)


def test_a_request_not_yet_written_when_the_link_breaks_is_answered_after_the_reconnect(
    nats_server: NatsServer, subject: str
) -> None:
    def main() -> None:
        with nats_zio.connect(nats_server.url) as nc:
            nc.subscribe(subject, cb=lambda message: message.respond(message.data))
            answered = 0
            for _ in range(10):  # the tick may end, and write the request, before the link is dropped
                nc.flush()
                outcome = _in_background(lambda: nc.request(subject, b"x", timeout=LIMIT).data)
                zio.pause()
                nc.force_reconnect()
                answered += outcome() == b"x"
            assert answered > 0

    zio.run(main)


def test_the_first_request_of_a_client_may_be_made_while_disconnected(run: Run, server: NatsServer) -> None:
    def main() -> None:
        with nats_zio.connect(server.url, reconnect_wait=0.01) as nc:
            nc.subscribe("a", cb=lambda message: message.respond(b"!"))
            events = nc.events()
            away(server.kill)
            next_event(events, nats_zio.events.Disconnected)
            with pytest.raises(nats_zio.TimeoutError, match="not connected"):
                nc.request("a", timeout=0.01)
            outcome = _in_background(lambda: nc.request("a", timeout=LIMIT).data)
            away(server.start)
            assert outcome() == b"!"

    run(main)


def test_inbox_prefix_is_used_for_replies_and_inboxes(run: Run, nats_server: NatsServer, subject: str) -> None:
    def main() -> None:
        with nats_zio.connect(nats_server.url, inbox_prefix="_INBOX.team") as nc, nc.subscribe(subject) as sub:
            outcome = _in_background(lambda: nc.request(subject).data)
            message = sub.next()
            assert message.reply is not None
            assert message.reply.startswith("_INBOX.team.")
            message.respond(b"x")
            assert outcome() == b"x"
            inboxes = {nc.new_inbox() for _ in range(1000)}
            assert len(inboxes) == 1000
            assert all(inbox.startswith("_INBOX.team.") for inbox in inboxes)

    run(main)


@pytest.mark.slow
def test_a_request_that_waits_for_room_ends_when_the_client_closes(server: NatsServer) -> None:
    def main() -> None:
        nc = nats_zio.connect(server.url)
        nc.subscribe("a")
        nc.flush()
        server.pause()
        try:
            payload = b"x" * 900_000
            tasks = [_in_background(lambda: nc.request("a", payload, timeout=None)) for _ in range(40)]
            zio.testing.wait_all_parked()
            nc.close()
            assert {type(join()) for join in tasks} == {nats_zio.ConnectionClosedError}
            assert len(nc._core.requests) == 0
        finally:
            server.resume()

    zio.run(main)


def _answer_from_the_second_on(nc: nats_zio.Client, subject: str) -> list[bytes]:
    """Returns the questions."""
    asked: list[bytes] = []

    def answer(message: nats_zio.Message) -> None:
        asked.append(message.data)
        if len(asked) > 1:
            message.respond(b"answer")

    nc.subscribe(subject, cb=answer)
    nc.flush()
    return asked


def test_with_retry_on_disconnect_a_request_is_asked_again_after_the_reconnect(run: Run, server: NatsServer) -> None:
    def main() -> None:
        with nats_zio.connect(server.url) as other, nats_zio.connect(server.url) as nc:
            asked = _answer_from_the_second_on(other, "a")
            seen = other.events()
            question = bytearray(b"question")
            task = zio.spawn(lambda: nc.request("a", question, timeout=LIMIT, retry_on_disconnect=True))
            eventually(lambda: asked)
            question[:] = b"changed!"
            away(server.kill)
            away(server.start)
            next_event(seen, nats_zio.events.Reconnected)
            assert task.join().data == b"answer"
            assert asked == [b"question"] * 2
            assert len(nc._core.requests) == 0

    run(main)


def test_a_request_of_a_thread_is_asked_again_after_the_reconnect(
    server: NatsServer, background_runtime: object
) -> None:
    with nats_zio.connect(server.url) as other, nats_zio.connect(server.url) as nc:
        asked = _answer_from_the_second_on(other, "a")
        nc.flush()

        def restart() -> None:
            eventually(lambda: asked)
            server.kill()
            server.start()

        thread = threading.Thread(target=restart)
        thread.start()
        assert nc.request("a", b"x", timeout=LIMIT, retry_on_disconnect=True).data == b"answer"
        thread.join()
        assert asked == [b"x"] * 2


def test_asked_again_it_waits_a_moment_for_those_who_reply_to_be_back() -> None:
    def main() -> None:
        with ScriptedServer("s1", 4222) as server, nats_zio.connect(server.url) as nc:

            def cut_off_once(client: ServedClient, command: Command) -> bool:
                if command.verb == "PUB" and len(server.all_clients) == 1:
                    client.abort()
                    return True
                return False

            server.on_command = cut_off_once
            start = zio.now()
            with pytest.raises(nats_zio.NoRespondersError):
                nc.request("a", timeout=60, retry_on_disconnect=True)
            assert zio.now() - start == pytest.approx(2, abs=0.2)
            with pytest.raises(nats_zio.NoRespondersError):
                nc.request("a", timeout=60, retry_on_disconnect=True)
            assert zio.now() - start == pytest.approx(2, abs=0.2)

            server.all_clients.pop()
            start = zio.now()
            with pytest.raises(nats_zio.NoRespondersError):
                nc.request("a", timeout=1, retry_on_disconnect=True)
            assert zio.now() - start == pytest.approx(1, abs=0.1)

            server.all_clients.pop()
            task = zio.spawn(lambda: nc.request("a", timeout=60, retry_on_disconnect=True))
            zio.sleep(1)
            nc.subscribe("a", cb=lambda message: message.respond(b"back"))
            assert task.join().data == b"back"

    run_virtual(main, network=SimNetwork(1), seed=1)


def test_all_the_asking_again_is_within_the_timeout() -> None:
    def main() -> None:
        with ScriptedServer("s1", 4222) as server, nats_zio.connect(server.url) as nc:

            def cut_off(client: ServedClient, command: Command) -> bool:
                if command.verb == "PUB":
                    asked.append(zio.now())
                    client.server.later(1, client.abort)
                    return True
                return False

            asked: list[float] = []
            server.on_command = cut_off
            start = zio.now()
            with pytest.raises(nats_zio.TimeoutError, match=r"within 10 s"):
                nc.request("a", timeout=10, retry_on_disconnect=True)
            assert zio.now() - start == pytest.approx(10)
            assert len(asked) > 5

    run_virtual(main, network=SimNetwork(1), seed=1)


def test_asked_again_it_ends_when_the_client_closes(run: Run, server: NatsServer) -> None:
    def main() -> None:
        with nats_zio.connect(server.url, allow_reconnect=False) as nc:
            nc.subscribe("a")
            nc.flush()
            task = zio.spawn(lambda: nc.request("a", timeout=LIMIT, retry_on_disconnect=True))
            eventually(lambda: len(nc._core.requests) == 1)
            nc.flush()
            away(server.kill)
            with pytest.raises(nats_zio.ConnectionClosedError):
                task.join()

    run(main)


def test_a_timeout_that_is_no_number_sends_nothing(run: Run, server: NatsServer) -> None:
    def main() -> None:
        with nats_zio.connect(server.url) as nc:
            for timeout in (float("nan"), "1"):
                with pytest.raises(nats_zio.OptionError):
                    nc.request("a", b"x", timeout=timeout)  # type: ignore[arg-type]
            assert nc.stats.out_msgs == 0
            assert len(nc._core.requests) == 0

    run(main)
