"""request_many: many replies to one request, and why there are no more."""

from __future__ import annotations

import gc
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import nats_zio
import zio
from nats_zio.testing import NatsServer, ScriptedServer
from tests.client.helpers import LIMIT, Peer, away, eventually
from tests.secrecy import secret
from zio.testing import SimNetwork, run_virtual, wait_all_parked

Run = Callable[..., Any]


def simulated(test: Callable[[ScriptedServer, nats_zio.Client], None], **options: Any) -> None:
    def main() -> None:
        with ScriptedServer("s1", 4222) as server, nats_zio.connect(server.url, **options) as nc:
            test(server, nc)

    run_virtual(main, network=SimNetwork(1), seed=1)


def _replier(nc: nats_zio.Client, subject: str, *pauses_and_replies: float | bytes) -> None:
    """Answer a request with the replies, after the pauses between them."""

    def reply(message: nats_zio.Message) -> None:
        for step in pauses_and_replies:
            if isinstance(step, bytes):
                message.respond(step)
            else:
                zio.sleep(step)

    nc.subscribe(subject, cb=reply)


def _data(replies: nats_zio.Replies) -> list[bytes]:
    return [message.data for message in replies]


# Why it ends.


def test_it_ends_with_max_msgs(run: Run, nats_server: NatsServer, subject: str) -> None:
    def main() -> None:
        with nats_zio.connect(nats_server.url) as nc:
            _replier(nc, subject, b"1", b"2", b"3", b"4")
            replies = nc.request_many(subject, b"x", max_msgs=3, timeout=LIMIT)
            assert replies.reason is None
            assert _data(replies) == [b"1", b"2", b"3"]
            assert replies.reason == "max_msgs"

    run(main)


def test_with_the_last_of_max_msgs_it_has_ended_already(run: Run, nats_server: NatsServer, subject: str) -> None:
    def main() -> None:
        with nats_zio.connect(nats_server.url) as nc:
            _replier(nc, subject, b"1")
            replies = nc.request_many(subject, max_msgs=1, timeout=LIMIT)
            for message in replies:
                assert message.data == b"1"
                assert replies.reason == "max_msgs"
                assert len(nc._core.requests) == 0

    run(main)


def test_it_ends_with_the_sentinel_which_is_no_reply(run: Run, nats_server: NatsServer, subject: str) -> None:
    def main() -> None:
        with nats_zio.connect(nats_server.url) as nc:
            _replier(nc, subject, b"1", b"2", b"", b"3")
            replies = nc.request_many(subject, until=lambda message: not message.data, timeout=LIMIT)
            assert _data(replies) == [b"1", b"2"]
            assert replies.reason == "sentinel"
            assert replies.sentinel is not None
            assert replies.sentinel.data == b""

    run(main)


def test_it_ends_when_nobody_listens_without_an_error(run: Run, nats_server: NatsServer, subject: str) -> None:
    def main() -> None:
        with nats_zio.connect(nats_server.url) as nc:
            replies = nc.request_many(subject, timeout=LIMIT)
            assert _data(replies) == []
            assert replies.reason == "no_responders"

    run(main)


def test_it_ends_after_the_timeout_whatever_has_come() -> None:
    def test(server: ScriptedServer, nc: nats_zio.Client) -> None:
        _replier(nc, "a", 1.0, b"1", 1.0, b"2", 1.0, b"3")
        start = zio.now()
        replies = nc.request_many("a", timeout=2.5)
        assert _data(replies) == [b"1", b"2"]
        assert replies.reason == "timeout"
        assert zio.now() - start == pytest.approx(2.5)

    simulated(test)


def test_the_default_timeout_is_that_of_requests() -> None:
    def test(server: ScriptedServer, nc: nats_zio.Client) -> None:
        nc.subscribe("a")
        start = zio.now()
        replies = nc.request_many("a")
        assert _data(replies) == []
        assert replies.reason == "timeout"
        assert zio.now() - start == pytest.approx(7)

    simulated(test, request_timeout=7)


def test_without_a_timeout_it_waits_as_long_as_it_takes() -> None:
    def test(server: ScriptedServer, nc: nats_zio.Client) -> None:
        _replier(nc, "a", 3600.0, b"1")
        replies = nc.request_many("a", timeout=None, max_msgs=1)
        assert _data(replies) == [b"1"]

    simulated(test)


def test_it_ends_when_it_stalls_between_replies_not_before_the_first() -> None:
    def test(server: ScriptedServer, nc: nats_zio.Client) -> None:
        _replier(nc, "a", 4.0, b"1", 0.5, b"2", 0.5, b"3", 2.0, b"4")
        start = zio.now()
        replies = nc.request_many("a", timeout=60, stall=1)
        assert _data(replies) == [b"1", b"2", b"3"]
        assert replies.reason == "stall"
        assert zio.now() - start == pytest.approx(4 + 0.5 + 0.5 + 1, abs=0.1)

    simulated(test)


