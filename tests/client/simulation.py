"""A run of two clients and a server on a simulated network, with faults, and what must hold whatever happens.

A seed decides everything: the network, the work, the faults, their moments and the order of tasks.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise, product
from typing import Any

import nats_zio
import zio
from nats_zio import events
from nats_zio.testing import ScriptedServer
from zio.testing import SimNetwork, run_virtual
from zio.testing.sim import Connection

HOSTS = ("s1", "s2")  # one server, reached in two ways
PORT = 4222
REQUEST_TIMEOUT = 1.0
FLUSH_TIMEOUT = 0.7
NEXT_TIMEOUT = 0.3
DRAIN_TIMEOUT = 10.0
SLACK = 1e-6  # rounding: nothing may end later than its timeout

STATES = ("idle", "publishing", "requesting", "flushing", "blocked", "handshaking", "waiting", "draining")
# Of every run: seed after seed the pairs are gone through, so that none is left to chance.
TARGETS = 6


@dataclass
class Result:
    """What came of a run."""

    seed: int
    journal: str = ""
    log: list[str] = field(default_factory=list)
    met: Counter[tuple[str, str]] = field(default_factory=Counter)
    bytes: Counter[str] = field(default_factory=Counter)  # where in a frame the server's input was cut off
    lost: int = 0


class Member:
    """A client of the run with its work, and what it saw."""

    def __init__(self, run: Run, name: str) -> None:
        self.run = run
        self.name = name
        self.nc: nats_zio.Client = nats_zio.connect(
            [f"nats://{name}.{host}:{PORT}" for host in HOSTS],
            name=name,
            ping_interval=0.5,
            max_outstanding_pings=2,
            connect_timeout=1.0,
            reconnect_wait=0.02,
            reconnect_max_wait=0.3,
            reconnect_buffer_size=200_000,
        )
        self.seen = self.nc.events()
        self.sent = 0
        self.got: dict[str, list[tuple[str, int]]] = {}
        self.subs = {
            "iterated": self.nc.subscribe("data.>"),
            "taken": self.nc.subscribe("data.*"),
            "handled": self.nc.subscribe("data.>", cb=lambda message: self.note("handled", message)),
        }
        self.limited = self.nc.subscribe("data.>", max_msgs=30)
        self.nc.subscribe("svc", queue="servers", cb=lambda message: message.respond(message.data))

    def note(self, how: str, message: nats_zio.Message) -> None:
        publisher, number = message.data.split(b" ")[:2]
        self.got.setdefault(how, []).append((publisher.decode(), int(number)))

    def iterate(self) -> None:
        for message in self.subs["iterated"]:
            self.note("iterated", message)

    def take(self) -> None:
        sub = self.subs["taken"]
        while True:
            try:
                message = self.within(NEXT_TIMEOUT, lambda: sub.next(timeout=NEXT_TIMEOUT))
            except nats_zio.TimeoutError:
                continue
            except nats_zio.SubscriptionClosedError:
                return
            self.note("taken", message)

    def publish(self) -> None:
        size = self.run.choose(0, 0, 10, 100, 1500)
        try:
            self.nc.publish(f"data.{self.name}", b"%s %d " % (self.name.encode(), self.sent + 1) + b"x" * size)
        except nats_zio.ReconnectBufferFullError:
            return
        self.sent += 1

    def request(self) -> None:
        token = b"%s %d" % (self.name.encode(), self.run.random.randrange(1 << 60))
        try:
            reply = self.within(REQUEST_TIMEOUT, lambda: self.nc.request("svc", token, timeout=REQUEST_TIMEOUT))
        except (
            nats_zio.TimeoutError,
            nats_zio.DisconnectedError,
            nats_zio.NoRespondersError,
            nats_zio.ReconnectBufferFullError,
        ) as exc:
            self.run.note(f"{self.name} request: {type(exc).__name__}")
        else:
            assert reply.data == token, f"{reply.data!r} in reply to {token!r}"
            self.run.note(f"{self.name} request answered")

    def flush(self) -> None:
        try:
            self.within(FLUSH_TIMEOUT, lambda: self.nc.flush(timeout=FLUSH_TIMEOUT))
        except (nats_zio.TimeoutError, nats_zio.DisconnectedError) as exc:
            self.run.note(f"{self.name} flush: {type(exc).__name__}")

    def work(self, *calls: Callable[[], None]) -> None:
        while not self.run.over:
            self.run.random.choice(calls)()
            zio.sleep(self.run.random.random() * self.run.choose(0.002, 0.05, 0.2))
            while self.run.paused:
                zio.sleep(0.01)

    def within(self, seconds: float, call: Callable[[], Any]) -> Any:
        start = zio.now()
        try:
            return call()
        finally:
            took = zio.now() - start
            assert took <= seconds + SLACK, f"{took} s instead of at most {seconds} s"

    # What it is doing, for the table of faults met.

    @property
    def connections(self) -> list[Connection]:
        return [c for c in self.run.network.connections if c.source == self.name and not c.client.closed]

    def state(self) -> str:
        nc = self.nc
        session, outbound = nc._session, nc.outbound
        if nc.status is nats_zio.Status.DRAINING:
            return "draining"
        if session.connection is None:
            return "handshaking" if self.connections else "waiting"
        if outbound._rest is not None:
            return "blocked"
        if any(waiter is not None and not waiter.state for waiter, *_ in session._pongs):
            return "flushing"
        if len(nc.requests):
            return "requesting"
        if any(c.up.delivered < c.up.sent for c in self.connections):
            return "publishing"
        return "idle"

    def bring_about(self, state: str) -> None:
        """Do what leads to a state that does not come often by itself."""
        run = self.run
        run.paused = state == "idle"
        if state == "blocked":
            for connection in self.connections:
                connection.up.allow(run.random.randrange(200))
            self.publish()
        elif state in {"handshaking", "waiting"}:
            if state == "waiting":
                for host in HOSTS:
                    run.network.host(host).connects = "refuse"
            for connection in self.connections:
                connection.reset()
        elif state == "draining":
            zio.spawn(self.drain)

    def drain(self) -> None:
        self.within(DRAIN_TIMEOUT + nats_zio.client.CLOSE_TIMEOUT, lambda: self.nc.drain(timeout=DRAIN_TIMEOUT))

    # What must hold.

    def check_connected(self) -> None:
        """Disconnected and Reconnected take turns, and the last one is Reconnected."""
        told = [self.seen.recv() for _ in range(len(self.seen))]
        links = [event for event in told if isinstance(event, (events.Disconnected, events.Reconnected))]
        kinds = [type(event) for event in links]
        assert kinds == [events.Disconnected, events.Reconnected] * (len(kinds) // 2), kinds
        assert self.nc.stats.reconnects == len(kinds) // 2
        reported = sum(event.unflushed_msgs for event in links if isinstance(event, events.Disconnected))
        arrived = self.run.arrived(self.name)
        lost = self.nc.stats.out_msgs - arrived
        assert 0 <= lost <= reported, f"{lost} messages lost, {reported} reported"
        self.run.result.lost += lost

    def check_deliveries(self) -> None:
        for how, messages in self.got.items():
            for publisher in self.run.members:
                numbers = [number for name, number in messages if name == publisher.name]
                assert numbers == sorted(set(numbers)), f"{self.name} {how}, {publisher.name}: {_disorder(numbers)}"
        assert self.limited.delivered + self.limited.pending_msgs <= 30

    def check_alive(self) -> None:
        """Each subscription gets what is published now, once."""
        before = {how: len(self.got.get(how, [])) for how in self.subs}
        for publisher in self.run.members:
            publisher.nc.publish("data.end", b"%s %d " % (publisher.name.encode(), publisher.sent + 1))
            publisher.sent += 1
            publisher.nc.flush(timeout=5)
        zio.sleep(2)
        for how, count in before.items():
            new = self.got.get(how, [])[count:]
            assert sorted(new) == [(p.name, p.sent) for p in self.run.members], f"{self.name} {how}: {new}"


class Run:
    """All of it."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(f"simulation {seed}")
        self.result = Result(seed)
        self.over = False
        self.paused = False
        self.vanished: list[Connection] = []
        self.members: list[Member] = []
        self.latency = self.choose(0.0005, 0.002, 0.01)
        self.network = SimNetwork(
            seed,
            latency=self.latency,
            jitter=self.choose(0.0, 0.002, 0.01),
            buffer=self.choose(4000, 20_000, 65_536),
            split_reads=self.choose(0.0, 0.3, 0.9),
            split_writes=self.choose(0.0, 0.2, 0.5),
        )
        for name, host in product(("a", "b"), HOSTS):
            self.network.alias(f"{name}.{host}", host, source=name)

    def choose(self, *options: Any) -> Any:
        return self.random.choice(options)

    def note(self, text: str) -> None:
        self.result.log.append(f"{zio.now():.6f} {text}")

    def arrived(self, name: str) -> int:
        """How many messages of a client the server has had; no frame of them may be torn or come twice."""
        count = 0
        numbers: list[int] = []
        for client in self.server.all_clients:
            if client.options.get("name") != name:
                continue
            assert client.violation is None, f"a broken frame: {client.violation!r} after {client.commands[-1:]}"
            for command in client.commands:
                if command.verb in {"PUB", "HPUB"}:
                    count += 1
                    if command.args[0].startswith("data."):
                        numbers.append(int(command.data.split(b" ")[1]))
        assert numbers == sorted(set(numbers)), f"{name} at the server: {_disorder(numbers)}"
        return count

    def main(self) -> None:
        with ScriptedServer("", PORT, ping_interval=1.0) as self.server:
            self.members = [Member(self, name) for name in ("a", "b")]
            work = [zio.spawn(member.iterate) for member in self.members]
            work += [zio.spawn(member.take) for member in self.members]
            busy = []
            for member in self.members:
                busy.append(zio.spawn(member.work, member.publish))
                busy.append(zio.spawn(member.work, member.request, member.flush))
            pairs = list(product(STATES[:-1], FAULTS))
            for turn in range(TARGETS):
                state, fault = pairs[(self.result.seed * TARGETS + turn) % len(pairs)]
                self.strike(self.choose(*self.members), state, fault)
                self.look_after(busy)
            self.mend()
            self.over = True
            for task in busy:
                task.join()
            zio.sleep(10)  # what is on its way arrives, and links that are half-open are found out
            for member in self.members:
                member.nc.flush(timeout=5)
                member.check_connected()
            for member in self.members:
                member.check_alive()
                member.check_deliveries()
            last = self.choose(*self.members)
            self.strike(last, "draining", list(FAULTS)[self.result.seed % len(FAULTS)])
            for member in self.members:
                member.within(DRAIN_TIMEOUT + 4, member.nc.close)
                assert member.nc.is_closed
            self.mend()
            for task in work:
                task.join(timeout=1)
            zio.sleep(10)
            left = [client for client in self.server.clients if client.stream.connection not in self.vanished]  # type: ignore[attr-defined]
            assert not left, left

    def strike(self, member: Member, state: str, fault: str) -> None:
        """Wait until the client is in that state, and have the fault happen."""
        member.bring_about(state)
        for turn in range(20_000):
            if member.state() == state:
                break
            if turn % 1000 == 999:
                member.bring_about(state)  # it was about to reconnect, say
            zio.sleep(self.random.random() * 0.0005)
            if state == "idle":
                zio.sleep(0.01)
        else:
            raise AssertionError(f"{member.name} was never {state}")
        self.paused = False
        self.note(f"{member.name} {state}: {fault}")
        self.result.met[state, fault] += 1
        FAULTS[fault](self, member)
        zio.sleep(self.random.random() * self.choose(0.01, 0.5, 3.0))
        self.mend()
        zio.sleep(self.random.random() * self.choose(0.01, 1.0))

    def mend(self) -> None:
        """Everything works again; half-open links stay as they are."""
        self.network.heal()
        for host in HOSTS:
            self.network.host(host).connects = "accept"
            self.network.host(host).connect_delay = 0.0
        for connection in self.network.connections:
            connection.up.allow(None)
            connection.down.allow(None)
        self.network.change_links(latency=self.latency)
        self.server.pong = "send"
        self.server.split = None
        self.server.greeting = None
        for client in self.server.clients:
            client.reading.set()
        if self.server._listener is None:
            self.server.start()

    @staticmethod
    def look_after(busy: list[zio.Task[None]]) -> None:
        for task in busy:
            if task.done:
                task.join()

    def serving(self, member: Member) -> list[Any]:
        return [client for client in self.server.clients if client.options.get("name") == member.name]


