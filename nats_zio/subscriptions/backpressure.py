"""Holding the reader: what ``overflow="block"`` does when a subscription has more than twice its limits pending.

Beyond the limits messages are kept in a side buffer as large again. Beyond that nothing is read from the connection
until what is pending is within the limits; the system's buffers fill up, and the server has to wait.

The reader is not held while a call of the client waits for the server (a request, a flush, a drain), whoever made it:
the answer lies behind the messages, and a consumer that waits for it would wait for ever. Nor while a consumer of the
subscription waits for a message of another one. What comes then is kept, beyond the limits.

A held reader sees no PING. So that the server does not give us up it is sent a PONG each second, asked for or not; and
our own watch over its silence is suspended. What cannot be helped: a server that has more for us than the buffers take
ends the connection after its ``write_deadline`` (10 s by default), or when more than its ``max_pending`` has gathered.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from zio.lowlevel import Waiter, current_owner, here, waits_on

from ..protocol import PONG
from .limits import size_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from ..core import Core
    from ..message import Message
    from ..session.liveness import Liveness
    from .subscription import Subscription

SIGN_OF_LIFE = 1.0  # seconds between two PONGs of a held reader
RECENT = 1000  # messages: who has taken one of the last so many is a consumer


class ReaderGate:
    """Where the reader of a client comes by before it reads on. Shut while a subscription holds it."""

    def __init__(self, core: Core) -> None:
        self.shut = False
        self._core = core
        self._holders: dict[Backlog, None] = {}
        self._reader: Waiter | None = None

    def hold(self, backlog: Backlog) -> None:
        """Hold the reader from its next step on. At home."""
        self._holders[backlog] = None
        self.shut = True

    def release(self, backlog: Backlog) -> None:
        """This one holds it no longer. At home."""
        self._holders.pop(backlog, None)
        self.shut = bool(self._holders)
        self.look_again()

    def look_again(self) -> None:
        """Something has changed: the reader looks whether it may go on. From any thread."""
        loop = self._core.loop
        if not loop.is_here():
            loop.post(self.look_again, optional=True)
        elif self._reader is not None:
            self._reader.wake()

    def pass_through(self, liveness: Liveness, connected: Callable[[], bool]) -> None:
        """For the reader: return when it may read on, or the connection is gone. Cancelled."""
        fiber = here()
        loop = fiber.loop
        due = loop.clock.now() + SIGN_OF_LIFE
        liveness.held = True
        try:
            while self.shut and connected() and not self._awaited():
                self._reader = waiter = Waiter(fiber, self)
                if not loop.wait(waiter, due - loop.clock.now(), self._forget):
                    self._core.outbound.control(PONG)
                    due = loop.clock.now() + SIGN_OF_LIFE
        finally:
            self._reader = None
            liveness.held = False
            liveness.heard = True

    def _forget(self, waiter: Waiter) -> None:
        self._reader = None

    def _awaited(self) -> bool:
        """Whether somebody waits for what only the reader can bring."""
        core = self._core
        return bool(len(core.requests) or core.awaits_pong or any(map(Backlog.consumer_waits, self._holders)))

    def __repr__(self) -> str:
        return f"<reader held by {', '.join(repr(backlog.sub) for backlog in self._holders)}>"


class Backlog:
    """What is pending in a subscription with ``overflow="block"``: counted exactly, and holding the reader if need be.

    The home loop adds; whoever takes a message, in any thread, says so with ``went``.
    """

    def __init__(self, sub: Subscription, core: Core, limit_msgs: int | None, limit_bytes: int | None) -> None:
        self.sub = sub
        self.holding = False
        self._core = core
        self._limit_msgs = limit_msgs
        self._limit_bytes = limit_bytes
        self._ended = False
        self._msgs_in = self._bytes_in = 0
        self._msgs_out = self._bytes_out = 0
        self._consumers: WeakKeyDictionary[Any, int] = WeakKeyDictionary()  # and the last message each has taken

    def came(self, messages: Iterable[Message]) -> None:
        """These are pending now. At home."""
        for message in messages:
            self._msgs_in += 1
            self._bytes_in += size_of(message)

    def went(self, message: Message) -> None:
        """It was taken, by the caller. From any thread."""
        self.consumed_by(current_owner())
        size = size_of(message)
        self._msgs_out += 1  # without a call in between: no other thread comes in
        self._bytes_out += size
        if self.holding and self._fits():
            loop = self._core.loop
            if loop.is_here():
                self._let_go()
            else:
                loop.post(self._let_go, optional=True)

    def consumed_by(self, owner: Any) -> None:
        """This task or thread takes messages. From any thread."""
        self._consumers[owner] = self._msgs_out

    @property
    def size(self) -> int:
        """The bytes pending: payload and headers."""
        return self._bytes_in - self._bytes_out

    def _fits(self, times: int = 1) -> bool:
        msgs, size = self._msgs_in - self._msgs_out, self.size
        return (self._limit_msgs is None or msgs <= times * self._limit_msgs) and (
            self._limit_bytes is None or size <= times * self._limit_bytes
        )

    def overflows(self) -> bool:
        """Whether there is no room even in the side buffer; then the reader is held. At home."""
        if self._ended or self.holding or self._fits(2):
            return self.holding
        self.holding = True  # before the look: who takes a message looks at it afterwards
        if self._fits():
            self.holding = False
        else:
            self._core.gate.hold(self)
        return self.holding

    def set_limits(self, limit_msgs: int | None, limit_bytes: int | None) -> None:
        """Other limits hold from now on. At home."""
        self._limit_msgs, self._limit_bytes = limit_msgs, limit_bytes
        self._let_go()

    def end(self) -> None:
        """The subscription has ended: no more holding. At home."""
        self._ended = True
        self._limit_msgs = self._limit_bytes = None
        self._let_go()

    def _let_go(self) -> None:
        if self.holding and self._fits():
            self.holding = False
            self._core.gate.release(self)

    def consumer_waits(self) -> bool:
        """Whether one who takes messages here waits for one of another subscription of the client. At home."""
        recent = self._msgs_out - min(self._limit_msgs or RECENT, RECENT)
        while True:
            try:
                consumers = [owner for owner, last in list(self._consumers.items()) if last >= recent]
                break
            except RuntimeError:  # another thread has begun to take messages meanwhile
                continue
        return any(
            self._core.is_subscription(source) and source is not self.sub
            for owner in consumers
            for source in _sources(waits_on(owner))
        )


def _sources(what: object) -> Iterator[object]:
    """What a wait is for: one thing, or with ``select`` several."""
    if isinstance(what, list):
        yield from what
    else:
        yield getattr(what, "what", what)  # a thread's latch says it
