"""A client that is used from plain threads: what they share, what they wait for, and what interrupts them."""

from __future__ import annotations

import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, Self

import pytest

import nats_zio
import zio
from nats_zio.testing import NatsServer
from tests.client.helpers import LIMIT, Peer, eventually, next_event
from tests.client.scripting import run_script

THREADS = 8


def in_threads(count: int, fn: Callable[[int], object]) -> None:
    """Run `fn(number)` in so many threads at once; raise the first error of one."""
    errors: list[BaseException] = []
    start = threading.Barrier(count)

    def work(number: int) -> None:
        try:
            start.wait(LIMIT)
            fn(number)
        except BaseException as exc:
            errors.append(exc)

    threads = [threading.Thread(target=work, args=(number,), name=f"user-{number}") for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(50)
    assert not any(thread.is_alive() for thread in threads), "a thread hangs"
    if errors:
        raise errors[0]


@pytest.fixture
def nc(nats_client: nats_zio.Client) -> nats_zio.Client:
    """A client in the background runtime, as a plain thread gets it."""
    return nats_client


# Sharing a client.


def test_messages_of_each_thread_arrive_in_its_order(nc: nats_zio.Client, peer: Peer, subject: str) -> None:
    inbox = peer.subscribe(f"{subject}.*")
    count = 2000

    def publish(number: int) -> None:
        for at in range(count):
            nc.publish(f"{subject}.{number}", b"%d" % at)

    in_threads(THREADS, publish)
    seen: dict[str, list[int]] = {}
    for _ in range(THREADS * count):
        message = inbox.get(timeout=LIMIT)
        seen.setdefault(message.subject, []).append(int(message.data))
    assert seen == {f"{subject}.{number}": list(range(count)) for number in range(THREADS)}


def test_replies_are_never_crossed_between_threads(nc: nats_zio.Client, peer: Peer, subject: str) -> None:
    peer.subscribe(f"{subject}.*", reply=lambda message: message.subject.encode() + b" " + message.data)

    def ask(number: int) -> None:
        mine = f"{subject}.{number}"
        for at in range(200):
            assert nc.request(mine, b"%d" % at).data == b"%b %d" % (mine.encode(), at)

    in_threads(THREADS, ask)


def test_the_first_requests_of_eight_threads_share_one_inbox(
    nats_server: NatsServer, background_runtime: zio.Runtime, peer: Peer, subject: str
) -> None:
    peer.subscribe(subject, reply=lambda message: message.data)
    with nats_zio.connect(nats_server.url) as client:
        in_threads(THREADS, lambda number: client.request(subject, b"%d" % number).data == b"%d" % number)
        assert len(client._core.subscriptions) == 1


def test_a_subscription_of_a_thread_is_in_force_before_its_next_publish(nc: nats_zio.Client, subject: str) -> None:
    def subscribe_and_publish(number: int) -> None:
        for at in range(100):
            mine = f"{subject}.{number}.{at}"
            sub = nc.subscribe(mine)
            nc.publish(mine, b"mine")
            assert sub.next().data == b"mine"
            sub.unsubscribe()

    in_threads(THREADS, subscribe_and_publish)


def test_a_publish_of_a_thread_reaches_no_subscription_that_it_makes_afterwards(
    nc: nats_zio.Client, subject: str
) -> None:
    def publish_and_subscribe(number: int) -> None:
        for at in range(100):
            mine = f"{subject}.{number}.{at}"
            nc.publish(mine, b"before")
            with nc.subscribe(mine) as sub:
                nc.publish(mine, b"after")
                assert sub.next().data == b"after"

    in_threads(THREADS, publish_and_subscribe)


def test_threads_that_iterate_one_subscription_share_its_messages(
    nc: nats_zio.Client, peer: Peer, subject: str
) -> None:
    count = 8000
    sub = nc.subscribe(subject, max_msgs=count)
    nc.flush()
    shares: list[list[int]] = [[] for _ in range(THREADS)]
    source = threading.Thread(target=peer.publish, args=(subject, *(b"%d" % at for at in range(count))))
    source.start()
    in_threads(THREADS, lambda number: shares[number].extend(int(message.data) for message in sub))
    source.join()
    assert sorted(number for share in shares for number in share) == list(range(count))
    assert all(share == sorted(share) for share in shares)


def test_threads_that_take_with_next_and_try_next_get_messages_or_their_own_errors(
    nc: nats_zio.Client, peer: Peer, subject: str
) -> None:
    # Whoever finds the queue empty waits at home, and may find there that another thread was faster.
    count = 6000
    sub = nc.subscribe(subject)
    nc.flush()
    taken: list[int] = []

    def take(number: int) -> None:
        while len(taken) < count:
            if number % 2:
                message = sub.try_next()
            else:
                try:
                    message = sub.next(timeout=0.05)
                except nats_zio.TimeoutError:
                    continue
            if message is not None:
                taken.append(int(message.data))

    source = threading.Thread(target=_trickle, args=(peer, subject, count))
    source.start()
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)  # the race is over in a few instructions
    try:
        in_threads(4, take)
    finally:
        sys.setswitchinterval(interval)
    source.join()
    assert sorted(taken) == list(range(count))
    assert sub.delivered == count


