"""A run of two clients and a server on a simulated network, with faults, and what must hold whatever happens.

A seed decides everything: the network, the work, the faults, their moments and the order of tasks.
"""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import dataclass, field
from itertools import pairwise, product
from typing import Any

import zio
from nats_zio.testing import ScriptedServer
from nats_zio.testing.scripted import Command, ServedClient
from tests.client.catalogue import CATALOGUE
from tests.client.simulation.cuts import CUTS, Cut, Watch
from tests.client.simulation.faults import FAULTS, NOWHERE
from tests.client.simulation.member import Member
from tests.client.simulation.newcomer import Newcomer
from tests.client.simulation.signals import Handler, Moments, Strike
from tests.client.simulation.terms import FEW, HOSTS, MOST, PORT, urls
from zio.testing import SimNetwork, run_virtual
from zio.testing.sim import Connection

# In these a client is struck while it lives; each run has a few of the pairs of state and fault, seed after seed, so
# that none is left to chance. In the last three one client of each run is struck.
LIVING = ("idle", "publishing", "requesting", "flushing", "blocked", "handshaking", "waiting")
STATES = (*LIVING, "connecting", "draining", "closing")
STRIKES = 6
CUTS_A_RUN = 3
REFUSED_FOR = 1.5  # seconds; a client believes what is said for two

