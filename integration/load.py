"""Publishers, subscribers and requesters that work while a test breaks things, and the books they keep.

What must hold, whatever is broken:

* A message arrives whole, at most once, and those of one publisher in its order, at every subscription.
* Of what a publisher sent, its own subscription on the same connection misses at most what `Disconnected` reported:
  the server answers PING behind the messages that it echoed, so what a PONG proved has come back too.
* Each request ends within its timeout, with its own reply or a named error.
* Each `Disconnected` is followed by one `Reconnected`, and then every subscription and handler is alive again.

What a server took and had no time to hand on to *others* before it died, or what it got before they were back, is lost
to them without a report, by the nature of core NATS; their count is not compared.

A server that was frozen and goes on still reads what it was sent on connections that their clients have given up. Such
messages come late, in between those of the next connection (`finish(late=True)`).
"""

from __future__ import annotations

import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from itertools import pairwise
from typing import Any, Self

import nats_zio
import zio
from integration.helpers import eventually, read_all

PAUSE = 0.008  # between bursts of a publisher
BURST = 2
REQUEST_TIMEOUT = 3.0
SLACK = 2.0  # seconds that a busy machine may add


def payload(publisher: int, number: int) -> bytes:
    """Its text says all about the message, so that a torn or mixed one shows."""
    return b"%d:%d:" % (publisher, number) + b"%c" % (97 + number % 26) * (number * 37 % 3000)


def parse(data: bytes) -> tuple[int, int]:
    publisher, number = (int(part) for part in data.split(b":", 2)[:2])
    assert data == payload(publisher, number), f"message {number} of publisher {publisher} is not whole"
    return publisher, number


def falls(numbers: Iterable[int]) -> list[tuple[int, int]]:
    """Neighbours of which the second is less than the first."""
    return [(a, b) for a, b in pairwise(numbers) if a > b]


class Collector:
    """What one subscription got, by publisher."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.numbers: dict[int, list[int]] = defaultdict(list)

    def take(self, message: nats_zio.Message) -> None:
        publisher, number = parse(message.data)
        self.numbers[publisher].append(number)

    def check(self, late: bool) -> None:
        """Nothing twice, and in order; with `late`, what one connection sent may come amid what the next one sent."""
        for publisher, numbers in self.numbers.items():
            twice = [number for number, count in Counter(numbers).items() if count > 1]
            assert not twice, f"{self.name}: got messages of publisher {publisher} twice: {twice[:10]}"
            steps = falls(numbers)
            if steps and late:
                # The numbers of the later connection are above those of the earlier one: is there such a limit?
                lowest, highest = max(b for _, b in steps), min(a for a, _ in steps)
                if any(
                    not falls(n for n in numbers if n < limit) and not falls(n for n in numbers if n >= limit)
                    for limit in range(lowest + 1, highest + 1)
                ):
                    steps = []
            assert not steps, f"{self.name}: order of publisher {publisher} broken at {steps[:5]}"


class Worker:
    """A function in a thread, with as much of a task's methods as is needed here."""

    def __init__(self, fn: Callable[..., object], *args: Any) -> None:
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, args=(fn, *args), daemon=True)
        self._thread.start()

    def _run(self, fn: Callable[..., object], *args: Any) -> None:
        try:
            fn(*args)
        except BaseException as exc:
            self._error = exc

    @property
    def done(self) -> bool:
        return not self._thread.is_alive()

    def join(self, timeout: float | None = None) -> None:
        self._thread.join(timeout)
        if self._error is not None:
            raise self._error
        assert self.done, "a thread does not end"


class Books:
    """The events of one client."""

    def __init__(self, client: nats_zio.Client) -> None:
        self.client = client
        self._receiver = client.events()
        self.all: list[Any] = []

    def of(self, kind: type) -> list[Any]:
        self.all += read_all(self._receiver)
        return [event for event in self.all if isinstance(event, kind)]

    @property
    def reported(self) -> int:
        return sum(event.unflushed_msgs for event in self.of(nats_zio.events.Disconnected))


class Publisher:
    def __init__(self, load: Load, number: int, client: nats_zio.Client) -> None:
        self.number = number
        self.client = client
        self.books = load.books[client]
        self.subject = f"{load.subject}.p{number}"
        self.sent = 0
        self.echo = Collector(f"echo of publisher {number}")
        self._sub = client.subscribe(self.subject, cb=self.echo.take)

    def publish(self, count: int = 1) -> None:
        for _ in range(count):
            self.client.publish(self.subject, payload(self.number, self.sent))
            self.sent += 1