def test_a_stall_does_not_go_beyond_the_timeout() -> None:
    def test(server: ScriptedServer, nc: nats_zio.Client) -> None:
        _replier(nc, "a", b"1")
        start = zio.now()
        replies = nc.request_many("a", timeout=2, stall=10)
        assert _data(replies) == [b"1"]
        assert replies.reason == "timeout"
        assert zio.now() - start == pytest.approx(2)

    simulated(test)


def test_what_the_loop_does_with_a_reply_does_not_count_as_a_stall() -> None:
    def test(server: ScriptedServer, nc: nats_zio.Client) -> None:
        _replier(nc, "a", b"1", 3.5, b"2")
        taken = []
        for message in nc.request_many("a", timeout=60, stall=1):
            taken.append(message.data)
            zio.sleep(3)
        assert taken == [b"1", b"2"]

    simulated(test)


def test_what_came_in_time_is_taken_though_the_loop_is_slow() -> None:
    def test(server: ScriptedServer, nc: nats_zio.Client) -> None:
        _replier(nc, "a", b"1", b"2", b"3", 1.0, b"4", 10.0, b"late")
        replies = nc.request_many("a", timeout=2)
        taken = []
        for message in replies:
            taken.append(message.data)
            zio.sleep(3)
        assert taken == [b"1", b"2", b"3", b"4"]
        assert replies.reason == "timeout"

    simulated(test)


def test_replies_without_end_do_not_keep_a_slow_loop_beyond_the_timeout() -> None:
    def test(server: ScriptedServer, nc: nats_zio.Client) -> None:
        _replier(nc, "a", *[step for _ in range(1000) for step in (0.1, b"more")])
        taken = 0
        for _ in nc.request_many("a", timeout=2):
            taken += 1
            zio.sleep(0.2)
        assert 19 <= taken <= 21  # those of two seconds

    simulated(test)


def test_replies_that_came_while_the_program_computed_are_taken(nats_server: NatsServer, subject: str) -> None:
    """The client shares the thread with it, and can read them only afterwards."""

    def main() -> None:
        with nats_zio.connect(nats_server.url) as nc, Peer(nats_server.url) as peer:
            first = threading.Event()
            peer.subscribe(subject)
            replies = nc.request_many(subject, timeout=0.05)
            nc.flush()

            def answer() -> None:
                peer.publish(inbox, b"1", b"2")
                first.set()

            inbox = f"{nc._core.requests.prefix.decode()}1"
            thread = threading.Thread(target=answer)
            thread.start()
            assert first.wait(LIMIT)  # blocks the loop, on purpose
            time.sleep(0.06)
            assert _data(replies) == [b"1", b"2"]
            assert replies.reason == "timeout"
            thread.join()

    zio.run(main)


def test_other_statuses_are_replies(run: Run, nats_server: NatsServer, subject: str) -> None:
    raw = b"NATS/1.0 404 No Messages\r\n\r\n"

    def main() -> None:
        def reply(message: nats_zio.Message) -> None:
            assert message.reply is not None
            message.respond(b"1")
            nc.flush()
            with socket.create_connection((nats_server.host, nats_server.port)) as other:  # our headers have no status
                size = len(raw)
                other.sendall(b'CONNECT {"verbose":false,"headers":true}\r\n')
                other.sendall(b"HPUB %b %d %d\r\n%b\r\nPING\r\n" % (message.reply.encode(), size, size, raw))
                while b"PONG" not in other.recv(4096):
                    pass

        with nats_zio.connect(nats_server.url) as nc:
            nc.subscribe(subject, cb=reply)
            replies = nc.request_many(subject, timeout=LIMIT, until=lambda message: message.status is not None)
            assert _data(replies) == [b"1"]
            assert replies.sentinel is not None
            assert replies.sentinel.status == (404, "No Messages")

    run(main)


# Errors.


def test_a_lost_connection_raises_after_what_had_come(run: Run, server: NatsServer) -> None:
    def main() -> None:
        with nats_zio.connect(server.url) as nc:
            _replier(nc, "a", b"1", b"2")
            nc.flush()
            replies = nc.request_many("a", timeout=LIMIT)
            eventually(lambda: nc.stats.in_msgs == 3)
            away(server.kill)
            taken: list[bytes] = []
            with pytest.raises(nats_zio.DisconnectedError):
                taken.extend(message.data for message in replies)
            assert taken == [b"1", b"2"]
            assert replies.reason == "disconnected"
            assert len(nc._core.requests) == 0
            with pytest.raises(nats_zio.DisconnectedError):
                next(iter(replies))
            away(server.start)

    run(main)


