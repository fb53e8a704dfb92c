"""One request, many replies (ADR-47): they gather as they come, and a loop takes them until something says enough.

Replies come over the shared inbox of all requests. In the table of those that wait stands a :class:`Gathering`, which
belongs to the client; the user has a :class:`Replies`, and when that is gone nothing is left behind.
"""

from __future__ import annotations

from collections import deque
from time import monotonic
from typing import TYPE_CHECKING, Any, Literal, Self

from greenlet import getcurrent

import zio
from zio.lowlevel import Fiber, Waiter, WaitQueue, refuse_to_block_here

from ..at_home import call_home
from ..errors import ConnectionClosedError, DisconnectedError, NoRespondersError, OptionError
from ..options import check_limit
from ..sleepers import Sleepers
from ..user_functions import check_plain

if TYPE_CHECKING:
    from collections.abc import Callable

    from zio.lowlevel import Loop

    from ..message import Message

Reason = Literal[
    "sentinel", "stall", "max_msgs", "timeout", "no_responders", "disconnected", "client_closed", "refused", "closed"
]


GRACE = 1e-3  # seconds: if the program was busy there may be replies in the socket that nobody could read yet


class Gathering:
    """The replies that have come to one request and were not taken yet. The home loop adds, anybody takes.

    For the table of requests it is a waiter that is woken again and again: ``again`` puts it back into the table, and
    ``forget`` takes it out for good.
    """

    __slots__ = ("_again", "_forget", "_loop", "_sleepers", "_waiters", "error", "over", "queue")

    def __init__(self, loop: Loop, again: Callable[[Gathering], None], forget: Callable[[], None]) -> None:
        self.queue: deque[Message] = deque()
        self.error: BaseException | None = None  # why nothing more comes
        self.over = False  # nothing more comes, or is wanted
        self._loop = loop
        self._again = again
        self._forget = forget
        self._waiters = WaitQueue()
        self._sleepers = Sleepers()

    def wake(self, value: Any = None, source: object = None) -> bool:
        """A reply has come. At home."""
        if self.over:
            return False
        self._again(self)
        if self.over:  # closed from another thread just now
            self._forget()
            return False
        self.queue.append(value)
        self._rouse()
        return True

    def fail(self, error: BaseException) -> bool:
        """Nothing more comes."""
        self.error = error
        self.over = True
        if self._loop.is_here():
            self._rouse()
        else:
            self._loop.post(self._rouse, optional=True)
        return True

    def _rouse(self) -> None:
        self._waiters.wake_all()
        self._sleepers.rouse(len(self._sleepers))

    def stop(self) -> None:
        """Its time is up: what has come until now is all."""
        fiber = getcurrent()
        if type(fiber) is Fiber and fiber.loop is self._loop:
            zio.sleep(GRACE)
        self.over = True
        self._forget()

    def close(self) -> None:
        """Nothing more is wanted. From any thread, a finalizer too."""
        self.over = True
        self._forget()
        self.queue.clear()

    def _something_to_say(self) -> bool:
        return bool(self.queue) or self.over

    def take(self, seconds: float | None) -> Message | None:
        """The next reply, waiting for it at most ``seconds``; None when they have passed, or nothing more comes."""
        message = self._pop()
        if message is not None or self.over:
            return message or self._pop()  # it may have come between the two looks
        if type(getcurrent()) is Fiber:
            return call_home(self._loop, self._take_here, seconds)  # type: ignore[no-any-return]
        return self._take_in_thread(seconds)

    def _take_here(self, seconds: float | None) -> Message | None:
        fiber = getcurrent()
        assert type(fiber) is Fiber
        loop = fiber.loop
        deadline = None if seconds is None else loop.clock.now() + seconds
        while not self._something_to_say():
            left = None if deadline is None else deadline - loop.clock.now()
            waiter = Waiter(fiber, "replies")
            self._waiters.push(waiter)
            if not loop.wait(waiter, left, self._waiters.discard):
                break
        return self._pop()

    def _take_in_thread(self, seconds: float | None) -> Message | None:
        self._loop.check_usable()
        refuse_to_block_here(Gathering.take)
        until = None if seconds is None else monotonic() + seconds
        while self._sleepers.sleep(self._something_to_say, None if until is None else until - monotonic()):
            message = self._pop()
            if message is not None or self.over:
                return message
        return self._pop()

    def _pop(self) -> Message | None:
        try:
            return self.queue.popleft()
        except IndexError:
            return None