PAIRS = list(product(LIVING, FAULTS))
# Seeds after which all that is planned has happened: pairs of state and fault; every place of a cut; in every way.
SEEDS_FOR_PAIRS = max(-(-len(PAIRS) // STRIKES), len(FAULTS))
SEEDS_FOR_PLACES = -(-len({cut[:3] for cut in CUTS}) // CUTS_A_RUN)
SEEDS_FOR_CUTS = -(-len(CUTS) // CUTS_A_RUN)


@dataclass
class Result:
    """What came of a run."""

    seed: int
    log: list[str] = field(default_factory=list)
    journal: str = ""
    met: Counter[tuple[str, str]] = field(default_factory=Counter)  # state and fault
    cut: Counter[Cut] = field(default_factory=Counter)
    errors: Counter[str] = field(default_factory=Counter)  # texts of -ERR
    lost: int = 0
    given_up: int = 0  # messages: mostly larger than a limit that was lowered
    refused: int = 0  # handshakes
    raised: int = 0  # errors of handlers of messages
    signals: int = 0
    struck: int = 0  # times that the main task was told what has struck the loop


class Run:
    """All of it."""

    def __init__(self, seed: int, *, journal: bool) -> None:
        self.random = random.Random(f"simulation {seed}")
        self.result = Result(seed)
        self.over = False
        self.paused = False
        self.handlers_raise = False
        self.lowered = False  # has the server's limit ever been
        self.refusal = ""  # what is said to who wants to log in
        self.refused_until = 0.0
        self.handler = Handler()
        self.lame = False  # the server has announced its end since the last rest
        self.members: list[Member] = []
        self.order: dict[str, dict[int, int]] = {}  # of each publisher: at which place the server had each message
        self.places = 0
        self.asked: dict[bytes, Connection] = {}  # by which connection each question came
        self.watches: list[Watch] = []
        self.target: Cut | None = None
        self.cut_of = ""  # whose connections
        self.hit: Watch | None = None
        self.error = seed * 3
        self.latency = self.choose(0.0005, 0.002, 0.01)
        self.network = SimNetwork(
            seed,
            journal=journal,
            latency=self.latency,
            jitter=self.choose(0.0, 0.002, 0.01),
            buffer=self.choose(4000, 20_000, 65_536),
            split_reads=self.choose(0.0, 0.3, 0.9),
            split_writes=self.choose(0.0, 0.2, 0.5),
        )
        self.network.random = self.moments = Moments(self.network.seed)
        self.network.on_connect = self.connected
        for name, host in product(("a", "b", "c"), HOSTS):
            self.network.alias(f"{name}.{host}", host, source=name)
        for host in NOWHERE:
            self.network.host(host).connects = "refuse"

    def choose(self, *options: Any) -> Any:
        return self.random.choice(options)

    def note(self, text: str) -> None:
        self.result.log.append(f"{zio.now():.6f} {text}")

    # What the server has seen.

    def sees(self, client: ServedClient, command: Command) -> bool:
        """Each message of the work, in the order in which the server gives them out, and each question.

        True if the server is to do nothing with it.
        """
        if command.verb == "CONNECT" and self.refusal and zio.now() < self.refused_until:
            client.error(self.refusal, close=True)
            self.result.refused += 1
            return True
        if command.verb == "PUB" and command.args[0] == "svc":
            self.asked[command.data] = client.stream.connection  # type: ignore[attr-defined]
        elif command.verb in {"PUB", "HPUB"} and command.args[0].startswith(("data.", "slow")):
            name, number = command.data.split(b" ")[:2]
            known = self.order.setdefault(name.decode(), {})
            assert int(number) not in known, f"twice at the server: {command.data[:20]!r}"
            self.places += 1
            known[int(number)] = self.places
        return False

    def arrived(self, name: str) -> tuple[int, int]:
        """How many messages and bytes of a client the server has had.

        No frame of them may be torn. What came by a later connection was published later: nothing is repeated.
        """
        count = size = 0
        numbers: list[int] = []
        for client in self.server.all_clients:
            if client.options.get("name") != name:
                continue
            known = self.lowered and client.violation == "Maximum Payload Violation"
            assert client.violation is None or known, (
                f"a broken frame: {client.violation!r} after {client.commands[-1:]}"
            )
            for command in client.commands:
                if command.verb in {"PUB", "HPUB"}:
                    count += 1
                    size += len(command.headers) + len(command.data)
                    if command.data.startswith(b"%s " % name.encode()):
                        numbers.append(int(command.data.split(b" ")[1]))
        wrong = [pair for pair in pairwise(numbers) if pair[0] >= pair[1]]
        assert not wrong, f"{name} at the server: twice, or not in order: {wrong}"
        return count, size

    def published(self, name: str) -> int:
        """How many of its messages, without requests, the server has had."""
        return sum(len(known) for publisher, known in self.order.items() if publisher.rstrip("0123456789") == name)

    def serving(self, who: Member | Newcomer) -> list[ServedClient]:
        return [client for client in self.server.clients if client.stream.connection.source == who.name]  # type: ignore[attr-defined]

    def next_error(self) -> str:
        """One -ERR of the catalogue after the other."""
        row = CATALOGUE[self.error % len(CATALOGUE)]
        self.error += 1
        self.result.errors[row.text] += 1
        return row.text

    def check_told(self, text: str) -> None:
        """That is an error which the server has sent."""
        assert self.result.errors[text], text

    def lower_limit(self) -> None:
        self.lowered = True
        self.server.max_payload = self.choose(100, 1000)

    def check_lowered(self) -> None:
        """A message may have been too large."""
        assert self.lowered

    def refuse(self, text: str) -> None:
        """From now on, but not for long."""
        self.refusal, self.refused_until = text, zio.now() + REFUSED_FOR

    # Its course.

    def main(self) -> None:
        """The main task: what strikes the loop is told here, and the work goes on."""
        body = zio.spawn(self.body)
        while True:
            try:
                body.join()
                break
            except Strike:
                self.result.struck += 1
        self.check_tasks()

    def body(self) -> None:
        with ScriptedServer("", PORT, ping_interval=1.0, write_deadline=5.0) as self.server:
            self.server.on_command = self.sees
            self.members = [Member(self, name) for name in ("a", "b")]
            busy = []
            for member in self.members:
                busy.append(zio.spawn(member.work, member.publish))
                busy.append(zio.spawn(member.work, member.request, member.flush, member.subscribe))
                busy.append(zio.spawn(member.work, *[member.request] * 3, member.publish_slowly))
            seed = self.result.seed
            for turn in range(STRIKES):
                state, fault = PAIRS[(seed * STRIKES + turn) % len(PAIRS)]
                self.strike(self.choose(*self.members), state, fault)
                self.look_after(busy)
            for turn in range(CUTS_A_RUN):
                self.cut(CUTS[(seed * CUTS_A_RUN + turn) % len(CUTS)])
                self.look_after(busy)
            faults = list(FAULTS)
            self.strike(Newcomer(self), "connecting", faults[(seed + 1) % len(faults)])
            self.over = True
            for task in busy:
                task.join()
            self.rest()
            self.check()
            ends = list(zip(("draining", "closing"), self.random.sample(self.members, 2), strict=True))
            for number, (state, member) in enumerate(ends):
                self.strike(member, state, faults[(seed + number) % len(faults)])
            self.rest()
            for member in self.members:
                member.close()
                for task in member.loops:
                    task.join(timeout=1)
                member.check_end()
            self.rest()
            assert not self.server.clients, "the server still has clients"
            assert not self.network.connections

    def rest(self) -> None:
        """What is on its way arrives, half-open links are found out, who was to leave a lame duck has left it."""
        self.mend()
        zio.sleep(16 if self.lame else 9)
        self.lame = False

    def check(self) -> None:
        """All works again."""
        for member in self.members:
            member.flush_all()
            member.check_connected()
            member.subscribe_all()
        for member in self.members:
            member.flush_all()
            member.check_table()
        for member in self.members:
            member.check_alive()
        for _ in range(MOST):  # whoever waits for so many has them then
            self.members[0].publish("plain")
        for _ in range(FEW):
            self.members[1].publish_slowly()
        for member in self.members:
            member.flush_all()
        zio.sleep(2)
        for member in self.members:
            member.check_limits()
            member.check_table()
            member.check_deliveries()
            member.check_connected()

    def check_tasks(self) -> None:
        loop = zio.lowlevel.here().loop
        left = [task for tree in (loop.root, loop.system, loop.calls) for task in tree.kids or ()]
        assert left == [zio.current_task()] or not left, f"tasks are left: {left}"

    def strike(self, who: Any, state: str, fault: str) -> None:
        """Wait until the client is in that state, and have the fault happen."""
        self.reach(who, state)
        self.paused = False
        self.note(f"{who.name} {state}: {fault}")
        self.result.met[state, fault] += 1
        FAULTS[fault](self, who)
        zio.sleep(self.random.random() * self.choose(0.01, 0.5, 2.0))
        self.mend()
        if state == "connecting":
            who.task.join(timeout=10)
        zio.sleep(self.random.random() * self.choose(0.01, 1.0))

    def reach(self, who: Any, state: str) -> None:
        if state == "connecting":
            zio.sleep(self.random.random() * 8 * self.latency)  # a connect takes about so long
            return
        # Publishing is over in a moment, and hidden while a request waits, as it may for long.
        every = 100 if state == "publishing" else 1000
        for turn in range(20_000):
            if turn % every == 0:
                who.bring_about(state)  # again, since it was about to reconnect, say
            if who.state() == state:
                return
            zio.sleep(0.01 if state == "idle" else self.random.random() * 0.0005)
        raise AssertionError(f"{who.name} was never {state}")

    # Cuts.

    def connected(self, connection: Connection) -> None:
        for direction in ("up", "down"):
            watch = Watch(connection, direction, self.random)
            self.watches.append(watch)
            if self.target is not None and self.hit is None and connection.source == self.cut_of:
                watch.cut(self.target, self.is_hit)

    def is_hit(self, watch: Watch) -> None:
        self.hit = watch
        for other in self.watches:
            if other is not watch:
                other.forget()

    def cut(self, target: Cut) -> None:
        """Cut a connection in this place, and see to it that such a frame comes by."""
        who = self.members[1] if target.verb == "+OK" else self.choose(*self.members)
        self.watches = [watch for watch in self.watches if watch.connection.open]
        self.target, self.cut_of, self.hit = target, who.name, None
        for watch in self.watches:
            if watch.connection.source == self.cut_of:
                watch.cut(target, self.is_hit)
        for _ in range(300):
            if self.hit is not None:
                break
            self.provoke(who, target)
            zio.sleep(0.05)
        self.target = None
        assert self.hit is not None, f"{target} never came by"
        self.note(f"{who.name} {target}")
        self.result.cut[target] += 1
        if target.way != "lost":
            zio.sleep(self.random.random() * 0.1)
            connection, flow = self.hit.connection, self.hit.flow
            if target.way == "reset":
                connection.reset()
            elif target.way == "silent":
                connection.vanish()
                zio.sleep(3)
            elif target.direction == "down":
                flow.finish()
            else:
                connection.down.finish()
        zio.sleep(self.random.random() * 0.5)
        self.mend()

    def provoke(self, who: Member, target: Cut) -> None:
        """Have the client or the server send such a frame."""
        kind = {"reply": "both" if target.verb[0] == "H" else "reply"}.get(
            target.part, "headers" if target.verb[0] == "H" else "plain"
        )
        if target.verb in {"PUB", "HPUB", "MSG", "HMSG"}:
            zio.spawn(who.publish_apart, kind)
        elif target.verb in {"SUB", "UNSUB"}:
            who.subscribe(limited=None if target.part != "max" else True)
        elif target.verb == "CONNECT":
            who.nc.force_reconnect()
        elif target.direction == "up" and target.verb == "PING":
            zio.spawn(who.flush)
        for client in self.serving(who):
            if target.verb == "INFO":
                client.send(client.info_line())
            elif target.verb == "-ERR":
                client.error("Something New")
            elif target.verb in {"PING", "PONG"} and target.direction == "down":
                zio.spawn(who.flush) if target.verb == "PONG" else client.send(b"PING\r\n")
            elif target.verb == "PONG":
                client.send(b"PING\r\n")

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
        self.handlers_raise = False
        self.refusal = ""
        self.moments.strike = None
        server = self.server
        server.max_payload = 1 << 20
        server.pong = "send"
        server.split = None
        server.greeting = None
        for client in server.clients:
            client.reading.set()
        if not server.listening:
            server.start()
        server.info(ldm=False)
        for who in self.members:
            for client in self.serving(who):
                client.send(client.info_line(connect_urls=[url.removeprefix("nats://") for url in urls(who.name)]))

    @staticmethod
    def look_after(busy: list[zio.Task[None]]) -> None:
        for task in busy:
            if task.done:
                task.join()


def simulate(seed: int, *, journal: bool = False) -> Result:
    """Run it with this seed. What goes wrong is raised with the end of its log and journal.

    The journal takes time, and a seed repeats exactly: so it is kept only in a second run, of a seed that has failed.
    """
    run = Run(seed, journal=journal)
    try:
        with run.handler:
            run_virtual(run.main, seed=seed, network=run.network)
    except BaseException as exc:
        if not journal:
            simulate(seed, journal=True)
        log = "\n".join(run.result.log[-20:])
        exc.add_note(f"to repeat it: python -m tests.client.simulation {seed}\n{log}\n{run.network.report(last=40)}")
        raise
    run.result.journal = run.network.report()
    return run.result