def _disorder(numbers: list[int]) -> str:
    pairs = [pair for pair in pairwise(numbers) if pair[0] >= pair[1]]
    return f"twice, or not in order: {pairs}"


Fault = Callable[[Run, Member], object]
FAULTS: dict[str, Fault] = {}


def fault(act: Fault) -> Fault:
    FAULTS[act.__name__.replace("_", " ")] = act
    return act


@fault
def reset(run: Run, member: Member) -> None:
    for connection in member.connections:
        connection.reset()


@fault
def reset_at_a_byte_sent(run: Run, member: Member) -> None:
    for connection in member.connections:
        connection.up.reset_at(connection.up.delivered + 1 + run.random.randrange(300))
    member.publish()


@fault
def reset_at_a_byte_received(run: Run, member: Member) -> None:
    for connection in member.connections:
        connection.down.reset_at(connection.down.delivered + 1 + run.random.randrange(300))


@fault
def half_open(run: Run, member: Member) -> None:
    for connection in member.connections:
        run.vanished.append(connection)
        run.choose(connection, connection.up, connection.down).vanish()
    zio.sleep(4)


@fault
def partition(run: Run, member: Member) -> None:
    run.network.partition(member.name, run.choose(HOSTS, *HOSTS))


@fault
def refused(run: Run, member: Member) -> None:
    for host in HOSTS:
        run.network.host(host).connects = "refuse"
    reset(run, member)


