"""A network that exists in memory only, with the faults of a real one, in the time of the runtime's clock.

A connection is two flows of bytes, one each way. A flow takes bytes from its sender while its buffer has room, carries
them over the link between the two hosts (latency, jitter, bandwidth; held back while the link is cut) and keeps them
until the receiver reads them. All chance comes from the network's own seeded generator, and everything that happens
goes into ``journal``; so under a virtual clock and a seeded scheduler a run repeats exactly, and the journal shows it.
"""

from __future__ import annotations

import errno
import os
import random
from collections import Counter, deque
from collections.abc import Iterable
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Self
from zlib import crc32

from .._core import Busy, Closed, Fiber, Loop, Waiter, WrongLoop, here
from ..net import Stream

if TYPE_CHECKING:
    from collections.abc import Callable

    from .._core import Clock

ANY_HOST = "*"  # where a listener hears connections to every host
SYN_TIMEOUT = 127.0  # seconds after which the system gives up connecting

_LOCAL = "local"
_WILDCARDS = ("", "0.0.0.0", "::", ANY_HOST)


class Entry(NamedTuple):
    """Something that happened; ``size`` in bytes, ``mark`` a checksum of them."""

    time: float
    where: str
    what: str
    size: int = 0
    mark: int = 0

    def __str__(self) -> str:
        size = f" {self.size}" if self.size else ""
        mark = f" [{self.mark:08x}]" if self.mark else ""
        return f"{self.time:14.6f} {self.where}: {self.what}{size}{mark}"


@dataclass(slots=True)
class Link:
    """What one way between two hosts is like; may be changed at any time. Seconds and bytes."""

    latency: float = 0.001
    jitter: float = 0.0  # up to so much is added to the latency; bytes never overtake each other
    bandwidth: float | None = None  # bytes a second, for each connection
    buffer: int = 65536  # bytes sent and not read yet, at most
    split_reads: float = 0.0  # the probability that a read gives only a part of what is there
    split_writes: float = 0.0  # the probability that a write takes only a part of what there is room for
    reset_every: float | None = None  # connections are reset after so many bytes on average
    cut: bool = False  # nothing gets through; it is sent again when the link is whole again


@dataclass(slots=True)
class Host:
    """What happens to those who connect to a host."""

    connects: Literal["accept", "refuse", "drop"] = "accept"  # drop: no answer at all
    connect_delay: float = 0.0  # seconds before the answer


class _At:
    """An entry in the loop's heap of timers that calls a function of no task."""

    sleeping = True

    def __init__(self, call: Callable[..., object], *args: object) -> None:
        self._call = call
        self._args = args

    def expire(self) -> None:
        self._call(*self._args)

    def alive(self, _deadline: float) -> bool:
        return True