@pytest.mark.slow
def test_a_message_that_comes_while_a_thread_goes_to_sleep_wakes_it(nc: nats_zio.Client, subject: str) -> None:
    sub = nc.subscribe(subject)
    nc.flush()
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        for at in range(3000):
            nc.publish(subject, b"%d" % at)
            moment = time.perf_counter() + (at % 100) * 2e-6  # about as long as the message is on its way
            while time.perf_counter() < moment:
                pass
            assert sub.next(timeout=30).data == b"%d" % at
    finally:
        sys.setswitchinterval(interval)


def _trickle(peer: Peer, subject: str, count: int) -> None:
    """Many small batches instead of a few large ones."""
    for start in range(0, count, 20):
        peer.publish(subject, *(b"%d" % at for at in range(start, start + 20)))


def test_everything_at_once_from_eight_threads(nc: nats_zio.Client, peer: Peer, subject: str) -> None:
    peer.subscribe(f"{subject}.echo", reply=lambda message: message.data)
    heard = peer.subscribe(f"{subject}.news.*")

    def use(number: int) -> None:
        mine = f"{subject}.own.{number}"
        with nc.subscribe(mine, max_msgs=100) as sub:
            for at in range(100):
                nc.publish(mine, b"%d" % at)
                nc.publish(f"{subject}.news.{number}", b"%d" % at)
                if at % 10 == 0:
                    assert nc.request(f"{subject}.echo", b"%d.%d" % (number, at)).data == b"%d.%d" % (number, at)
            nc.flush()
            assert [int(message.data) for message in sub] == list(range(100))

    in_threads(THREADS, use)
    seen: dict[str, list[int]] = {}
    for _ in range(THREADS * 100):
        message = heard.get(timeout=LIMIT)
        seen.setdefault(message.subject, []).append(int(message.data))
    assert all(numbers == list(range(100)) for numbers in seen.values())


def test_a_plain_thread_uses_the_client_of_a_running_runtime(nats_server: NatsServer, peer: Peer, subject: str) -> None:
    def main() -> None:
        with nats_zio.connect(nats_server.url) as client:
            zio.to_thread(use, client)

    def use(client: nats_zio.Client) -> None:
        assert client.runtime is not None
        in_threads(2, lambda number: exchange(client, f"{subject}.{number}"))

    peer.subscribe(f"{subject}.echo", reply=lambda message: message.data)

    def exchange(client: nats_zio.Client, mine: str) -> None:
        with client.subscribe(mine) as sub:
            for at in range(50):
                client.publish(mine, b"%d" % at)
                assert sub.next().data == b"%d" % at
                assert client.request(f"{subject}.echo", b"%d" % at).data == b"%d" % at
            client.flush()

    zio.run(main)


