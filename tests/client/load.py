"""Publishers, subscribers and requesters that work while a test breaks things, and the books they keep.

What must hold, whatever is broken:

* A message arrives whole, at most once, and those of one publisher in its order, at every subscription.
* Of what a publisher sent, its own subscription on the same connection misses at most what `Disconnected` reported, and
  at each loss of the connection only the last ones that were written: the server answers PING behind the messages that
  it echoed, so what a PONG proved has come back too.
* What was published to a server that is frozen, and is then killed, is lost; `Disconnected` reports exactly that.
* Each call ends within its timeout; a request with its own reply or a named error.
* Each `Disconnected` is followed by one `Reconnected`, and then every subscription and handler is alive again.

What a server took and had no time to hand on to *others* before it died, or what it got before they were back, is lost
to them without a report, by the nature of core NATS; their count is not compared.

A server that was frozen and goes on still reads what it was sent on connections that their clients have given up. Such
messages come late, in between those of the next connection (`finish(late=True)`).
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, Self

import nats_zio
import zio
from tests.client.collector import Collector, payload, runs
from tests.client.helpers import away, eventually, read_all

PAUSE = 0.008  # between bursts of a publisher
BURST = 2
FLUSH_EVERY = 10  # bursts
FLUSH_TIMEOUT = 0.5
NEXT_TIMEOUT = 0.1
REQUEST_TIMEOUT = 3.0
SLACK = 30.0  # seconds that a busy machine may add: against hangs only


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
    def reported(self) -> list[int]:
        """The messages reported as in doubt, at each loss of a connection."""
        return [event.unflushed_msgs for event in self.of(nats_zio.events.Disconnected)]


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
            begin = time.monotonic()
            self.client.publish(self.subject, payload(self.number, self.sent))
            assert time.monotonic() - begin < SLACK, "a publish took too long"
            self.sent += 1

    def missing(self, since: int = 0) -> list[int]:
        """What has not come back to its own subscription."""
        got = set(self.echo.numbers[self.number])
        return [number for number in range(since, self.sent) if number not in got]

    def await_echo(self) -> None:
        numbers = self.echo.numbers[self.number]
        eventually(lambda: numbers[-1:] == [self.sent - 1], f"the last message of {self.number} comes back")


class Load:
    """``with Load(urls, subject) as load:`` connects clients, in turn to each of the servers, and sets them to work.

    `group=False`: no subscriptions in a queue group. `threads=True`: the work is done by plain threads, for a test that
    is no task itself; the clients live in the background runtime then, and handlers run in threads of theirs.
    """

    publisher_count = 2
    subscriber_count = 2
    responder_count = 2
    asking = 4  # tasks that make requests, all with one client
    exact: Publisher  # that publishes only to a server that is frozen

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
        self.exact = Publisher(self, self.publisher_count, self._connect())
        for number in range(self.subscriber_count):
            client = self._connect()
            read, polled, handled, member = (
                Collector(f"{kind} {number}") for kind in ("reader", "poller", "handler", "member")
            )
            self.alone += [read, polled, handled]
            self._readers.append(self._spawn(self._read, client.subscribe(f"{self.subject}.*"), read))
            self._readers.append(self._spawn(self._poll, client.subscribe(f"{self.subject}.*"), polled))
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

    def _poll(self, sub: nats_zio.Subscription, collector: Collector) -> None:
        while True:
            begin = time.monotonic()
            try:
                collector.take(sub.next(timeout=NEXT_TIMEOUT))
            except nats_zio.TimeoutError:
                pass
            except nats_zio.ConnectionClosedError:
                return
            assert time.monotonic() - begin < NEXT_TIMEOUT + SLACK, "next() took too long"

    def _publish(self, publisher: Publisher) -> None:
        bursts = 0
        while self._working:
            publisher.publish(BURST)
            bursts += 1
            if bursts % FLUSH_EVERY == 0:
                self._flush(publisher.client)
            zio.sleep(PAUSE)

    def _flush(self, client: nats_zio.Client) -> None:
        begin = time.monotonic()
        try:
            client.flush(timeout=FLUSH_TIMEOUT)
        except (nats_zio.DisconnectedError, nats_zio.TimeoutError):
            pass
        assert time.monotonic() - begin < FLUSH_TIMEOUT + SLACK, "a flush took too long"

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

    def survive(
        self, kills: int, *, kill: Callable[[], object], freeze: Callable[[], object], start: Callable[[], object]
    ) -> None:
        """Have the only server killed so many times and started again; every other time it is frozen before."""
        exact = self.exact
        lost = 0
        for number in range(1, kills + 1):
            self.run_for(0.1)
            exact.client.flush()
            since = exact.sent
            if number % 2:
                away(freeze)
                exact.publish(1 + number * 7 % 40)
            away(kill)
            eventually(lambda: not any(client.is_connected for client in self.clients), "all notice it")
            self.run_for(0.01 * (number % 5))
            away(start)
            self.await_reconnects(dict.fromkeys(self.clients, number))
            exact.publish()
            exact.await_echo()
            missing = exact.missing(since)
            assert len(missing) == exact.books.reported[-1], "the loss reported is not the loss observed"
            assert missing == list(range(since, since + len(missing)))
            lost += len(missing)
        assert lost > 0, "nothing was written to a frozen server"
        assert self.answers["DisconnectedError"] > 0, "no request was under way at any of the kills"

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
        for publisher in self.publishers:
            publisher.await_echo()  # a handler in a thread may be behind; what it has not taken yet is not lost
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
        """What is missing are stretches of messages, each written last before one of the losses and reported by it."""
        for publisher in self.publishers:
            reports = iter(publisher.books.reported)
            stretches = runs(publisher.missing())
            for stretch in stretches:
                assert any(len(stretch) <= report for report in reports), (
                    f"publisher {publisher.number}: lost {[(run[0], len(run)) for run in stretches]}, "
                    f"reported {publisher.books.reported}"
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