class Replies:
    """What ``request_many`` returns. Iterate once: the replies as they come; ``reason`` then says why that was all.

    ``reason``: ``sentinel`` (``until`` said so), ``stall``, ``max_msgs``, ``timeout``, ``no_responders``; or, raised by
    the iteration after what had come, ``disconnected`` (DisconnectedError), ``client_closed`` (ConnectionClosedError),
    ``refused`` (PermissionDeniedError, ServerError); or ``closed``: the loop was left, or the ``with`` block. None
    until then. ``sentinel`` is the message that ended it, if one did.
    """

    def __init__(
        self,
        gathering: Gathering,
        *,
        deadline: float | None,
        max_msgs: int | None,
        stall: float | None,
        until: Callable[[Message], object] | None,
    ) -> None:
        self.reason: Reason | None = None
        self.sentinel: Message | None = None
        self.client: object = None  # which is kept by whoever has these
        self._gathering = gathering
        self._deadline = deadline  # a time of zio.now()
        self._max_msgs = max_msgs
        self._stall = stall
        self._until = until
        self._taken = 0

    def __iter__(self) -> RepliesIterator:
        return RepliesIterator(self)

    def take(self) -> Message | None:
        """The next reply; None at the end. Raises what cut it short."""
        if self.reason is None:
            seconds, late = self._patience()
            if seconds == 0 and not self._gathering.over:
                self._gathering.stop()
            message = self._gathering.take(seconds)
            if message is None:
                self._finish(self._why(late))
            elif self._until is not None and self._until(message):
                self.sentinel = message
                self._finish("sentinel")
            else:
                self._taken += 1
                if self._taken == self._max_msgs:
                    self._finish("max_msgs")
                return message
        if self.reason in ("disconnected", "client_closed", "refused"):
            assert self._gathering.error is not None
            raise self._gathering.error
        return None

    def _patience(self) -> tuple[float | None, Reason]:
        """How long to wait for the next reply, and what it means if none comes."""
        left = None if self._deadline is None else max(self._deadline - zio.now(), 0)
        if self._taken and self._stall is not None and (left is None or self._stall < left):
            return self._stall, "stall"
        return left, "timeout"

    def _why(self, late: Reason) -> Reason:
        error = self._gathering.error
        if error is None:
            return late
        if isinstance(error, NoRespondersError):
            return "no_responders"
        if isinstance(error, ConnectionClosedError):
            return "client_closed"
        return "disconnected" if isinstance(error, DisconnectedError) else "refused"

    def _finish(self, reason: Reason) -> None:
        if self.reason is None:
            self.reason = reason
        self._gathering.close()

    def close(self) -> None:
        """Take no more replies; those that come later are dropped. Never blocks."""
        self._finish("closed")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def __del__(self) -> None:
        if hasattr(self, "_gathering"):
            self._gathering.close()

    def __repr__(self) -> str:
        state = "under way" if self.reason is None else f"ended: {self.reason}"
        return f"<Replies {self._taken} taken, {state}>"


class RepliesIterator:
    """One ``for`` over replies. A loop that is left ends them."""

    __slots__ = ("_replies",)

    def __init__(self, replies: Replies) -> None:
        self._replies = replies

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Message:
        try:
            message = self._replies.take()
        except BaseException:
            self._replies.close()
            raise
        if message is None:
            raise StopIteration
        return message

    def __del__(self) -> None:
        self._replies.close()


def check_request_many(
    timeout: object, max_msgs: object, stall: object, until: Callable[[Message], object] | None
) -> None:
    """OptionError for what cannot be."""
    check_limit("max_msgs", max_msgs)
    for name, value in (("timeout", timeout), ("stall", stall)):
        if value is not None and (not isinstance(value, (int, float)) or isinstance(value, bool) or not value > 0):
            raise OptionError(f"{name}={value!r}: must be a number of seconds above 0, or None")
    if until is not None:
        if not callable(until):
            raise OptionError(f"until={until!r}: must be callable")
        check_plain("until", until)