@fault
def black_hole(run: Run, member: Member) -> None:
    for host in run.choose(HOSTS, HOSTS[:1]):
        run.network.host(host).connects = "drop"
    reset(run, member)


@fault
def slow(run: Run, member: Member) -> None:
    run.network.change_links(latency=0.5)


@fault
def write_stalls_and_breaks(run: Run, member: Member) -> None:
    for connection in member.connections:
        connection.up.allow(run.random.randrange(300))
    zio.spawn(member.publish)  # it may have to wait
    zio.sleep(run.random.random())
    reset(run, member)


@fault
def server_closes(run: Run, member: Member) -> None:
    for client in run.serving(member):
        client.close()


@fault
def server_half_closes(run: Run, member: Member) -> None:
    for client in run.serving(member):
        client.half_close()


@fault
def server_killed(run: Run, member: Member) -> None:
    run.server.kill()


@fault
def server_error_and_end(run: Run, member: Member) -> None:
    for client in run.serving(member):
        client.error(run.choose("Stale Connection", "Unknown Protocol Operation", "Authentication Timeout"), close=True)


@fault
def server_sends_nonsense(run: Run, member: Member) -> None:
    for client in run.serving(member):
        client.send(run.choose(b"\x00\xff\r\n", b"MSG a 1 x\r\n", b"HTTP/1.1 400 Bad Request\r\n"))


@fault
def server_reads_nothing(run: Run, member: Member) -> None:
    for client in run.serving(member):
        client.reading.clear()


@fault
def late_pongs(run: Run, member: Member) -> None:
    run.server.pong = 3.0


@fault
def byte_by_byte(run: Run, member: Member) -> None:
    run.server.split = 1
    run.server.info(anything="new")


@fault
def forced_by_the_user(run: Run, member: Member) -> None:
    member.nc.force_reconnect()


def simulate(seed: int) -> Result:
    """Run it with this seed. What goes wrong is raised with the end of the journal."""
    run = Run(seed)
    try:
        run_virtual(run.main, seed=seed, network=run.network)
    except BaseException as exc:
        log = "\n".join(run.result.log[-20:])
        exc.add_note(f"seed {seed}\n{log}\n{run.network.report(last=40)}")
        raise
    run.result.journal = run.network.report()
    return run.result
