"""The whole line in one program: a service, a publisher, a subscriber, and a server that is killed under them.

python examples/demo.py [--quick]       make demo

Runs against the server of NATS_URL; where that is not set it starts a real nats-server, kills it and starts it again.
It counts what it sends and what comes back, prints both with rates, and exits with 1 if anything is missing that
should not be.
"""

from __future__ import annotations

import os
import sys
import time
from collections import Counter
from itertools import pairwise

from _server import start_server

import nats_zio
import zio
from nats_zio import events
from nats_zio.testing import NatsServer

QUICK = "--quick" in sys.argv[1:]
REQUESTS = 2_000 if QUICK else 30_000
MESSAGES = 10_000 if QUICK else 200_000
WORKERS = 4
CALLERS = 64
OUTAGE = 0.1 if QUICK else 0.5  # seconds for which the server is down

failures: list[str] = []


def check(what: str, right: bool) -> None:
    print(f"    {'ok  ' if right else 'FAIL'}  {what}")
    if not right:
        failures.append(what)


def main(url: str, server: NatsServer | None) -> None:
    # Two clients in one process, as if they were two programs: the service, and those who use it.
    with nats_zio.connect(url, name="demo service") as service, nats_zio.connect(url, name="demo user") as user:
        print(f"connected to nats-server {user.server_info.version} at {user.connected_url}")
        handled: Counter[int] = Counter()  # requests by worker
        with zio.TaskGroup() as group:
            for number in range(WORKERS):
                # Each worker is a subscriber of its own in the queue group; the server picks one for each request.
                group.spawn(work, service.subscribe("demo.square", queue="demo"), number, handled)
            service.flush()
            request_reply(user, handled)
            publish_subscribe(user)
            reconnect(user, service, server, handled)
            print("\nThe end: the service drains")
            report = service.drain()
            check("the workers' loops have ended, nothing is unread", report.unread_msgs == 0)


def work(requests: nats_zio.Subscription, number: int, handled: Counter[int]) -> None:
    for request in requests:
        handled[number] += 1
        request.respond(b"%d" % int(request.data) ** 2)


def request_reply(nc: nats_zio.Client, handled: Counter[int]) -> None:
    print(f"\nRequest and reply: {CALLERS} tasks ask a queue group of {WORKERS} workers")
    right = Counter[bool]()

    def call(first: int) -> None:
        for number in range(first, REQUESTS, CALLERS):
            reply = nc.request("demo.square", b"%d" % number)
            right[int(reply.data) == number**2] += 1

    start = zio.now()
    with zio.TaskGroup() as group:
        for first in range(CALLERS):
            group.spawn(call, first)
    seconds = zio.now() - start
    print(f"    {REQUESTS:,} requests in {seconds:.2f} s: {REQUESTS / seconds:,.0f} requests/s")
    print(f"    by worker: {', '.join(f'{count:,}' for _, count in sorted(handled.items()))}")
    check(f"{right[True]:,} right answers", right == {True: REQUESTS})
    check("each request was handled once", handled.total() == REQUESTS)
    check("every worker had some", len(handled) == WORKERS)


def publish_subscribe(nc: nats_zio.Client) -> None:
    print("\nPublish and subscribe: a task publishes, another reads the subscription like a channel")
    sub = nc.subscribe("demo.numbers", max_msgs=MESSAGES, pending_msgs=None, pending_bytes=None)
    data = b"x" * 100

    def publisher() -> float:
        for _ in range(MESSAGES):
            nc.publish("demo.numbers", data)
        nc.flush()  # when it returns, the server has them all
        return zio.now()

    start = zio.now()
    publishing = zio.spawn(publisher)
    received = sum(1 for message in sub if message.data == data)
    seconds = zio.now() - start
    published = publishing.join() - start
    print(f"    {MESSAGES:,} messages of {len(data)} bytes in {seconds:.2f} s: {MESSAGES / seconds:,.0f} messages/s")
    print(f"    the server had all of them after {published:.2f} s")
    check(f"{received:,} messages received, none dropped", received == MESSAGES and sub.dropped == 0)


