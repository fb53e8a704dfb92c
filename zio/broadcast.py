"""Broadcast: what is sent reaches every receiver, and a slow one is told what it has missed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Generic, Self, TypeVar

from greenlet import getcurrent

from ._core import (
    CANCELLED,
    FAILED,
    TIMED_OUT,
    WOKEN,
    Cancelled,
    ChannelClosed,
    Fiber,
    Homed,
    Lagged,
    Waiter,
    WaitQueue,
    WouldBlock,
)

if TYPE_CHECKING:
    from ._core import Loop

T = TypeVar("T")


class Broadcast(Homed, Generic[T]):
    """Everything that is sent goes to all receivers. The last ``capacity`` items are kept for those that are slow.

    Sending never waits: it overwrites the oldest item. A receiver that had not taken it yet gets Lagged once, with
    the number of items it has missed, and goes on with the oldest that is left. Usable from tasks and plain threads.
    """

    __slots__ = ("_awaited", "_closed", "_items", "_sent", "capacity")

    def __init__(self, capacity: int) -> None:
        if not isinstance(capacity, int) or capacity < 1:
            raise ValueError(f"capacity must be a whole number of items from 1 up, not {capacity!r}")
        super().__init__()
        self.capacity = capacity
        self._items: list[T] = []  # a ring: item number n is at n % capacity
        self._sent = 0
        self._closed = False
        self._awaited: dict[BroadcastReceiver[T], None] = {}  # the receivers somebody waits at: they have taken all

    @property
    def closed(self) -> bool:
        """Whether ``close`` was called; there may be items that receivers have not taken yet."""
        return self._closed

    def subscribe(self) -> BroadcastReceiver[T]:
        """A receiver of all that is sent from now on. It needs no end: forget it. Never blocks."""
        return self._edit(BroadcastReceiver, self)  # type: ignore[no-any-return]

    def send(self, item: T) -> None:
        """Give ``item`` to all receivers. ChannelClosed if closed. Never blocks."""
        fiber = getcurrent()
        if type(fiber) is Fiber and fiber.loop is self._loop:
            self._send(item)
        else:
            self._edit(self._send, item)

    def _send(self, item: T) -> None:
        if self._closed:
            raise ChannelClosed("send on a closed broadcast", source=self)
        number = self._sent
        self._sent = number + 1
        if len(self._items) < self.capacity:
            self._items.append(item)
        else:
            self._items[number % self.capacity] = item
        if self._awaited:
            awaited, self._awaited = self._awaited, {}
            for receiver in awaited:
                receiver._give(item)

    def close(self) -> None:
        """No more sends. Receivers take what is there for them; then they are closed. Never blocks."""
        self._edit(self._close)

    def _close(self) -> None:
        self._closed = True
        awaited, self._awaited = self._awaited, {}
        for receiver in awaited:
            receiver._end()

    def __repr__(self) -> str:
        return f"<Broadcast {'closed' if self._closed else 'open'}, {self._sent} sent, at {id(self):#x}>"


class BroadcastReceiver(Generic[T]):
    """One receiver of a broadcast; tasks that share it share the items. Iterable until the broadcast is closed.

    Selectable. ``len()`` is the number of items that can be received now; always true as a bool.
    """

    __slots__ = ("__weakref__", "_next", "_waiters", "broadcast")

    def __init__(self, broadcast: Broadcast[T]) -> None:
        self.broadcast = broadcast
        self._next = broadcast._sent  # the number of the item to receive next
        self._waiters = WaitQueue()

    def recv(self, timeout: float | None = None) -> T:
        """Take the next item, waiting for one.

        Lagged, once, if items were overwritten before they were taken. ``timeout`` in seconds: TimeoutError.
        ChannelClosed when the broadcast is closed and all is taken. When it raises, Cancelled included, no item was
        taken.
        """
        broadcast = self.broadcast
        fiber = getcurrent()
        if type(fiber) is not Fiber or fiber.loop is not broadcast._loop:
            return broadcast._elsewhere(self.recv, timeout)  # type: ignore[no-any-return]
        loop = fiber.loop
        if loop.budget <= 0:
            loop.checkpoint(fiber)
        else:
            loop.budget -= 1
        if self.select_ready():
            return self._take()
        waiter = Waiter(fiber, self)
        try:
            self.select_arm(waiter)
            if self.select_ready() and not waiter.state:  # a signal handler was here just before
                waiter.state = CANCELLED
                self.select_disarm(waiter)
                return self.recv(timeout)
            state = loop.park(waiter) if timeout is None else loop.park_for(waiter, timeout)
        except BaseException as exc:
            state = loop.struck(waiter, exc)
        if state == WOKEN:
            return waiter.take()  # type: ignore[no-any-return]
        self.select_disarm(waiter)
        if state == FAILED:
            raise waiter.take()
        if state == TIMED_OUT and not fiber.cancelled:
            raise TimeoutError(f"nothing received within {timeout} s")
        raise Cancelled

    def try_recv(self) -> T:
        """Take the next item if there is one, else WouldBlock. Lagged and ChannelClosed as in recv. Never blocks."""
        return self.broadcast._edit(self._take)  # type: ignore[no-any-return]

    def _take(self) -> T:
        broadcast = self.broadcast
        number = self._next
        sent, capacity = broadcast._sent, broadcast.capacity
        if sent - number > capacity:
            self._next = sent - capacity
            raise Lagged(self._next - number, source=self)
        if number == sent:
            if broadcast._closed:
                raise ChannelClosed("the broadcast is closed and all was received", source=self)
            raise WouldBlock("nothing to receive")
        self._next = number + 1
        return broadcast._items[number % capacity]

    def _give(self, item: T) -> None:
        """The item that was sent just now goes to the first who waits, if anybody does still."""
        if self._waiters.wake_one(item, self):
            self._next += 1
            if self._waiters:
                self.broadcast._awaited[self] = None

    def _end(self) -> None:
        self._waiters.fail_all(lambda: ChannelClosed("the broadcast was closed", source=self))

    # Select.

    @property
    def select_home(self) -> Loop:
        return self.broadcast._bind()

    def select_ready(self) -> bool:
        return self._next != self.broadcast._sent or self.broadcast._closed

    def select_take(self) -> T:
        return self._take()

    def select_arm(self, waiter: Waiter) -> None:
        self._waiters.push(waiter)
        self.broadcast._awaited[self] = None

    def select_disarm(self, waiter: Waiter) -> None:
        self._waiters.discard(waiter)
        if not self._waiters:
            self.broadcast._awaited.pop(self, None)

    def select_result(self, waiter: Waiter) -> T:
        return waiter.take()  # type: ignore[no-any-return]

    # Iteration.

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> T:
        try:
            return self.recv()
        except ChannelClosed:
            raise StopIteration from None

    def __len__(self) -> int:
        return min(self.broadcast._sent - self._next, self.broadcast.capacity)

    def __bool__(self) -> bool:
        return True

    def __repr__(self) -> str:
        return f"<receiver of {self.broadcast!r}, {len(self)} to receive>"
