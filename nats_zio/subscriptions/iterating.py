"""A ``for`` over a subscription."""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

from greenlet import getcurrent

from zio.lowlevel import Fiber

from ..errors import ConnectionClosedError, Error

if TYPE_CHECKING:
    from collections.abc import Callable

    from zio.lowlevel import Loop

    from ..message import Message
    from .subscription import Subscription


class MessageIterator:
    """One ``for`` over a subscription. While messages are pending it takes them without any switch."""

    __slots__ = ("_loop", "_name", "_popleft", "_sub", "_wait_for_one")

    def __init__(
        self, sub: Subscription, loop: Loop, popleft: Callable[[], Message], wait: Callable[[None], Message]
    ) -> None:
        self._sub = sub
        self._loop = loop
        self._popleft = popleft
        self._wait_for_one = wait
        self._name: object = sub.consumers.loop_began(sub)

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Message:
        fiber = getcurrent()
        if type(fiber) is Fiber:
            loop = fiber.loop
            budget = loop.budget
            if budget <= 0:
                loop.checkpoint(fiber)
            else:
                loop.budget = budget - 1
        elif self._loop.forked:
            self._loop.check_usable()
        try:
            return self._popleft()
        except IndexError:
            pass  # and not in here, or it would be the context of what the wait raises
        return self._wait()

    def _wait(self) -> Message:
        try:
            return self._wait_for_one(None)
        except Error as exc:
            self._end()
            reason = self._sub.closed_reason
            # With no reason yet its runtime is about to end, and to close the client.
            if isinstance(exc, ConnectionClosedError) if reason is None else reason.wanted:
                raise StopIteration from None
            raise

    def _end(self) -> None:
        self._sub.consumers.loop_ended(self._sub, self._name)

    __del__ = _end