class Flow:
    """One way of a connection. Its bytes are counted when taken from the sender (``sent``) and when delivered."""

    def __init__(self, connection: Connection, link: Link, name: str) -> None:
        self.link = link
        self.sent = 0
        self.delivered = 0
        self._connection = connection
        self._loop = connection.loop
        self._name = name
        self.receiver: SimStream
        self.unread: deque[bytes] = deque()
        self._size = 0  # taken from the sender and not read
        self._allowed: int | None = None
        self._stalled = False
        self._reset_at: int | None = None
        self._vanishing = False
        self._broken_off = False  # by a reset that was sent
        self.finished = False  # the sender has ended its side
        self.ended = False  # the receiver knows
        self._free_at = 0.0
        self._last_arrival = 0.0
        self._in_flight = 0
        self._held: deque[tuple[str, bytes]] = deque()
        self.reader: Waiter | None = None
        self.writer: Waiter | None = None

    # Faults.

    def allow(self, count: int | None) -> None:
        """From now on take only ``count`` more bytes from the sender, as if there were no more room; None: no limit."""
        self._allowed = None if count is None else self.sent + count
        self._note("allowed", count or 0)
        self._wake_writer()

    def reset_at(self, count: int) -> None:
        """Reset the connection when the byte number ``count`` of this flow has come to the receiver."""
        self._reset_at = count
        if self.delivered >= count:
            self._connection.reset()

    def vanish(self) -> None:
        """From now on lose everything that is sent, without a word to either side."""
        self._vanishing = True
        self._held.clear()
        self._note("vanishing")

    # The sender's side.

    def take(self, data: bytes | bytearray | memoryview) -> int:
        """Take what there is room for; how many bytes."""
        link = self.link
        with memoryview(data) as whole, whole.cast("B") as view:
            count = min(len(view), self.room)
            if count and link.split_writes and self._random.random() < link.split_writes:
                count = self._random.randrange(count)
                self._stalled = True
                self._after(self._random.random() * (link.latency + link.jitter), self._go_on)
                self._note("write split", count)
            if not count:
                return 0
            chunk = bytes(view[:count])
        self.sent += count
        self._size += count
        self._note("sent", count, crc32(chunk))
        self._transmit("data", chunk)
        return count

    @property
    def room(self) -> int:
        """How many bytes it would take now."""
        if self._stalled:
            return 0
        room = max(self.link.buffer - self._size, 0)
        return room if self._allowed is None else min(room, self._allowed - self.sent)

    def _go_on(self) -> None:
        self._stalled = False
        self._wake_writer()

    def finish(self) -> None:
        """End it behind what was sent."""
        if not self.finished:
            self.finished = True
            self._note("end sent")
            if self.writer is not None:
                self.writer.wake()
            self._transmit("end", b"")

    def send_reset(self) -> None:
        """Have the other side find the connection reset."""
        if not self._broken_off:
            self.finished = self._broken_off = True
            self._note("reset sent")
            self._transmit("reset", b"")

    # On the way.

    def _transmit(self, kind: str, data: bytes) -> None:
        if self._vanishing:
            self._note(f"{kind} vanished", len(data))
        elif self.link.cut or self._held:
            self._held.append((kind, data))
        else:
            self._depart(kind, data)

    def release(self) -> None:
        """The link may be whole again."""
        if not self.link.cut:
            while self._held:
                self._depart(*self._held.popleft())

    def _depart(self, kind: str, data: bytes) -> None:
        link = self.link
        now = self._loop.clock.now()
        depart = now
        if link.bandwidth is not None:
            depart = self._free_at = max(now, self._free_at) + len(data) / link.bandwidth
        arrival = depart + link.latency
        if link.jitter:
            arrival += link.jitter * self._random.random()
        arrival = self._last_arrival = max(arrival, self._last_arrival)
        if arrival <= now and not self._in_flight:
            self._arrive(kind, data)
        else:
            self._in_flight += 1
            self._loop.timers.push(arrival, _At(self._land, kind, data))

    def _land(self, kind: str, data: bytes) -> None:
        self._in_flight -= 1
        if not self._vanishing:
            self._arrive(kind, data)
        else:
            self._note(f"{kind} vanished", len(data))

    def _arrive(self, kind: str, data: bytes) -> None:
        receiver = self.receiver
        if receiver.failed:
            return
        if kind == "reset":
            self._note("reset arrived")
            receiver.fail()
        elif receiver.closed:
            if kind == "data":
                receiver.out.send_reset()  # nobody reads that
        elif kind == "end":
            self.ended = True
            self._wake_reader()
        else:
            cut = self._reset_at
            if cut is not None and self.delivered + len(data) >= cut:
                data = data[: max(cut - self.delivered, 0)]
            self.delivered += len(data)
            self._note("arrived", len(data))
            if data:
                self.unread.append(data)
                self._wake_reader()
            if cut is not None and self.delivered >= cut:
                self._connection.reset()

    # The receiver's side.

    def read(self, n: int) -> bytes:
        """At most ``n`` of the bytes that have come, at least one."""
        link = self.link
        unread = self.unread
        if n > 1 and link.split_reads and self._random.random() < link.split_reads:
            n = 1 + self._random.randrange(min(n, sum(map(len, unread))))
            self._note("read split", n)
        chunk = unread.popleft()
        if unread and len(chunk) < n:
            parts, have = [chunk], len(chunk)
            while unread and have < n:
                parts.append(unread.popleft())
                have += len(parts[-1])
            chunk = b"".join(parts)
        if len(chunk) > n:
            unread.appendleft(chunk[n:])
            chunk = chunk[:n]
        self._size -= len(chunk)
        self._wake_writer()
        return chunk

    def discard(self) -> None:
        self.unread.clear()

    # Help.

    @property
    def _random(self) -> random.Random:
        return self._connection.random

    def _after(self, seconds: float, call: Callable[..., object], *args: object) -> None:
        self._loop.timers.push(self._loop.clock.now() + seconds, _At(call, *args))

    def _note(self, what: str, size: int = 0, mark: int = 0) -> None:
        self._connection.note(self._name, what, size, mark)

    def _wake_reader(self) -> None:
        if self.reader is not None:
            self.reader.wake()

    def _wake_writer(self) -> None:
        if self.writer is not None and self.room > 0:
            self.writer.wake()