def watch(news: events.Receiver) -> tuple[float, int]:
    """Seconds without a connection, and how many messages had no proof of arrival when it broke."""
    lost_at, unflushed = 0.0, 0
    while True:
        event = news.recv(timeout=20)
        if isinstance(event, events.Disconnected):
            lost_at, unflushed = zio.now(), event.unflushed_msgs
        elif isinstance(event, events.Reconnected):
            return zio.now() - lost_at, unflushed


def reconnect(nc: nats_zio.Client, service: nats_zio.Client, server: NatsServer | None, handled: Counter[int]) -> None:
    how = "the connections are dropped" if server is None else "the server is killed and started again"
    print(f"\nReconnect: {how} while messages and requests are on their way")
    sub = nc.subscribe("demo.stream")
    stop = zio.Event()
    sent = 0
    errors: Counter[str] = Counter()
    answered = 0

    def publisher() -> None:
        nonlocal sent
        while not stop.is_set():
            for _ in range(20):
                nc.publish("demo.stream", b"%d" % sent)  # while disconnected it is kept for the reconnect
                sent += 1
            zio.sleep(0.002)
        nc.flush()

    def reader() -> list[int]:
        return [int(message.data) for message in sub]

    def caller() -> None:
        nonlocal answered
        while not stop.is_set():
            try:
                nc.request("demo.square", b"12", timeout=10)
                answered += 1
            except (nats_zio.DisconnectedError, nats_zio.NoRespondersError) as error:
                errors[type(error).__name__] += 1  # whether to ask again is the program's decision
            zio.sleep(0.002)

    with zio.TaskGroup() as group:
        publishing = group.spawn(publisher)
        reading = group.spawn(reader)
        calling = group.spawn(caller)
        watching = group.spawn(watch, nc.events())
        service_watching = group.spawn(watch, service.events())
        zio.sleep(OUTAGE)
        if server is None:
            nc.force_reconnect()
            service.force_reconnect()
        else:
            zio.to_thread(server.kill)  # SIGKILL, as a crash would; a thread, since it blocks
            zio.sleep(OUTAGE)
            zio.to_thread(server.start)  # the same port
        seconds, unflushed = watching.join()
        service_watching.join()
        service.flush()  # its subscriptions are at the server again
        answered_before = answered
        zio.sleep(OUTAGE)
        stop.set()
        publishing.join()
        sub.drain()  # all that was published has come back, so the reader ends
        numbers = reading.join()
        calling.join()

    missing = sent - len(numbers)
    print(f"    without a connection for {seconds:.2f} s")
    print(f"    {sent:,} messages published all the while, {len(numbers):,} received")
    print(f"    {missing:,} lost with the old connection")
    print(f"    (the client said at once that {unflushed:,} had been sent on it without proof that they arrived)")
    print(f"    {answered:,} requests answered; failed meanwhile: {dict(errors) or 'none'}")
    check("no message was lost but those reported", missing <= unflushed)
    check("no message came twice, and all came in order", numbers == sorted(set(numbers)))
    gaps = sum(1 for before, after in pairwise([-1, *numbers, sent]) if after != before + 1)
    check("what is missing was sent just before the break", gaps <= 1 and numbers[-1] == sent - 1)
    check("requests are answered again", answered > answered_before)
    check("one reconnect of each client", nc.stats.reconnects == service.stats.reconnects == 1)


if __name__ == "__main__":
    begin = time.perf_counter()
    address = os.environ.get("NATS_URL")
    if address:
        zio.run(main, address, None)
    else:
        with start_server() as embedded:
            zio.run(main, embedded.url, embedded)
    print(f"\n{len(failures)} checks failed" if failures else "\nall checks passed", end="")
    print(f", {time.perf_counter() - begin:.1f} s")
    sys.exit(1 if failures else 0)
