"""The hosts of a simulated network, what is between them, and who listens there."""

from __future__ import annotations

import errno
import ipaddress
import os
import random
import socket
from collections import Counter, deque
from collections.abc import Iterable
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any, Literal

from ..._core import Busy, Closed, Fiber, Sleeper, Waiter, here
from ...net.serving import Acceptor
from .connection import Connection
from .datagrams import SimDatagramSocket
from .flow import Link
from .journal import Entry

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..._core import Clock
    from .stream import SimStream

ANY_HOST = "*"  # where a listener hears connections to every host
SYN_TIMEOUT = 127.0  # seconds after which the system gives up connecting

_LOCAL = "local"
_UNIX = -1  # the port of unix sockets, whose paths are hosts
_WILDCARDS = ("", "0.0.0.0", "::", ANY_HOST)
_LINK_FIELDS = tuple(item.name for item in fields(Link))


@dataclass(slots=True)
class Host:
    """What happens to those who connect to a host."""

    connects: Literal["accept", "refuse", "drop"] = "accept"  # drop: no answer at all
    connect_delay: float = 0.0  # seconds before the answer


class SimListener(Acceptor):
    """The listening side of a simulated host. Iterating accepts; ``with`` closes it."""

    def __init__(self, network: SimNetwork, host: str, port: int, reuse_port: bool) -> None:
        self.address = (host, port)
        self.port = port
        self.reuse_port = reuse_port
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

    def __repr__(self) -> str:
        return f"<SimListener {self.address[0]}:{self.port}{' closed' if self._closed else ''}>"


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
        self.on_connect: Callable[[Connection], object] | None = None  # called with each new one, before any byte
        self._keep_journal = journal
        self._defaults = Link(**link)
        self._links: dict[tuple[str, str], Link] = {}
        self._hosts: dict[str, Host] = {_LOCAL: Host()}
        self._aliases: dict[str, tuple[str, str]] = {}
        self._names: dict[str, tuple[str, ...]] = {}
        self._listeners: dict[tuple[str, int], list[SimListener]] = {}  # several, if all of them reuse the port
        self._bound: dict[tuple[str, int], SimDatagramSocket] = {}
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

    def name(self, name: str, *hosts: str) -> None:
        """Make ``name`` a name with several addresses: those of these hosts, in this order."""
        self._names[name] = hosts

    def change_links(self, **changes: Any) -> None:
        """Change all links, those to come as well."""
        for name in changes:
            if name not in _LINK_FIELDS:
                raise TypeError(f"a link has no {name!r}; it has {', '.join(_LINK_FIELDS)}")
        replace(self._defaults, **changes)  # which is refused before anything is changed, if need be
        for link in (self._defaults, *self._links.values()):
            for name, value in changes.items():
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
        listeners = self._listeners.get((target, port)) or self._listeners.get((ANY_HOST, port))
        listener = listeners and (listeners[0] if len(listeners) == 1 else self.random.choice(listeners))
        connection = None
        if listener and state.connects == "accept":
            self._numbers += 1
            connection = Connection(self, self._numbers, source, target, port)
            self.connections.append(connection)
            if self.on_connect is not None:
                self.on_connect(connection)
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

    def listen(self, host: str, port: int, backlog: int = 128, reuse_port: bool = False) -> SimListener:
        """Listen at a host; ``""`` or ``0.0.0.0`` is every host. Port 0 takes a free one."""
        self._clock = here().loop.clock
        if host in _WILDCARDS:
            host = ANY_HOST
        else:
            self.host(host)
        if port == 0:
            port = self._free_port()
        others = self._listeners.setdefault((host, port), [])
        if not all(reuse_port and other.reuse_port for other in others):
            raise OSError(errno.EADDRINUSE, f"{os.strerror(errno.EADDRINUSE)}: {host}:{port}")
        others.append(SimListener(self, host, port, reuse_port))
        return others[-1]

    def connect_unix(self, path: str) -> SimStream:
        """Connect to the host that the path of a unix socket is."""
        return self.connect(path, _UNIX)

    def listen_unix(self, path: str, backlog: int = 128) -> SimListener:
        """Listen at the host that the path of a unix socket is."""
        return self.listen(path, _UNIX, backlog)

    def resolve(self, host: str, port: int) -> list[tuple[int, Any]]:
        """The addresses of a name: itself, or the hosts that ``name`` gave it."""
        return [(_family(address), (address, port)) for address in self._names.get(host, (host,))]

    def udp(self, local: tuple[str, int] | None, remote: tuple[str, int] | None) -> SimDatagramSocket:
        """A socket for datagrams. Bound to no host of its own it is one of the host that connections come from."""
        self._clock = here().loop.clock
        host, port = local or (ANY_HOST, 0)
        source = host
        if host in _WILDCARDS:
            host = ANY_HOST
            source = _LOCAL if remote is None else self._aliases.get(remote[0], (remote[0], _LOCAL))[1]
        if port == 0:
            port = self._free_port()
        if (host, port) in self._bound:
            raise OSError(errno.EADDRINUSE, f"{os.strerror(errno.EADDRINUSE)}: {host}:{port}")
        made = self._bound[host, port] = SimDatagramSocket(self, host, port, source, remote)
        return made

    # For the parts.

    def host_of(self, name: str) -> str:
        """The host that a name means."""
        return self._aliases.get(name, (name, _LOCAL))[0]

    def socket_at(self, host: str, port: int) -> SimDatagramSocket | None:
        """The socket that datagrams for that address go to."""
        return self._bound.get((host, port)) or self._bound.get((ANY_HOST, port))

    def unbind(self, made: SimDatagramSocket) -> None:
        self._bound.pop(made.address, None)

    def _free_port(self) -> int:
        port, self._next_port = self._next_port, self._next_port + 1
        return port

    def unlisten(self, listener: SimListener) -> None:
        listeners = self._listeners[listener.address]
        listeners.remove(listener)
        if not listeners:
            del self._listeners[listener.address]

    def forget(self, connection: Connection) -> None:
        if connection in self.connections:
            self.connections.remove(connection)

    @staticmethod
    def _travel(fiber: Fiber, seconds: float) -> None:
        if seconds > 0:
            fiber.loop.wait(Sleeper(fiber, "the network"), seconds, _nothing)


def _family(address: str) -> int:
    """That of a number; other hosts have none."""
    try:
        return socket.AF_INET6 if ipaddress.ip_address(address).version == 6 else socket.AF_INET
    except ValueError:
        return socket.AF_UNSPEC


def _names(names: str | Iterable[str]) -> list[str]:
    return [names] if isinstance(names, str) else list(names)


def _nothing(_waiter: Waiter) -> None:
    """Whoever waited forgets the waiter."""