class Load:
    """``with Load(urls, subject) as load:`` connects clients, in turn to each of the servers, and sets them to work.

    `group=False`: no subscriptions in a queue group. `threads=True`: the work is done by plain threads, for a test that
    is no task itself; the clients live in the background runtime then, and handlers run in threads of theirs.
    """

    publisher_count = 2
    subscriber_count = 2
    responder_count = 2
    asking = 4  # tasks that make requests, all with one client

    def __init__(
        self, urls: Sequence[str], subject: str, *, group: bool = True, threads: bool = False, **options: Any
    ) -> None:
        self.with_group = group
        self._spawn: Callable[..., Any] = Worker if threads else zio.spawn
        self.subject = subject
        self._urls = list(urls)
        self._options = {"reconnect_wait": 0.05, "reconnect_max_wait": 0.5, "ping_interval": 5.0, **options}
        self.clients: list[nats_zio.Client] = []
        self.books: dict[nats_zio.Client, Books] = {}
        self.answers: Counter[str] = Counter()
        self.alone: list[Collector] = []  # each gets everything
        self.group: list[Collector] = []  # share everything
        self._working = True
        self._workers: list[Any] = []  # that end with the work
        self._readers: list[Any] = []  # that end with their subscription

    def _connect(self) -> nats_zio.Client:
        turn = len(self.clients) % len(self._urls)
        client = nats_zio.connect(
            [*self._urls[turn:], *self._urls[:turn]],
            no_randomize=True,
            name=f"load-{len(self.clients)}",
            **self._options,
        )
        self.clients.append(client)
        self.books[client] = Books(client)
        return client

    def __enter__(self) -> Self:
        try:
            self._set_up()
        except BaseException:
            self.__exit__()
            raise
        return self

    def _set_up(self) -> None:
        self.publishers = [Publisher(self, number, self._connect()) for number in range(self.publisher_count)]
        for number in range(self.subscriber_count):
            client = self._connect()
            read, handled, member = (Collector(f"{kind} {number}") for kind in ("reader", "handler", "member"))
            self.alone += [read, handled]
            self._readers.append(self._spawn(self._read, client.subscribe(f"{self.subject}.*"), read))
            client.subscribe(f"{self.subject}.*", cb=handled.take)
            if self.with_group:
                self.group.append(member)
                client.subscribe(f"{self.subject}.*", queue="group", cb=member.take)
        self._service = f"{self.subject}.ask.it"
        for _ in range(self.responder_count):
            self._connect().subscribe(self._service, queue="service", cb=lambda message: message.respond(message.data))
        self.asker = self._connect()
        for client in self.clients:
            client.flush()
        self._await_delivery()
        self._await_answers()
        for publisher in self.publishers:
            self._workers.append(self._spawn(self._publish, publisher))
        for number in range(self.asking):
            self._workers.append(self._spawn(self._ask, number))

    def __exit__(self, *_: object) -> None:
        self._working = False
        for client in self.clients:
            client.close()
        for task in [*self._workers, *self._readers]:
            if isinstance(task, Worker):
                task.join(REQUEST_TIMEOUT + SLACK)  # the end of its client ends it
            else:
                task.cancel()

    # -- at work

    def _read(self, sub: nats_zio.Subscription, collector: Collector) -> None:
        for message in sub:
            collector.take(message)

    def _publish(self, publisher: Publisher) -> None:
        while self._working:
            publisher.publish(BURST)
            zio.sleep(PAUSE)

    def _ask(self, number: int) -> None:
        step = 0
        while self._working:
            step += 1
            self.answers[self._ask_once(b"%d.%d" % (number, step))] += 1
            zio.sleep(PAUSE)

    def _ask_once(self, token: bytes) -> str:
        start = time.monotonic()
        try:
            reply = self.asker.request(self._service, token, timeout=REQUEST_TIMEOUT)
        except (nats_zio.DisconnectedError, nats_zio.NoRespondersError, nats_zio.TimeoutError) as exc:
            answer = type(exc).__name__
        else:
            assert reply.data == token, f"the reply to {token!r} was {reply.data!r}"
            answer = "ok"
        took = time.monotonic() - start
        assert took < REQUEST_TIMEOUT + SLACK, f"a request took {took} s: {answer}"
        return answer

    # -- for the test

    def run_for(self, seconds: float) -> None:
        """Let it work; an error in any of its tasks is raised here."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            self._check_tasks()
            zio.sleep(0.02)

    def on(self, url: str) -> list[nats_zio.Client]:
        return [client for client in self.clients if client.connected_url == url]

    def disconnects(self) -> dict[nats_zio.Client, int]:
        return {client: len(self.books[client].of(nats_zio.events.Disconnected)) for client in self.clients}

    def await_reconnects(self, counts: dict[nats_zio.Client, int], limit: float = 20.0) -> None:
        """Until each client has lost and made so many connections, no more and no fewer."""
        for client, count in counts.items():
            self._await_reconnect(self.books[client], count, limit)
        assert self.disconnects() == counts
        self._check_tasks()

    def _await_reconnect(self, books: Books, count: int, limit: float) -> None:
        eventually(
            lambda: len(books.of(nats_zio.events.Reconnected)) >= count,
            f"{books.client.options.name} has reconnected {count} times",
            limit,
        )

    def finish(self, late: bool = False) -> None:
        """End the work, check the books, and see that everybody is alive. For `late` see above."""
        self._check_tasks()
        self._working = False
        eventually(lambda: all(client.is_connected for client in self.clients), "all are connected")
        for task in self._workers:
            task.join(REQUEST_TIMEOUT + SLACK)
        for client in self.clients:
            client.flush()
        self._await_delivery()
        self._check_losses()
        # Now that all is quiet: delivered once, to everybody.
        before = {publisher.number: publisher.sent for publisher in self.publishers}
        for publisher in self.publishers:
            publisher.publish(20)
            publisher.client.flush()
        for publisher in self.publishers:
            fresh = list(range(before[publisher.number], publisher.sent))
            for collector in [*self.alone, publisher.echo]:
                self._await_last(publisher, collector)
                assert collector.numbers[publisher.number][-20:] == fresh
            if self.group:
                self._await_shared(publisher, fresh)
        self._await_answers()
        for collector in [*self.alone, *self.group, *(publisher.echo for publisher in self.publishers)]:
            collector.check(late)
        for publisher in self.publishers:
            shares = self._shares(publisher)
            assert len(set(shares)) == len(shares), "a message came to two members of the group"
        for client in self.clients:
            books = self.books[client]
            assert not books.of(nats_zio.events.CallbackError), books.all
            assert not books.of(nats_zio.events.SlowConsumer), books.all
            lost, made = len(books.of(nats_zio.events.Disconnected)), len(books.of(nats_zio.events.Reconnected))
            assert lost == made == client.stats.reconnects
        assert self.answers["ok"] > 0
        self._check_tasks()

    def _await_last(self, publisher: Publisher, collector: Collector) -> None:
        numbers = collector.numbers[publisher.number]
        eventually(lambda: numbers[-1:] == [publisher.sent - 1], f"{collector.name} has the last of {publisher.number}")

    def _await_shared(self, publisher: Publisher, fresh: list[int]) -> None:
        eventually(lambda: self._shares(publisher)[-20:] == fresh, f"the group has the last of {publisher.number}")

    def _shares(self, publisher: Publisher) -> list[int]:
        """What came to any member of the group."""
        return sorted(number for member in self.group for number in member.numbers[publisher.number])

    def _check_losses(self) -> None:
        for publisher in self.publishers:
            got = set(publisher.echo.numbers[publisher.number])
            missing = sorted(set(range(publisher.sent)) - got)
            reported = publisher.books.reported
            assert len(missing) <= reported, (
                f"publisher {publisher.number}: {len(missing)} of {publisher.sent} lost, {reported} reported: "
                f"{missing[:20]}"
            )

    def _check_tasks(self) -> None:
        for task in [*self._workers, *self._readers]:
            if task.done:
                task.join()

    def _await_delivery(self) -> None:
        """Publish until every subscription has got something of it: interest has then spread to all servers."""

        def delivered() -> bool:
            for publisher in self.publishers:
                publisher.publish()
                publisher.client.flush()
            return all(
                collector.numbers[publisher.number][-1:] >= [marks[publisher.number]]
                for collector in self.alone
                for publisher in self.publishers
            )

        marks = {publisher.number: publisher.sent for publisher in self.publishers}
        eventually(delivered, "every subscription gets messages")

    def _await_answers(self) -> None:
        eventually(lambda: self._ask_once(b"anybody?") == "ok", "the service answers")
        for number in range(20):
            assert self._ask_once(b"again %d" % number) == "ok"
