"""A client of a simulated run: its work, what it is doing, and what must hold of what it saw."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from typing import TYPE_CHECKING

import nats_zio
import zio
from nats_zio import ClosedReason, events
from tests.client.simulation.signals import Strike, bears_strikes
from tests.client.simulation.terms import (
    CLOSE_TIMEOUT,
    DRAIN_TIMEOUT,
    FEW,
    FLUSH_TIMEOUT,
    HANDLER_ERRORS,
    HOSTS,
    MOST,
    NEXT_TIMEOUT,
    OPTIONS,
    OUTCOMES,
    PUBLISH_TIMEOUT,
    REQUEST_TIMEOUT,
    body,
    read_body,
    urls,
    within,
)

if TYPE_CHECKING:
    from tests.client.simulation.run import Run
    from zio.testing.sim import Connection


class Member:
    """A client of the run with its work."""

    def __init__(self, run: Run, name: str) -> None:
        self.run = run
        self.name = name
        self.nc: nats_zio.Client = nats_zio.connect(
            urls(name), name=name, verbose=name == "b", abort_on_auth_error=run.choose(True, False), **OPTIONS
        )
        self.seen = self.nc.events()
        self.told: list[events.Event] = []
        self.accepted = 0  # messages that publish has taken, without those of requests
        self.given_up = 0  # messages, as it was told
        self.raised = 0  # errors of handlers
        self.sent = 0
        self.apart = 0
        self.got: dict[str, list[tuple[str, int]]] = {}
        self.subs: dict[str, nats_zio.Subscription] = {}
        self.loops: list[zio.Task[None]] = []
        self.limited: list[tuple[nats_zio.Subscription, int]] = []
        self.requesting = 0
        self.flushing = 0
        self.closing = False
        self.subscribe_all()

    def subscribe_all(self) -> None:
        """What it listens to; later, what an error of the server has ended."""
        for how, make in {
            "iterated": lambda: self.nc.subscribe("data.>"),
            "taken": lambda: self.nc.subscribe("data.*"),
            "handled": lambda: self.nc.subscribe("data.>", cb=self.handle),
            "serving": lambda: self.nc.subscribe("svc", queue="servers", cb=self.serve),
        }.items():
            if how not in self.subs or self.ended_by_an_error(self.subs[how]):
                self.subs[how] = make()
                if how in {"iterated", "taken"}:
                    self.loops.append(zio.spawn(self.iterate if how == "iterated" else self.take))

    def ended_by_an_error(self, sub: nats_zio.Subscription) -> bool:
        """By one that says of a SUB that it was refused; nobody else may have ended it."""
        if sub.closed_reason is None:
            return False
        assert sub.closed_reason is ClosedReason.SERVER_ERROR
        assert isinstance(sub.error, nats_zio.ServerError)
        self.run.check_told(sub.error.text)
        return True

    # What it does all the time.

    def note(self, how: str, message: nats_zio.Message) -> None:
        found = read_body(message.data)
        if message.raw_headers is not None:
            assert message.headers["number"] == str(found[1])
        self.got.setdefault(how, []).append(found)

    def handle(self, message: nats_zio.Message) -> None:
        self.note("handled", message)
        self.raise_perhaps()

    def serve(self, message: nats_zio.Message) -> None:
        self.raise_perhaps()
        message.respond(message.data)

    def raise_perhaps(self) -> None:
        if self.run.handlers_raise and self.run.random.random() < 0.5:
            self.raised += 1
            self.run.result.raised += 1
            raise self.run.choose(*HANDLER_ERRORS)

    def iterate(self) -> None:
        sub = self.subs["iterated"]
        while sub.closed_reason is None:
            try:
                for message in sub:
                    self.note("iterated", message)
            except nats_zio.ServerError as exc:
                self.run.note(f"{self.name} iterating: {exc}")
                return
            except Strike:
                self.run.note(f"{self.name} iterating: struck")

    def take(self) -> None:
        sub = self.subs["taken"]
        while True:
            try:
                message = within(NEXT_TIMEOUT, lambda: sub.next(timeout=NEXT_TIMEOUT))
            except (nats_zio.TimeoutError, Strike):
                continue
            except (nats_zio.SubscriptionClosedError, nats_zio.ServerError):
                return
            self.note("taken", message)

    def publish(self, kind: str | None = None) -> None:
        """The next message of those that one task publishes in order."""
        self.sent += 1
        self.publish_as(self.name, self.sent, kind)

    def publish_slowly(self) -> None:
        """One to those that hear something now and then: their limits last over many connections."""
        self.apart += 1
        self.publish_as(f"{self.name}{self.apart}", 1, None, "slow")

    def publish_apart(self, kind: str | None = None) -> None:
        """A message that has no place in that order: it may have to wait, and others overtake it."""
        self.apart += 1
        self.publish_as(f"{self.name}{self.apart}", 1, kind)

    @bears_strikes
    def publish_as(self, publisher: str, number: int, kind: str | None, subject: str | None = None) -> None:
        """Plain, with a reply subject, with headers, or with both."""
        kind = kind or self.run.choose("plain", "plain", "reply", "headers", "both")
        try:
            within(
                PUBLISH_TIMEOUT,
                lambda: self.nc.publish(
                    subject or f"data.{self.name}",
                    body(publisher, number),
                    reply="to.nobody" if kind in {"reply", "both"} else None,
                    headers={"number": str(number)} if kind in {"headers", "both"} else None,
                ),
            )
        except nats_zio.ReconnectBufferFullError:
            self.run.note(f"{self.name} publish: no room")
        except nats_zio.MaxPayloadError as exc:
            self.run.note(f"{self.name} publish: {exc}")
            self.run.check_lowered()
        except (nats_zio.ConnectionClosedError, nats_zio.DrainingError):
            assert self.closing
        else:
            self.accepted += 1

    def publish_in_handler(self) -> None:
        """As the handler of a signal does: it may not wait, and is told so."""
        self.apart += 1
        try:
            self.nc.publish(f"data.{self.name}", body(f"{self.name}{self.apart}", 1))
        except (zio.BlockingNotAllowed, nats_zio.Error) as exc:
            self.run.note(f"{self.name} publish in a handler: {type(exc).__name__}")
        else:
            self.accepted += 1

    @bears_strikes
    def request(self) -> None:
        token = b"ask %s %d" % (self.name.encode(), self.run.random.randrange(1 << 60))
        try:
            with self.counted("requesting"):
                reply = within(REQUEST_TIMEOUT, lambda: self.nc.request("svc", token, timeout=REQUEST_TIMEOUT))
        except OUTCOMES as exc:
            self.run.note(f"{self.name} request: {type(exc).__name__}")
            if isinstance(exc, nats_zio.TimeoutError):
                self.check_not_in_vain(self.run.asked.get(token))
        except nats_zio.ServerError as exc:  # the inbox was taken for the subscription that it is about
            self.run.check_told(exc.text)
        else:
            assert reply.data == token, f"{reply.data!r} in reply to {token!r}"

    @bears_strikes
    def flush(self) -> None:
        connection = next(iter(self.connections), None) if self.nc.is_connected else None
        try:
            with self.counted("flushing"):
                within(FLUSH_TIMEOUT, lambda: self.nc.flush(timeout=FLUSH_TIMEOUT))
        except (nats_zio.TimeoutError, nats_zio.DisconnectedError) as exc:
            self.run.note(f"{self.name} flush: {type(exc).__name__}")
            if isinstance(exc, nats_zio.TimeoutError):
                self.check_not_in_vain(connection)

    @staticmethod
    def check_not_in_vain(connection: Connection | None) -> None:
        """Whoever had asked on this connection has not waited on when it was lost."""
        assert connection is None or not connection.client.closed

    @bears_strikes
    def subscribe(self, *, limited: bool | None = None) -> None:
        """One more subscription that ends by itself; or one that ends at once."""
        random = self.run.random
        if limited is None:
            limited = random.random() < 0.7 and len(self.limited) < 10
        if not limited:
            self.nc.subscribe("data.>", queue=random.choice([None, "team"])).unsubscribe()
            return
        subject, limit = random.choice([("data.>", random.randrange(1, MOST)), ("slow", random.randrange(1, FEW))])
        if random.random() < 0.5:
            sub = self.nc.subscribe(subject, max_msgs=limit)
        else:
            sub = self.nc.subscribe(subject)
            sub.unsubscribe(after=limit)
        self.limited.append((sub, limit))

    def work(self, *calls: Callable[[], None]) -> None:
        run = self.run
        while not run.over:
            run.random.choice(calls)()
            zio.sleep(run.random.random() * run.choose(0.01, 0.1, 0.3))
            while run.paused:
                zio.sleep(0.01)

    @contextmanager
    def counted(self, what: str) -> Iterator[None]:
        setattr(self, what, getattr(self, what) + 1)
        try:
            yield
        finally:
            setattr(self, what, getattr(self, what) - 1)

    def flush_all(self) -> None:
        within(5, lambda: self.nc.flush(timeout=5))

    # What it is doing, for the table of faults met.

    @property
    def connections(self) -> list[Connection]:
        return [c for c in self.run.network.connections if c.source == self.name and not c.client.closed]

    def state(self) -> str:
        nc = self.nc
        if self.closing:
            return "draining" if nc.status is nats_zio.Status.DRAINING else "closed" if nc.is_closed else "closing"
        if not nc.is_connected:
            return "handshaking" if self.connections else "waiting"
        if any(connection.up.writer is not None for connection in self.connections):
            return "blocked"
        if self.flushing:
            return "flushing"
        if self.requesting:
            return "requesting"
        if any(connection.up.delivered < connection.up.sent for connection in self.connections):
            return "publishing"
        return "idle"

    def bring_about(self, state: str) -> None:
        """Do what leads to a state that does not come often by itself."""
        run = self.run
        run.paused = state == "idle"
        if state == "blocked":
            for connection in self.connections:
                connection.up.allow(run.random.randrange(200))
            zio.spawn(self.publish_apart)
        elif state in {"handshaking", "waiting"}:
            if state == "waiting":
                for host in HOSTS:
                    run.network.host(host).connects = "refuse"
            for connection in self.connections:
                connection.reset()
        elif state == "flushing":
            zio.spawn(self.flush)
        elif state == "requesting":
            zio.spawn(self.request)
        elif state == "publishing":
            zio.spawn(self.publish_apart)
        elif state in {"draining", "closing"} and not self.closing:
            self.closing = True
            zio.spawn(self.drain if state == "draining" else self.close)

    def drain(self) -> None:
        within(DRAIN_TIMEOUT + CLOSE_TIMEOUT, lambda: self.nc.drain(timeout=DRAIN_TIMEOUT))

    def close(self) -> None:
        within(CLOSE_TIMEOUT, self.nc.close)
        assert self.nc.is_closed

    # What must hold.

    def look_at_events(self) -> list[events.Disconnected | events.Reconnected]:
        """All events so far of connections lost and made again: they take turns."""
        self.told += [self.seen.recv() for _ in range(len(self.seen))]
        assert self.seen.dropped == 0
        links = [event for event in self.told if isinstance(event, (events.Disconnected, events.Reconnected))]
        kinds = [type(event) for event in links]
        assert kinds[::2] == [events.Disconnected] * len(kinds[::2]), kinds
        assert kinds[1::2] == [events.Reconnected] * len(kinds[1::2]), kinds
        assert self.nc.stats.reconnects == len(kinds) // 2
        return links

    def check_connected(self) -> None:
        """It is connected, and what is lost is no more than what was reported."""
        links = self.look_at_events()
        assert len(links) % 2 == 0, "not connected again"
        assert self.nc.status is nats_zio.Status.CONNECTED
        lost = [event for event in links if isinstance(event, events.Disconnected)]
        reported = sum(event.unflushed_msgs for event in lost), sum(event.unflushed_bytes for event in lost)
        msgs, size = self.run.arrived(self.name)
        stats = self.nc.stats
        observed = stats.out_msgs - msgs, stats.out_bytes - size
        assert 0 <= observed[0] <= reported[0], f"{observed[0]} messages lost, {reported[0]} reported"
        assert 0 <= observed[1] <= reported[1], f"{observed[1]} bytes lost, {reported[1]} reported"
        self.run.result.lost += observed[0]
        given_up = [event for event in self.told if isinstance(event, events.MessageGivenUp)]
        missing = self.accepted - self.run.published(self.name)
        assert missing <= reported[0] + len(given_up), f"{missing} messages lost, {reported[0]} and {given_up} reported"
        for event in given_up:  # or it has broken the connection twice
            if not isinstance(event.error, nats_zio.DisconnectedError):
                assert isinstance(event.error, nats_zio.MaxPayloadError)
                self.run.check_lowered()
        self.run.result.given_up += len(given_up) - self.given_up
        self.given_up = len(given_up)
        told = [event for event in self.told if isinstance(event, events.CallbackError)]
        assert sum(isinstance(event.error, HANDLER_ERRORS) for event in told) == self.raised

    def check_deliveries(self) -> None:
        """Each subscription had messages once at most, and those of a publisher in the order the server had them."""
        for how, messages in self.got.items():
            for publisher, order in self.run.order.items():
                places = [order[number] for name, number in messages if name == publisher]
                wrong = [pair for pair in pairwise(places) if pair[0] >= pair[1]]
                assert not wrong, f"{self.name} {how}: twice, or not in order, of {publisher}: {wrong}"

    def check_table(self) -> None:
        """The server has the subscriptions that the client has, and no others."""
        (served,) = self.run.serving(self)
        here = {str(sid): (sub.subject, sub.queue) for sid, sub in self.nc._core.table.entries.items()}
        there = {sid: (sub.subject, sub.queue) for sid, sub in served.subscriptions.items()}
        assert here == there

    def check_alive(self) -> None:
        """Each subscription gets what is published now, once; and those with a limit get just so many."""
        before = {how: len(self.got.get(how, [])) for how in self.subs if how != "serving"}
        expected = []
        for _ in range(3):
            for publisher in self.run.members:
                publisher.publish()
                expected.append((publisher.name, publisher.sent))
        for publisher in self.run.members:
            publisher.flush_all()
        zio.sleep(2)
        for how, count in before.items():
            new = self.got.get(how, [])[count:]
            assert sorted(new) == sorted(expected), f"{self.name} {how}: {new} instead of {expected}"

    def check_limits(self) -> None:
        """Those with a limit have got exactly so many."""
        for sub, limit in self.limited:
            if sub.closed_reason is ClosedReason.SERVER_ERROR and self.ended_by_an_error(sub):
                continue
            assert sub.closed_reason is ClosedReason.LIMIT_REACHED, sub
            got = [read_body(message.data) for message in sub.next_batch(1000)]
            assert len(got) == limit, f"{self.name}: {len(got)} messages of at most {limit}"
            assert len(set(got)) == limit

    def check_end(self) -> None:
        """After its close: one Closed and nothing behind it, all loops ended, nothing left."""
        self.look_at_events()
        assert [type(event) for event in self.told].count(events.Closed) == 1
        assert type(self.told[-1]) is events.Closed
        assert self.told[-1].error is None
        assert len(self.nc._core.requests) == 0
        assert not self.nc._core.table.entries
        assert not self.connections