def test_a_task_of_another_loop_uses_the_client(nc: nats_zio.Client, peer: Peer, subject: str) -> None:
    peer.subscribe(f"{subject}.echo", reply=lambda message: message.data)

    def exchange(number: int) -> None:
        mine = f"{subject}.{number}"
        with nc.subscribe(mine, max_msgs=50) as sub:
            for at in range(50):
                nc.publish(mine, b"%d" % at)
                assert nc.request(f"{subject}.echo", b"%d.%d" % (number, at)).data == b"%d.%d" % (number, at)
            nc.flush()
            assert [int(message.data) for message in sub] == list(range(50))

    def main() -> None:
        assert nc._core.loop is not zio.lowlevel.here().loop
        with zio.TaskGroup() as group:
            for number in range(4):
                group.spawn(exchange, number)

    zio.run(main)


# Handlers.


def test_a_handler_that_waits_for_a_lock_of_a_thread_in_request_does_not_stall_the_connection(
    nc: nats_zio.Client, peer: Peer, subject: str
) -> None:
    lock = threading.Lock()
    handled = threading.Event()
    waiting = threading.Event()

    def handler(message: nats_zio.Message) -> None:
        waiting.set()
        with lock:
            handled.set()

    def answer(message: Any) -> bytes:
        return b"answered"

    peer.subscribe(f"{subject}.ask", reply=answer)
    nc.subscribe(f"{subject}.news", cb=handler)
    nc.flush()
    with lock:
        peer.publish(f"{subject}.news", b"")
        assert waiting.wait(LIMIT)
        assert nc.request(f"{subject}.ask").data == b"answered"
        assert not handled.is_set()
    assert handled.wait(LIMIT)


def test_handlers_of_different_subscriptions_run_in_parallel(nc: nats_zio.Client, peer: Peer, subject: str) -> None:
    count = 100  # more than the pool has threads for ordinary work
    meeting = threading.Barrier(count + 1)
    for number in range(count):
        nc.subscribe(f"{subject}.{number}", cb=lambda message: meeting.wait(LIMIT))
    nc.flush()
    for number in range(count):
        peer.publish(f"{subject}.{number}", b"")
    meeting.wait(LIMIT)


def test_the_handler_of_one_subscription_takes_its_messages_in_order_one_at_a_time(
    nc: nats_zio.Client, peer: Peer, subject: str
) -> None:
    seen: list[int] = []
    alone = threading.Lock()
    done = threading.Event()
    count = 3000

    def handler(message: nats_zio.Message) -> None:
        assert alone.acquire(blocking=False)
        seen.append(int(message.data))
        alone.release()
        if len(seen) == count:
            done.set()

    nc.subscribe(subject, cb=handler)
    nc.flush()
    _trickle(peer, subject, count)
    assert done.wait(LIMIT)
    assert seen == list(range(count))


def test_a_handler_runs_on_a_worker_thread_and_may_block_in_calls_of_the_client(
    nc: nats_zio.Client, peer: Peer, subject: str
) -> None:
    peer.subscribe(f"{subject}.ask", reply=lambda message: b"answer")
    names: list[str] = []

    def handler(message: nats_zio.Message) -> None:
        names.append(threading.current_thread().name)
        message.respond(nc.request(f"{subject}.ask").data)

    nc.subscribe(f"{subject}.serve", cb=handler)
    nc.flush()
    assert peer.do(peer.nc.request(f"{subject}.serve", b"")).data == b"answer"
    assert names[0] != threading.current_thread().name


@pytest.mark.parametrize("error", [ValueError("no"), SystemExit(1), KeyboardInterrupt()], ids=repr)
def test_a_handler_that_raises_loses_one_message_only(
    nc: nats_zio.Client, peer: Peer, subject: str, error: BaseException, caplog: pytest.LogCaptureFixture
) -> None:
    seen: list[bytes] = []
    done = threading.Event()

    def handler(message: nats_zio.Message) -> None:
        seen.append(message.data)
        if message.data == b"bad":
            raise error
        if message.data == b"last":
            done.set()

    events = nc.events()
    nc.subscribe(subject, cb=handler)
    nc.flush()
    peer.publish(subject, b"bad")
    assert next_event(events, nats_zio.events.CallbackError).error is error
    peer.publish(subject, b"good", b"last")
    assert done.wait(LIMIT)
    assert seen == [b"bad", b"good", b"last"]
    assert "the handler of" in caplog.text