class SimStream(Stream):
    """One end of a simulated connection."""

    def __init__(self, connection: Connection, name: str, incoming: Flow, outgoing: Flow) -> None:
        self.connection = connection
        self.out = outgoing
        self.closed = False
        self.failed = False
        self._loop = connection.loop
        self._in = incoming
        self._name = name
        incoming.receiver = self

    def recv(self, n: int) -> bytes:
        fiber = self._enter("recv")
        if self._rest:
            data, self._rest = self._rest[:n], self._rest[n:]
            return data
        flow = self._in
        while not flow.unread:
            if self.closed:  # while this task was on its way, woken by what is discarded now
                raise Closed(f"{self!r} is closed")
            if self.failed:
                raise _reset_error()
            if flow.ended:
                return b""
            if flow.reader is not None:
                raise Busy(f"{flow.reader.fiber.task!r} is reading from {self!r} already")
            flow.reader = waiter = Waiter(fiber, self)
            try:
                self._loop.wait(waiter, None, _nothing)
            finally:
                flow.reader = None
        return flow.read(n)

    def recv_into(self, buffer: bytearray | memoryview) -> int:
        """Like ``recv``, into ``buffer``; the number of bytes, 0 at the end of the stream."""
        data = self.recv(len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def send_all(self, data: bytes | bytearray | memoryview) -> None:
        fiber = self._enter("send_all")
        if self.out.writer is not None:
            raise Busy(f"{self.out.writer.fiber.task!r} is writing to {self!r} already")
        rest = memoryview(data).cast("B")
        while True:
            rest = rest[self.send_some(rest) :]
            if not rest:
                return
            self._wait_writable(fiber)

    def send_some(self, data: bytes | bytearray | memoryview) -> int:
        if self.closed:
            raise Closed(f"{self!r} is closed")
        if self.failed:
            raise _reset_error()
        if self.out.finished:
            raise BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE))
        return self.out.take(data)

    def wait_writable(self) -> None:
        """Wait until ``send_some`` may have room again."""
        self._wait_writable(self._enter("wait_writable"))

    def _wait_writable(self, fiber: Fiber) -> None:
        flow = self.out
        if flow.room > 0 or self.failed or flow.finished:
            return
        if flow.writer is not None:
            raise Busy(f"{flow.writer.fiber.task!r} is writing to {self!r} already")
        flow.writer = waiter = Waiter(fiber, self)
        try:
            self._loop.wait(waiter, None, _nothing)
        finally:
            flow.writer = None

    def shutdown_write(self) -> None:
        if self.closed:
            raise Closed(f"{self!r} is closed")
        if not self.failed:
            self.out.finish()

    def close(self) -> None:
        if self.closed:
            return
        self.closed = True
        self.connection.note(self._name, "closed")
        for waiter in (self._in.reader, self.out.writer):
            if waiter is not None:
                waiter.fail(Closed(f"{self!r} was closed"))
        if not self.failed:
            if self._in.unread:
                self.out.send_reset()  # as systems do when the program has not read everything
            else:
                self.out.finish()
        self._in.discard()
        self.connection.settled()

    def fail(self) -> None:
        """The connection has been reset."""
        if self.failed or self.closed:
            return
        self.failed = True
        if self._in.unread and self.connection.random.random() < 0.5:  # systems differ
            self._in.discard()
        for waiter in (self._in.reader, self.out.writer):
            if waiter is not None:
                waiter.wake()
        self.connection.settled()

    def _enter(self, what: str) -> Fiber:
        fiber = here()
        loop = self._loop
        if fiber.loop is not loop:
            raise WrongLoop(f"{what}: the stream belongs to {loop!r}, this task to {fiber.loop!r}")
        if self.closed:
            raise Closed(f"{self!r} is closed")
        if loop.budget <= 0:
            loop.checkpoint(fiber)
            if self.closed:
                raise Closed(f"{self!r} is closed")
        else:
            loop.budget -= 1
        return fiber

    def __repr__(self) -> str:
        state = "closed" if self.closed else "reset" if self.failed else "open"
        return f"<SimStream {self._name} {state}>"


