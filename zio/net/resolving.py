"""Names into addresses, in threads of their own: a few, since what they wait for is the same few servers.

Tasks that ask for the same name at the same time share one look-up. One that nobody waits for any more goes on in its
thread, for the system cannot be interrupted, and its result is dropped; who asks for that name again meanwhile shares
it, so that a name server that does not answer holds one thread per name, however often a program tries.
"""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, Any

from .._core import Job, Waiter, WaitQueue

if TYPE_CHECKING:
    from .._core import Fiber, Loop


EVERYWHERE = ("", "*")  # hosts to listen at that mean all interfaces, of IPv4 and IPv6


class _Lookup:
    """A name that is being looked up, and who waits for it."""

    def __init__(self, loop: Loop, host: str) -> None:
        self.waiters = WaitQueue()
        self.job = Job(_look_up, (host,), self._ended, None)
        self._loop = loop
        self._host = host

    def start(self) -> None:
        loop = self._loop
        loop.jobs += 1
        try:
            loop.runtime.lookups.submit(self.job)
        except BaseException:
            loop.jobs -= 1
            raise
        loop.runtime.names[self._host] = self

    def left(self) -> None:
        """Somebody waits no longer. If nobody does, and no thread has begun, it is called off."""
        runtime = self._loop.runtime
        if not self.waiters and runtime.lookups.withdraw(self.job):
            self._forget()

    def _ended(self, _job: Job) -> None:
        self._loop.post(self._came_back, optional=True)

    def _came_back(self) -> None:
        self._forget()
        self.waiters.wake_all()

    def _forget(self) -> None:
        self._loop.jobs -= 1
        del self._loop.runtime.names[self._host]

    def __repr__(self) -> str:
        return f"<looking up {self._host!r}>"


def _look_up(host: str) -> list[tuple[int, Any]]:
    return _addresses(socket.getaddrinfo(host, 0, type=socket.SOCK_STREAM))


def by_name(fiber: Fiber, host: str, port: int) -> list[tuple[int, Any]]:
    """The addresses of a name, from the system. OSError if there is none. A cancel leaves the look-up to others."""
    loop = fiber.loop
    if fiber.cancelled or loop.budget <= 0:
        loop.checkpoint(fiber)
    lookup: _Lookup | None = loop.runtime.names.get(host)
    if lookup is None:
        lookup = _Lookup(loop, host)
        lookup.start()
    waiter = Waiter(fiber, lookup)
    lookup.waiters.push(waiter)
    try:
        loop.wait(waiter, None, lookup.waiters.discard)
    except BaseException:
        lookup.left()
        raise
    error = lookup.job.error
    if isinstance(error, OSError):
        raise type(error)(*error.args)  # each who waits has its own, with a traceback of its own
    if error is not None:
        raise error
    found: list[tuple[int, Any]] = lookup.job.value
    return [(family, (address[0], port, *address[2:])) for family, address in found]


def by_number(host: str, port: int) -> list[tuple[int, Any]] | None:
    """The address that ``host`` is already; None if it is a name. Never waits.

    ValueError if ``port`` is no port, socket.gaierror if ``host`` cannot be a name.
    """
    if not isinstance(port, int) or not 0 <= port <= 65535:
        raise ValueError(f"port {port!r} must be a whole number from 0 to 65535")
    try:
        return _addresses(socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST))
    except socket.gaierror:
        return None
    except UnicodeError as exc:  # a label that is empty or too long
        raise socket.gaierror(socket.EAI_NONAME, f"{host!r} cannot be a host name: {exc}") from None


def every_interface(port: int) -> tuple[int, Any]:
    """The address of all interfaces: where the system has IPv6 that of both families, which share one port then."""
    by_number("0.0.0.0", port)  # looks at the port
    if socket.has_dualstack_ipv6():
        return socket.AF_INET6, ("::", port, 0, 0)
    return socket.AF_INET, ("0.0.0.0", port)


def number_of(address: Any) -> str:
    """The address as a host that is not looked up again; that of a local link needs its interface."""
    host: str = address[0]
    return f"{host}%{address[3]}" if len(address) == 4 and address[3] and "%" not in host else host


def _addresses(found: list[Any]) -> list[tuple[int, Any]]:
    return [(family, address) for family, _, _, _, address in found]