# Iterating.


def test_a_for_that_breaks_leaves_the_rest_pending_and_readable(nc: nats_zio.Client, peer: Peer, subject: str) -> None:
    sub = nc.subscribe(subject)
    nc.flush()
    peer.publish(subject, *(b"%d" % at for at in range(100)))
    nc.flush()  # the server has sent all of them before its PONG
    assert sub.pending_msgs == 100
    for message in sub:
        if message.data == b"9":
            break
    assert (sub.pending_msgs, sub.delivered) == (90, 10)
    assert sub.pending_bytes == sum(len(b"%d" % at) for at in range(10, 100))
    assert sub.next().data == b"10"
    assert [message.data for message in sub.next_batch(1000)] == [b"%d" % at for at in range(11, 100)]
    assert (sub.pending_msgs, sub.delivered) == (0, 100)


def test_a_for_that_waits_in_a_thread_ends_when_another_unsubscribes(nc: nats_zio.Client, subject: str) -> None:
    subs = [nc.subscribe(subject) for _ in range(4)]
    ends = {
        0: lambda: subs[0].unsubscribe(),
        1: lambda: subs[1].drain(),
        2: lambda: nc.publish(subject, b""),
        3: nc.close,
    }
    subs[2].unsubscribe(after=1)
    seen: list[int] = []

    def iterate(number: int) -> None:
        for _ in subs[number]:
            assert number in {2, 3}
        seen.append(number)

    threads = [threading.Thread(target=iterate, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for number, end in ends.items():
        end()
        threads[number].join(LIMIT)
        assert seen == list(range(number + 1))


# Time limits and interruptions.


@pytest.fixture
def mute(nc: nats_zio.Client, subject: str) -> Iterator[str]:
    """A subject with a subscriber that never answers."""
    with nc.subscribe(subject):
        yield subject


def calls(nc: nats_zio.Client, mute: str) -> dict[str, Callable[[], object]]:
    sub = nc.subscribe(f"{mute}.never")
    return {
        "request": lambda: nc.request(mute, timeout=None),
        "next": lambda: sub.next(timeout=None),
        "next_batch": lambda: sub.next_batch(5, timeout=None),
        "for": lambda: next(iter(sub)),
    }


CALLS = ["request", "next", "next_batch", "for"]


@pytest.mark.parametrize("call", CALLS)
def test_a_timeout_around_a_call_in_a_thread_ends_it_and_the_client_goes_on(
    nc: nats_zio.Client, mute: str, call: str
) -> None:
    fn = calls(nc, mute)[call]
    start = time.monotonic()
    with pytest.raises(TimeoutError), zio.timeout(0.05):
        fn()
    assert time.monotonic() - start >= 0.05
    nc.flush()
    assert len(nc._core.requests) == 0


@pytest.mark.parametrize("call", CALLS)
def test_move_on_after_in_a_thread(nc: nats_zio.Client, mute: str, call: str) -> None:
    fn = calls(nc, mute)[call]
    with zio.move_on_after(0.05) as scope:
        fn()
    assert scope.expired
    nc.flush()


@pytest.mark.parametrize("call", CALLS)
def test_a_call_in_a_cancelled_scope_of_a_thread_does_not_begin(nc: nats_zio.Client, mute: str, call: str) -> None:
    fn = calls(nc, mute)[call]
    before = nc.stats.out_msgs
    with zio.CancelScope() as scope:
        scope.cancel()
        fn()
        pytest.fail("not cancelled")
    assert nc.stats.out_msgs == before


def test_another_thread_cancels_the_scope_of_a_waiting_thread(nc: nats_zio.Client, mute: str) -> None:
    for call, fn in calls(nc, mute).items():
        with zio.CancelScope() as scope:
            timer = threading.Timer(0.05, scope.cancel)
            timer.start()
            fn()
            pytest.fail(f"{call} was not cancelled")
        timer.join()


def test_a_timeout_around_flush_in_a_thread(server: NatsServer, background_runtime: zio.Runtime) -> None:
    client = nats_zio.connect(server.url)
    server.pause()
    try:
        with pytest.raises(TimeoutError), zio.timeout(0.05):
            client.flush(timeout=None)
        with pytest.raises(nats_zio.TimeoutError):
            client.flush(timeout=0.05)
    finally:
        server.resume()
    client.flush()
    client.close()


def test_a_message_that_comes_with_the_timeout_of_a_thread_is_not_lost(
    nc: nats_zio.Client, peer: Peer, subject: str
) -> None:
    sub = nc.subscribe(subject)
    nc.flush()
    count = 400

    def publish() -> None:
        for at in range(count):
            peer.publish(subject, b"%d" % at)

    source = threading.Thread(target=publish)
    source.start()
    seen: list[int] = []
    while len(seen) < count:
        try:
            with zio.timeout(0.0005):
                seen.append(int(sub.next(timeout=None).data))
        except TimeoutError:
            continue
    source.join()
    assert seen == list(range(count))


@pytest.mark.parametrize("call", [*CALLS, "flush"])
def test_keyboard_interrupt_ends_a_call_of_the_main_thread(
    server: NatsServer, background_runtime: zio.Runtime, subject: str, call: str
) -> None:
    client = nats_zio.connect(server.url)
    mute = client.subscribe(subject)
    fn = {**calls(client, subject), "flush": lambda: client.flush(timeout=None)}[call]
    client.flush()
    if call == "flush":
        server.pause()
    timer = threading.Timer(0.1, signal.pthread_kill, [threading.main_thread().ident, signal.SIGINT])
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        fn()
    timer.join()
    if call == "flush":
        server.resume()
    client.flush()
    client.publish(subject, b"still here")
    while mute.next().data != b"still here":
        pass
    assert len(client._core.requests) == 0
    client.close()


@pytest.mark.slow
def test_keyboard_interrupts_lose_no_message() -> None:
    with NatsServer() as server:
        assert "all 2000 in order" in run_script("interrupted_reader.py", server.url, 2000).stdout


# Backpressure.


class DeafServer:
    """Shakes hands like a NATS server and then never reads again."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16 << 10)
        self.url = f"nats://127.0.0.1:{self._listener.getsockname()[1]}"
        self._connection: socket.socket | None = None
        self._thread = threading.Thread(target=self._serve)

    def _serve(self) -> None:
        connection, _ = self._listener.accept()
        self._connection = connection
        connection.sendall(b'INFO {"server_id":"deaf","version":"2.15.1","max_payload":1048576,"headers":true}\r\n')
        got = b""
        while not got.endswith(b"PING\r\n"):
            got += connection.recv(4096)
        connection.sendall(b"PONG\r\n")

    def hear(self) -> bytes:
        """Read until the client closes."""
        assert self._connection is not None
        self._connection.settimeout(LIMIT)
        got = []
        while data := self._connection.recv(1 << 20):
            got.append(data)
        return b"".join(got)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._connection is not None:
            self._connection.close()
        self._listener.close()
        self._thread.join()


def fill(client: nats_zio.Client) -> int:
    """Publish until a publish blocks; how many were accepted."""
    count = 0
    with zio.move_on_after(0.3):
        while count < 10_000:
            client.publish("x", b"%010d" % count + bytes(65_526))
            count += 1
    return count


@pytest.mark.slow
def test_publish_from_a_thread_waits_when_the_socket_is_full_and_a_timeout_ends_the_wait(
    background_runtime: zio.Runtime,
) -> None:
    with DeafServer() as deaf:
        client = nats_zio.connect(deaf.url)
        count = fill(client)
        assert 0 < count < 1000  # at most what the system buffers and one MiB of ours
        accepted = client.stats.out_msgs
        assert accepted == count
        with pytest.raises(TimeoutError), zio.timeout(0.05):
            client.publish("x", bytes(65_536))
        assert client.stats.out_msgs == accepted  # timed out means not sent
        client.close()


@pytest.mark.slow
def test_closing_wakes_the_threads_that_wait_for_room(background_runtime: zio.Runtime) -> None:
    with DeafServer() as deaf:
        client = nats_zio.connect(deaf.url)
        fill(client)
        closer = threading.Timer(0.2, client.close)
        closer.start()

        def publish(number: int) -> None:
            with pytest.raises(nats_zio.ConnectionClosedError):
                client.publish("x", bytes(65_536))

        in_threads(THREADS, publish)
        closer.join()


@pytest.mark.slow
def test_what_was_accepted_while_the_socket_was_full_goes_out_whole_and_once_when_the_server_reads_again(
    background_runtime: zio.Runtime,
) -> None:
    with DeafServer() as deaf:
        client = nats_zio.connect(deaf.url)
        count = fill(client)
        closer = threading.Thread(target=client.close)
        closer.start()
        heard = deaf.hear()
        closer.join()
    frames = [line for line in heard.split(b"\r\n") if line.startswith(b"PUB ")]
    numbers = [int(line[:10]) for line in heard.split(b"\r\n") if line[:10].isdigit()]
    assert len(frames) == count
    assert numbers == list(range(count))


@pytest.mark.slow
def test_a_script_whose_server_never_reads_ends_in_time() -> None:
    with DeafServer() as deaf:
        script = run_script("fill_and_end.py", deaf.url)
    assert script.stdout == "blocked True\n"
    assert "of which it is not proved" in script.stderr


def test_eight_threads_with_a_slow_server_all_get_on(background_runtime: zio.Runtime, server: NatsServer) -> None:
    client = nats_zio.connect(server.url)
    count, size = 300, 32 << 10  # 80 MiB: the socket is full again and again

    def publish(number: int) -> None:
        for _ in range(count):
            client.publish("x", bytes(size))

    in_threads(THREADS, publish)
    client.flush()
    assert server.monitor("/varz")["in_bytes"] >= THREADS * count * size
    client.close()


# Reconnecting.


@pytest.mark.slow
def _passed(sent: list[int], mark: int) -> bool:
    return sum(sent) > mark


@pytest.mark.slow
def test_a_reconnect_while_eight_threads_publish_keeps_their_order_and_duplicates_nothing(
    server: NatsServer, background_runtime: zio.Runtime
) -> None:
    client = nats_zio.connect(server.url, reconnect_buffer_size=256 << 20)
    events = client.events()
    sub = client.subscribe("order.*", pending_msgs=None, pending_bytes=None)
    client.flush()
    sent = [0] * THREADS
    stop = threading.Event()

    def publish(number: int) -> None:
        while not stop.is_set():
            for _ in range(20):
                client.publish(f"order.{number}", b"%010d" % sent[number] + bytes(1000))
                sent[number] += 1
            stop.wait(0.001)

    def disturb() -> None:
        for _ in range(3):
            reached = sum(sent) + 2000
            eventually(partial(_passed, sent, reached))
            server.pause()
            eventually(lambda: client._core.outbound.pending > 1 << 19)  # the socket is full, mid-message
            server.kill()
            server.start()
            next_event(events, nats_zio.events.Reconnected)
        reached = sum(sent) + 2000
        eventually(lambda: sum(sent) > reached)

    threads = [threading.Thread(target=publish, args=(number,)) for number in range(THREADS)]
    reports = client.events()
    for thread in threads:
        thread.start()
    try:
        disturb()
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    client.flush()
    client.drain()
    got: dict[str, list[int]] = {f"order.{number}": [] for number in range(THREADS)}
    for message in sub:
        got[message.subject].append(int(message.data[:10]))
    for numbers in got.values():
        assert numbers == sorted(numbers)
        assert len(numbers) == len(set(numbers))
    unflushed = sum(event.unflushed_msgs for event in reports if isinstance(event, nats_zio.events.Disconnected))
    assert sum(sent) - unflushed <= sum(map(len, got.values())) <= sum(sent)
    assert client.stats.reconnects == 3
    assert client.stats.out_msgs == sum(sent)