def test_one_that_waits_ends_when_the_connection_breaks(run: Run, server: NatsServer) -> None:
    def main() -> None:
        with nats_zio.connect(server.url) as nc:
            nc.subscribe("a")
            nc.flush()
            task = zio.spawn(lambda: list(nc.request_many("a", timeout=LIMIT)))
            eventually(lambda: len(nc._core.requests) == 1)
            away(server.kill)
            with pytest.raises(nats_zio.DisconnectedError):
                task.join()
            away(server.start)

    run(main)


def test_made_while_disconnected_it_is_sent_with_the_reconnect() -> None:
    def test(server: ScriptedServer, nc: nats_zio.Client) -> None:
        _replier(nc, "a", b"1", b"2")
        nc.flush()
        server.stop()
        zio.sleep(1)
        replies = nc.request_many("a", timeout=60, max_msgs=2)
        server.start()
        assert _data(replies) == [b"1", b"2"]

    simulated(test)


def test_closing_the_client_raises_after_what_had_come(run: Run, nats_server: NatsServer, subject: str) -> None:
    def main() -> None:
        nc = nats_zio.connect(nats_server.url)
        _replier(nc, subject, b"1")
        replies = nc.request_many(subject, timeout=LIMIT)
        eventually(lambda: nc.stats.in_msgs == 2)
        nc.close()
        iterator = iter(replies)
        assert next(iterator).data == b"1"
        with pytest.raises(nats_zio.ConnectionClosedError):
            next(iterator)
        assert replies.reason == "client_closed"
        with pytest.raises(nats_zio.ConnectionClosedError):
            nc.request_many(subject)

    run(main)


PASSWORD = secret()

STRICT = f"""
authorization {{ users = [
    {{ user: ann, password: {PASSWORD}, permissions: {{ publish: {{ deny: ["no.>"] }} }} }}
    {{ user: deaf, password: {PASSWORD}, permissions: {{ subscribe: {{ deny: [">"] }} }} }} ] }}
"""


@pytest.fixture(scope="module")
def strict() -> Iterator[str]:
    with NatsServer(config=STRICT) as server:
        yield server.url


@pytest.mark.parametrize("user", ["ann", "deaf"])
def test_a_refused_one_raises(run: Run, strict: str, user: str) -> None:
    def main() -> None:
        with nats_zio.connect(strict.replace("nats://", f"nats://{user}:{PASSWORD}@")) as nc:
            replies = nc.request_many("no.entry", timeout=LIMIT)
            with pytest.raises(nats_zio.PermissionDeniedError):
                list(replies)
            assert replies.reason == "refused"
            assert len(nc._core.requests) == 0

    run(main)


@pytest.mark.parametrize(
    "options",
    [
        {"timeout": 0},
        {"timeout": -1},
        {"timeout": float("nan")},
        {"timeout": "1"},
        {"timeout": True},
        {"stall": 0},
        {"stall": -0.1},
        {"stall": "1"},
        {"max_msgs": 0},
        {"max_msgs": 1.5},
        {"until": 3},
    ],
)
def test_a_bad_option_is_refused_and_nothing_is_sent(
    run: Run, nats_server: NatsServer, subject: str, options: dict[str, Any]
) -> None:
    def main() -> None:
        with nats_zio.connect(nats_server.url) as nc:
            with pytest.raises(nats_zio.OptionError, match=next(iter(options))):
                nc.request_many(subject, **options)
            assert nc.stats.out_msgs == 0

    run(main)


def test_what_cannot_be_published_is_refused_and_leaves_nothing(
    run: Run, nats_server: NatsServer, subject: str
) -> None:
    def main() -> None:
        with nats_zio.connect(nats_server.url) as nc:
            with pytest.raises(nats_zio.BadSubjectError):
                nc.request_many("a b")
            with pytest.raises(nats_zio.MaxPayloadError):
                nc.request_many(subject, bytes(nc.max_payload + 1))
            with pytest.raises(nats_zio.HeaderError):
                nc.request_many(subject, headers={"a": "b\r\n"})
            assert nc.stats.out_msgs == 0
            assert len(nc._core.requests) == 0

    run(main)


# What goes, and what comes.


def test_the_request_has_data_and_headers(run: Run, nats_server: NatsServer, subject: str) -> None:
    def main() -> None:
        with nats_zio.connect(nats_server.url) as nc:
            nc.subscribe(subject, cb=lambda message: message.respond(message.data, headers=message.headers))
            (reply,) = nc.request_many(subject, "text", headers={"a": "b"}, max_msgs=1)
            assert reply.data == b"text"
            assert reply.headers == {"a": "b"}

    run(main)


def test_several_at_once_are_never_crossed(run: Run, nats_server: NatsServer, peer: Peer, subject: str) -> None:
    def main() -> None:
        with nats_zio.connect(nats_server.url) as nc:
            for _ in range(3):
                nc.subscribe(subject, cb=lambda message: message.respond(message.data))
            several = [nc.request_many(subject, b"%d" % number, max_msgs=3) for number in range(50)]
            assert nc.request(subject, b"one").data == b"one"
            for number, replies in enumerate(several):
                assert _data(replies) == [b"%d" % number] * 3

    run(main)