class Connection:
    """A connection between two hosts: ``up`` is what the one that connected sends, ``down`` what the other sends."""

    def __init__(
        self,
        network: SimNetwork,
        number: int,
        source: str,
        target: str,
        port: int,
    ) -> None:
        self.network = network
        self.number = number
        self.source = source
        self.target = target
        self.port = port
        self.loop: Loop = here().loop
        self.random = network.random
        self.open = True
        self.up = Flow(self, network.link(source, target), f"#{number} {source}>{target}")
        self.down = Flow(self, network.link(target, source), f"#{number} {target}>{source}")
        self.client = SimStream(self, f"#{number} {source}", self.down, self.up)
        self.server = SimStream(self, f"#{number} {target}", self.up, self.down)
        for flow in (self.up, self.down):
            if flow.link.reset_every is not None:
                flow.reset_at(1 + int(self.random.expovariate(1 / flow.link.reset_every)))

    def reset(self) -> None:
        """Reset it, for both sides at once."""
        self.note(f"#{self.number}", "reset")
        self.client.fail()
        self.server.fail()

    def vanish(self) -> None:
        """Make it half-open: what either side sends is lost, and neither is told."""
        self.up.vanish()
        self.down.vanish()

    def note(self, where: str, what: str, size: int = 0, mark: int = 0) -> None:
        self.network.note(where, what, size, mark)

    def settled(self) -> None:
        """One side is done with it."""
        if self.open and all(stream.closed or stream.failed for stream in (self.client, self.server)):
            self.open = False
            self.network.forget(self)

    def __repr__(self) -> str:
        return f"<Connection #{self.number} {self.source}>{self.target}:{self.port}{'' if self.open else ' over'}>"


class SimListener:
    """The listening side of a simulated host. Iterating accepts; ``with`` closes it."""

    def __init__(self, network: SimNetwork, host: str, port: int) -> None:
        self.address = (host, port)
        self.port = port
        self._network = network
        self._loop = here().loop
        self._arrived: deque[SimStream] = deque()
        self._waiter: Waiter | None = None
        self._closed = False

    def arrive(self, stream: SimStream) -> None:
        self._arrived.append(stream)
        if self._waiter is not None:
            self._waiter.wake()

    def accept(self) -> SimStream:
        """Wait for a connection. zio.Closed when the listener gets closed; a cancel takes no connection."""
        fiber = here()
        if self._loop.budget <= 0:
            self._loop.checkpoint(fiber)
        else:
            self._loop.budget -= 1
        while not self._arrived:
            if self._closed:
                raise Closed("the listener is closed")
            if self._waiter is not None:
                raise Busy(f"{self._waiter.fiber.task!r} is accepting from this listener already")
            self._waiter = waiter = Waiter(fiber, self)
            try:
                self._loop.wait(waiter, None, _nothing)
            finally:
                self._waiter = None
        return self._arrived.popleft()

    def close(self) -> None:
        """Stop listening; connections nobody has accepted are reset. Never blocks; idempotent."""
        if not self._closed:
            self._closed = True
            self._network.unlisten(self)
            while self._arrived:
                self._arrived.popleft().close()
            if self._waiter is not None:
                self._waiter.wake()

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> SimStream:
        try:
            return self.accept()
        except Closed:
            raise StopIteration from None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()


