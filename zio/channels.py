"""Channels: bounded queues between tasks, closed by whoever is done."""

from __future__ import annotations

from collections import deque
from math import inf
from typing import TYPE_CHECKING, Any, Generic, Self, TypeVar

from greenlet import getcurrent

from ._core import (
    ARMED,
    CANCELLED,
    FAILED,
    NO_LOOP,
    TIMED_OUT,
    WOKEN,
    Cancelled,
    ChannelClosed,
    Fiber,
    Homed,
    Waiter,
    WaitQueue,
    WouldBlock,
    current_fiber,
)
from .selecting import SelectWaiter

if TYPE_CHECKING:
    from ._core import Loop

T = TypeVar("T")


class Channel(Homed, Generic[T]):
    """A first-in first-out queue of at most ``capacity`` items; 0 hands each item from sender to receiver directly.

    ``capacity`` may be ``math.inf``. Usable from tasks and plain threads. Iterating receives until the channel
    is closed. Selectable for receiving; ``send_op(item)`` is selectable for sending. Always true as a bool;
    ``len()`` is the number of buffered items.
    """

    __slots__ = ("_buffer", "_closed", "_receivers", "_senders", "capacity")

    def __init__(self, capacity: float = 0) -> None:
        if not (capacity == inf or (isinstance(capacity, int) and capacity >= 0)):
            raise ValueError(f"capacity must be a whole number of items from 0 up, or math.inf, not {capacity!r}")
        super().__init__()
        self.capacity = capacity
        self._buffer: deque[T] = deque()
        self._receivers = WaitQueue()
        self._senders = WaitQueue()  # their waiters carry the item as value until claimed
        self._closed = False

    @property
    def closed(self) -> bool:
        """Whether ``close`` was called; buffered items may still be there."""
        return self._closed

    def send(self, item: T, timeout: float | None = None) -> None:
        """Put ``item`` in, waiting for room (with capacity 0: for a receiver).

        ``timeout`` in seconds: TimeoutError. ChannelClosed if the channel is or gets closed. When it raises,
        Cancelled included, the item was not sent.
        """
        # The hottest path of the package: the queues are looked into without calls.
        try:
            loop = (fiber := current_fiber()).loop
        except AttributeError:  # not in a task
            loop = NO_LOOP
        if loop is not self._loop:
            self._elsewhere(self.send, item, timeout)
            return
        budget = loop.budget
        if budget <= 0:
            loop.checkpoint(fiber)
        else:
            loop.budget = budget - 1
        if self._closed:
            raise ChannelClosed("send on a closed channel", source=self)
        receivers = self._receivers.items
        while receivers:
            waiter = receivers[0]
            del receivers[0]  # from here to the append nothing can come between
            if not waiter.state:
                waiter.state = WOKEN
                waiter.value = item
                waiter.source = self
                loop.ready.append(waiter.fiber)
                return
        buffer = self._buffer
        if len(buffer) < self.capacity:
            buffer.append(item)
            return
        waiter = Waiter(fiber, self)
        waiter.value = item
        try:
            self._senders.items.append(waiter)
            if (len(buffer) < self.capacity or receivers or self._closed) and not waiter.state:
                waiter.state = CANCELLED  # a signal handler was here just before
                self.send(item, timeout)
                return
            state = loop.park(waiter) if timeout is None else loop.park_for(waiter, timeout)
        except BaseException as exc:
            state = loop.struck(waiter, exc)
        if state != WOKEN:
            self._senders.discard(waiter)
            if state == FAILED:
                raise waiter.value
            if state == TIMED_OUT and not fiber.cancelled:
                raise TimeoutError(f"no room in the channel within {timeout} s")
            raise Cancelled

    def recv(self, timeout: float | None = None) -> T:
        """Take the first item, waiting for one.

        ``timeout`` in seconds: TimeoutError. ChannelClosed when the channel is closed and empty. When it
        raises, Cancelled included, no item was taken.
        """
        try:
            loop = (fiber := current_fiber()).loop
        except AttributeError:
            loop = NO_LOOP
        if loop is not self._loop:
            return self._elsewhere(self.recv, timeout)  # type: ignore[no-any-return]
        budget = loop.budget
        if budget <= 0:
            loop.checkpoint(fiber)
        else:
            loop.budget = budget - 1
        buffer = self._buffer
        if buffer:
            item = buffer.popleft()
            if self._senders.items:
                self._let_sender_in()
            return item
        if self._senders.items:
            sender = self._senders.pop()
            if sender is not None:
                return self._taken_from(sender)
        if self._closed:
            raise ChannelClosed("the channel is closed and empty", source=self)
        waiter = fiber.spare
        if waiter is None:
            waiter = Waiter(fiber, self)
        else:
            fiber.spare = None
            waiter.state = ARMED
            waiter.what = self
        try:
            self._receivers.items.append(waiter)
            if (buffer or self._closed) and not waiter.state:
                waiter.state = CANCELLED  # a signal handler was here just before
                return self.recv(timeout)
            ready = loop.ready
            if timeout is not None:
                state = loop.park_for(waiter, timeout)
            elif ready and loop.budget > 0 and not (waiter.state or fiber.waiter) and type(item := ready[0]) is Fiber:
                # loop.park, written out
                fiber.waiter = waiter
                del ready[0]
                if item is not fiber:
                    item.switch()
                fiber.waiter = None
                if fiber.cancelled:
                    loop.budget = 0
                state = waiter.state or loop.park(waiter)
            else:
                state = loop.park(waiter)
        except BaseException as exc:
            if fiber.waiter is waiter:
                fiber.waiter = None
            state = loop.struck(waiter, exc)
        if state == WOKEN:
            item = waiter.value
            waiter.value = None
            if timeout is None:
                waiter.what = waiter.source = None
                fiber.spare = waiter
            return item
        self._receivers.discard(waiter)
        if state == FAILED:
            raise waiter.value
        if state == TIMED_OUT and not fiber.cancelled:
            raise TimeoutError(f"nothing received within {timeout} s")
        raise Cancelled

    def try_send(self, item: T) -> None:
        """Put ``item`` in if that needs no waiting, else raise WouldBlock. ChannelClosed if closed. Never blocks."""
        fiber = getcurrent()
        if type(fiber) is Fiber and fiber.loop is self._loop:
            self._try_send(item)
        else:
            self._edit(self._try_send, item)

    def _try_send(self, item: T) -> None:
        if self._closed:
            raise ChannelClosed("send on a closed channel", source=self)
        if self._receivers.wake_one(item, self):
            return
        if len(self._buffer) < self.capacity:
            self._buffer.append(item)
        else:
            raise WouldBlock("no room in the channel")

    def try_recv(self) -> T:
        """Take the first item if there is one, else WouldBlock. ChannelClosed if closed and empty. Never blocks."""
        fiber = getcurrent()
        if type(fiber) is Fiber and fiber.loop is self._loop:
            return self._try_recv()
        return self._edit(self._try_recv)  # type: ignore[no-any-return]

    def _try_recv(self) -> T:
        if self._buffer:
            item = self._buffer.popleft()
            self._let_sender_in()
            return item
        sender = self._senders.pop()
        if sender is not None:
            return self._taken_from(sender)
        if self._closed:
            raise ChannelClosed("the channel is closed and empty", source=self)
        raise WouldBlock("nothing to receive")

    def close(self, drain: bool = True) -> None:
        """No more sends. Buffered items can still be received, unless ``drain`` is False: then they are dropped.

        Waiting senders get ChannelClosed and their items are not delivered; waiting receivers get
        ChannelClosed. Never blocks; closing twice is fine.
        """
        fiber = getcurrent()
        if type(fiber) is Fiber and fiber.loop is self._loop:
            self._close(drain)
        else:
            self._edit(self._close, drain)

    def _close(self, drain: bool) -> None:
        if not drain:
            self._buffer.clear()
        if not self._closed:
            self._closed = True
            self._senders.fail_all(lambda: ChannelClosed("the channel was closed", source=self))
            self._receivers.fail_all(lambda: ChannelClosed("the channel was closed", source=self))

    def send_op(self, item: T) -> SendOp[T]:
        """Sending ``item``, as a source for :func:`zio.select`."""
        return SendOp(self, item)

    # Senders that wait.

    def _taken_from(self, sender: Waiter) -> T:
        """The item of a waiting sender, who is done with it."""
        if type(sender) is Waiter:
            item = sender.value
            sender.wake()
        else:
            assert isinstance(sender, SelectWaiter)
            op = sender.offers[self]
            item = op.item
            sender.wake(None, op)
        return item  # type: ignore[no-any-return]

    def _let_sender_in(self) -> None:
        sender = self._senders.pop() if self._senders.items else None
        if sender is not None:
            self._buffer.append(self._taken_from(sender))

    # Select, receiving.

    @property
    def select_home(self) -> Loop:
        return self._bind()

    def select_ready(self) -> bool:
        return bool(self._buffer) or self._closed or bool(self._senders)

    def select_missed(self, waiter: Waiter) -> bool:
        return bool(self._buffer) or self._closed or self._senders.has_others(waiter)

    def select_take(self) -> T:
        return self._try_recv()

    def select_arm(self, waiter: Waiter) -> None:
        self._receivers.push(waiter)

    def select_disarm(self, waiter: Waiter) -> None:
        self._receivers.discard(waiter)

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
        return len(self._buffer)

    def __bool__(self) -> bool:
        return True

    def __repr__(self) -> str:
        state = "closed" if self._closed else f"{len(self._buffer)} of {self.capacity}"
        return f"<Channel {state} at {id(self):#x}>"


class SendOp(Generic[T]):
    """A send that ``select`` may complete; its value is None."""

    __slots__ = ("channel", "item")

    def __init__(self, channel: Channel[T], item: T) -> None:
        self.channel = channel
        self.item = item

    @property
    def select_home(self) -> Loop:
        return self.channel.select_home

    def select_ready(self) -> bool:
        channel: Any = self.channel
        return channel.closed or len(channel) < channel.capacity or bool(channel._receivers)

    def select_missed(self, waiter: Waiter) -> bool:
        channel: Any = self.channel
        return bool(channel.closed or len(channel) < channel.capacity or channel._receivers.has_others(waiter))

    def select_take(self) -> None:
        self.channel._try_send(self.item)

    def select_arm(self, waiter: Waiter) -> None:
        assert isinstance(waiter, SelectWaiter)
        if self.channel in waiter.offers:
            raise ValueError(f"two sends to {self.channel!r} in one select")
        waiter.offers[self.channel] = self
        self.channel._senders.push(waiter)

    def select_disarm(self, waiter: Waiter) -> None:
        self.channel._senders.discard(waiter)

    def select_result(self, waiter: Waiter) -> None:
        return None

    def __repr__(self) -> str:
        return f"<send to {self.channel!r}>"