def test_replies_are_taken_as_they_come(run: Run, nats_server: NatsServer, subject: str) -> None:
    def main() -> None:
        with nats_zio.connect(nats_server.url) as nc:
            requests = nc.subscribe(subject)
            replies = iter(nc.request_many(subject, timeout=LIMIT))
            request = requests.next()
            for number in range(5):
                request.respond(b"%d" % number)
                assert next(replies).data == b"%d" % number

    run(main)


def test_threads_may_make_and_take_them_with_the_client_of_a_running_runtime(
    nats_server: NatsServer, subject: str
) -> None:
    def main() -> None:
        with nats_zio.connect(nats_server.url) as nc:
            _replier(nc, subject, b"1", 0.01, b"2", 0.01, b"3")
            made_here = nc.request_many(subject, max_msgs=3)
            assert zio.to_thread(_data, made_here) == [b"1", b"2", b"3"]
            made_there = zio.to_thread(lambda: nc.request_many(subject, max_msgs=3))
            assert _data(made_there) == [b"1", b"2", b"3"]

    zio.run(main)


# Leaving nothing behind.


def test_a_loop_that_breaks_leaves_nothing_behind(run: Run, nats_server: NatsServer, subject: str) -> None:
    def main() -> None:
        with nats_zio.connect(nats_server.url) as nc:
            _replier(nc, subject, b"1", b"2", b"3")
            replies = nc.request_many(subject, timeout=LIMIT)
            for message in replies:
                assert message.data == b"1"
                assert len(nc._core.requests) == 1
                break
            assert len(nc._core.requests) == 0
            assert replies.reason == "closed"
            assert list(replies) == []

    run(main)


def test_a_with_block_that_is_left_leaves_nothing_behind(run: Run, nats_server: NatsServer, subject: str) -> None:
    def main() -> None:
        with nats_zio.connect(nats_server.url) as nc:
            nc.subscribe(subject)
            with nc.request_many(subject, timeout=LIMIT) as replies:
                assert len(nc._core.requests) == 1
            assert len(nc._core.requests) == 0
            assert replies.reason == "closed"

    run(main)


def test_one_that_nobody_keeps_leaves_nothing_behind(run: Run, nats_server: NatsServer, subject: str) -> None:
    def main() -> None:
        with nats_zio.connect(nats_server.url) as nc:
            nc.subscribe(subject)
            gc.disable()  # nothing hangs in a cycle
            try:
                nc.request_many(subject, timeout=LIMIT)
                assert len(nc._core.requests) == 0
            finally:
                gc.enable()

    run(main)


def test_an_error_of_until_comes_out_and_leaves_nothing_behind(run: Run, nats_server: NatsServer, subject: str) -> None:
    def main() -> None:
        with nats_zio.connect(nats_server.url) as nc:
            _replier(nc, subject, b"1")
            with pytest.raises(ZeroDivisionError):
                list(nc.request_many(subject, until=lambda message: 1 // 0))
            assert len(nc._core.requests) == 0

    run(main)


def test_a_late_reply_is_dropped(run: Run, nats_server: NatsServer, subject: str) -> None:
    def main() -> None:
        with nats_zio.connect(nats_server.url) as nc:
            requests = nc.subscribe(subject)
            replies = nc.request_many(subject, timeout=0.01)
            assert _data(replies) == []
            requests.next().respond(b"late")
            nc.flush()
            assert list(replies) == []
            assert len(nc._core.requests) == 0

    run(main)


def test_a_cancelled_loop_leaves_nothing_behind(nats_server: NatsServer, subject: str) -> None:
    def main() -> None:
        with nats_zio.connect(nats_server.url) as nc:
            nc.subscribe(subject)
            task = zio.spawn(lambda: list(nc.request_many(subject, timeout=LIMIT)))
            wait_all_parked()
            assert len(nc._core.requests) == 1
            task.cancel()
            with pytest.raises(zio.Cancelled):
                task.join()
            assert len(nc._core.requests) == 0
            with zio.CancelScope() as scope:
                scope.cancel()
                nc.request_many(subject)
            assert nc.stats.out_msgs == 1

    zio.run(main)


def test_a_timeout_around_a_loop_in_a_thread_ends_it(
    nats_server: NatsServer, background_runtime: object, subject: str
) -> None:
    with nats_zio.connect(nats_server.url) as nc:
        nc.subscribe(subject)
        with pytest.raises(TimeoutError), zio.timeout(0.02):
            list(nc.request_many(subject, timeout=LIMIT))
        assert len(nc._core.requests) == 0