class SimNetwork:
    """A network for ``Runtime(network=)`` and ``run_virtual(network=)``, with the faults of a real one.

    The keyword arguments are those of :class:`Link` and hold for all links that ``link`` does not change. ``seed``
    makes chance repeatable; left out it is chosen, and kept in ``seed``. ``journal`` is what happened.

    Listening to a host name makes that host. Who connects does so from the host ``local``, or from the one that
    ``alias`` gave to the name connected to.
    """

    def __init__(self, seed: int | None = None, *, journal: bool = True, **link: Any) -> None:
        self.seed = random.SystemRandom().randrange(1 << 32) if seed is None else seed
        self.random = random.Random(self.seed)
        self.journal: list[Entry] = []
        self.connections: list[Connection] = []
        self._keep_journal = journal
        self._defaults = Link(**link)
        self._links: dict[tuple[str, str], Link] = {}
        self._hosts: dict[str, Host] = {_LOCAL: Host()}
        self._aliases: dict[str, tuple[str, str]] = {}
        self._listeners: dict[tuple[str, int], SimListener] = {}
        self._next_port = 49152
        self._numbers = 0
        self._clock: Clock | None = None  # of the runtime that used it last

    # What it is like.

    def link(self, source: str, target: str) -> Link:
        """The way from one host to another. Changes count at once, for open connections too."""
        found = self._links.get((source, target))
        if found is None:
            self.host(source)
            self.host(target)
            found = self._links[source, target] = replace(self._defaults)
        return found

    def host(self, name: str) -> Host:
        """What happens to those who connect to this host."""
        return self._hosts.setdefault(name, Host())

    def alias(self, name: str, host: str, *, source: str = _LOCAL) -> None:
        """Make ``name`` another name of ``host``; who connects to it does so from the host ``source``."""
        self._aliases[name] = (host, source)

    def change_links(self, **changes: Any) -> None:
        """Change all links, those to come as well."""
        for link in (self._defaults, *self._links.values()):
            for name, value in changes.items():
                if name not in _LINK_FIELDS:
                    raise TypeError(f"a link has no {name!r}; it has {', '.join(_LINK_FIELDS)}")
                setattr(link, name, value)

    # Faults.

    def partition(self, one: str | Iterable[str], other: str | Iterable[str] | None = None) -> None:
        """Let nothing through between ``one`` host (or several) and ``other``, by default all others."""
        ours = _names(one)
        theirs = [name for name in self._hosts if name not in ours] if other is None else _names(other)
        for a in ours:
            for b in theirs:
                self.link(a, b).cut = self.link(b, a).cut = True
        self.note(",".join(ours), f"partitioned from {','.join(theirs)}")

    def heal(self) -> None:
        """End all partitions. What was sent meanwhile on connections that are still there arrives now."""
        for link in self._links.values():
            link.cut = False
        self.note("all", "healed")
        for connection in list(self.connections):
            connection.up.release()
            connection.down.release()

    def between(self, one: str, other: str | None = None) -> list[Connection]:
        """The open connections of a host, or between two."""
        return [
            connection
            for connection in self.connections
            if one in (connection.source, connection.target)
            and (other is None or other in (connection.source, connection.target))
        ]

    # What happened.

    def note(self, where: str, what: str, size: int = 0, mark: int = 0) -> None:
        """Add to the journal."""
        if self._keep_journal:
            time = 0.0 if self._clock is None else self._clock.now()
            self.journal.append(Entry(time, where, what, size, mark))

    def coverage(self) -> Counter[str]:
        """How often each kind of thing has happened."""
        return Counter(entry.what for entry in self.journal)

    def report(self, last: int | None = None) -> str:
        """The journal as text: the seed, then the ``last`` entries or all of them."""
        shown = self.journal if last is None else self.journal[-last:]
        return "\n".join((f"SimNetwork(seed={self.seed})", *map(str, shown)))

    # What a runtime calls.

    def connect(self, host: str, port: int) -> SimStream:
        """Connect. ConnectionRefusedError, or TimeoutError after as long as systems try."""
        fiber = here()
        loop = fiber.loop
        target, source = self._aliases.get(host, (host, _LOCAL))
        there, back = self.link(source, target), self.link(target, source)
        where = f"{source}>{target}:{port}"
        self._clock = loop.clock
        state = self.host(target)
        again, tried = 1.0, 0.0  # when an attempt is not answered
        while there.cut or back.cut or state.connects == "drop":
            self.note(where, "connect unanswered")
            self._travel(fiber, again)
            tried += again
            again *= 2
            if tried >= SYN_TIMEOUT:
                raise TimeoutError(errno.ETIMEDOUT, f"{os.strerror(errno.ETIMEDOUT)}: {host}:{port}")
        self._travel(fiber, there.latency + there.jitter * self.random.random() + state.connect_delay)
        listener = self._listeners.get((target, port)) or self._listeners.get((ANY_HOST, port))
        connection = None
        if listener is not None and state.connects == "accept":
            self._numbers += 1
            connection = Connection(self, self._numbers, source, target, port)
            self.connections.append(connection)
            connection.note(f"#{connection.number} {where}", "accepted")
            listener.arrive(connection.server)
        try:
            self._travel(fiber, back.latency + back.jitter * self.random.random())
        except BaseException:
            if connection is not None:
                connection.client.close()
            raise
        if connection is None:
            self.note(where, "refused")
            raise ConnectionRefusedError(errno.ECONNREFUSED, f"{os.strerror(errno.ECONNREFUSED)}: {host}:{port}")
        connection.note(f"#{connection.number} {where}", "connected")
        return connection.client

    def listen(self, host: str, port: int, backlog: int = 128) -> SimListener:
        """Listen at a host; ``""`` or ``0.0.0.0`` is every host. Port 0 takes a free one."""
        self._clock = here().loop.clock
        if host in _WILDCARDS:
            host = ANY_HOST
        else:
            self.host(host)
        if port == 0:
            port, self._next_port = self._next_port, self._next_port + 1
        if (host, port) in self._listeners:
            raise OSError(errno.EADDRINUSE, f"{os.strerror(errno.EADDRINUSE)}: {host}:{port}")
        listener = self._listeners[host, port] = SimListener(self, host, port)
        return listener

    # For the parts.

    def unlisten(self, listener: SimListener) -> None:
        host, port = listener.address
        self._listeners.pop((host, port), None)

    def forget(self, connection: Connection) -> None:
        if connection in self.connections:
            self.connections.remove(connection)

    @staticmethod
    def _travel(fiber: Fiber, seconds: float) -> None:
        if seconds > 0:
            fiber.loop.wait(Waiter(fiber, "the network", sleeping=True), seconds, _nothing)


class MemoryNetwork(SimNetwork):
    """A network without delays and faults, where every host is here: ports are numbers."""

    def __init__(self, limit: int = 65536) -> None:
        super().__init__(0, journal=False, latency=0.0, buffer=limit)

    def listen(self, host: str, port: int, backlog: int = 128) -> SimListener:
        return super().listen(ANY_HOST, port, backlog)


def memory_stream_pair(limit: int = 65536) -> tuple[SimStream, SimStream]:
    """Two connected streams; at most ``limit`` bytes are in flight each way. Only inside a zio runtime."""
    connection = Connection(MemoryNetwork(limit), 1, "one", "other", 0)
    return connection.client, connection.server


_LINK_FIELDS = tuple(item.name for item in fields(Link))


def _names(names: str | Iterable[str]) -> list[str]:
    return [names] if isinstance(names, str) else list(names)


def _reset_error() -> ConnectionResetError:
    return ConnectionResetError(errno.ECONNRESET, os.strerror(errno.ECONNRESET))


def _nothing(_waiter: Waiter) -> None:
    """Whoever waited forgets the waiter."""
