"""A subscription: a channel of messages with limits, read by ``next``, iteration, ``select`` or a handler.

The session puts whole batches in, at home. Taking is one ``deque.popleft``, which is atomic, so a consumer on
another thread takes without a hop while there is something, and what a loop has not taken when it breaks is
simply still there. A plain thread that waits is only told that there is something, and takes it itself: so no
interruption loses a message. Waiting tasks, closing and the limits belong to the home loop.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Self

from greenlet import getcurrent

import zio
from zio.lowlevel import (
    FAILED,
    TIMED_OUT,
    WOKEN,
    Fiber,
    Waiter,
    WaitQueue,
    current_owner,
    monotonic,
    refuse_to_block_here,
    runtime_here,
)

from ..at_home import call_home, edit_home
from ..closed_reason import ClosedReason
from ..errors import Error, SlowConsumerError, SubscriptionClosedError, SubscriptionLostError, TimeoutError
from ..options import DEFAULT, check_limit, check_timeout
from ..sleepers import Sleepers
from .backpressure import Backlog
from .consumers import Consumers
from .handlers import HandlerRunner
from .iterating import MessageIterator
from .limits import Limits, size_of
from .pending import make_pending
from .snapshot import SubscriptionSnapshot, snapshot_values

if TYPE_CHECKING:
    from zio.lowlevel import Loop

    from ..core import Core
    from ..message import Message
    from .subscribing import Terms


class Subscription:
    """Made by ``client.subscribe``. Iterating yields messages until it ends; ``with`` unsubscribes.

    May be used from any task or thread. Selectable: ``zio.select(sub, ...)`` gives a message. A copy, or what comes out
    of a pickle, is a :class:`SubscriptionSnapshot`, which tells of it.
    """

    def __init__(self, core: Core, subject: str, queue: str | None, sid: int, terms: Terms) -> None:
        self.subject = subject
        self.queue = queue
        self.sid = sid
        self.closed_reason: ClosedReason | None = None
        self._core = core
        self._loop: Loop = core.loop
        backlog = None
        if terms.overflow == "block":
            backlog = Backlog(self, core, terms.pending_msgs, terms.pending_bytes)
        self._limits = Limits(terms.pending_msgs, terms.pending_bytes, terms.overflow, backlog)
        failed, is_users = partial(core.callback_failed, self), core.user_functions.is_users
        self._queue, queues = make_pending(terms.key, terms.workers, failed, is_users, backlog)
        self._waiters = WaitQueue()
        self._sleepers = Sleepers()
        self._received = 0  # since the beginning, dropped ones included
        self._received_before = 0  # of the received: on earlier connections; the server counts from zero on each
        self._given_up = 0  # of the received: not kept, or discarded by unsubscribe
        # An upper bound of the bytes pending. Exact counting would cost every message; so it is made exact
        # only when it passes the limit, and forgotten when the queue is found empty.
        self._bytes_bound = 0
        self._max_msgs = terms.max_msgs
        self._error: BaseException | None = None  # what next() raises in the end
        self.consumers = Consumers(core)
        self._runner: HandlerRunner | None = None
        if terms.cb is not None:
            at_each = terms.workers if len(queues) == 1 else 1
            self._runner = HandlerRunner(terms.cb, terms.context, core, queues, at_each)
        self.consumers.runner = self._runner

    # Taking messages.

    def next(self, timeout: float | None = DEFAULT) -> Message:
        """The next message, waiting for it at most ``timeout`` seconds (default: ``request_timeout``; None: no limit).

        TimeoutError when they pass; SubscriptionClosedError when the subscription has ended and is empty.
        A cancelled or timed out wait takes no message.
        """
        if self._runner is not None:
            raise self._taken_by_handler("next()")
        if timeout is DEFAULT:
            timeout = self._core.options.request_timeout
        fiber = getcurrent()
        if type(fiber) is Fiber:
            loop = fiber.loop
            if loop.budget <= 0:
                loop.checkpoint(fiber)
            else:
                loop.budget -= 1
        elif self._loop.forked:
            self._loop.check_usable()
        try:
            return self._queue.popleft()
        except IndexError:
            pass  # and not in here, or it would be the context of what the wait raises
        return self._wait(timeout)

    def _wait(self, timeout: float | None) -> Message:
        """Wait for a message, wherever this is."""
        if timeout is not None and (type(timeout) is not float or timeout != timeout):
            check_timeout(timeout)
        fiber = getcurrent()
        loop = self._loop
        if loop.forked:
            loop.check_usable()
        if type(fiber) is not Fiber:
            return self._wait_in_thread(timeout)
        if fiber.loop is loop:
            return self._wait_next(timeout)
        if self.closed_reason is not None:
            return self._last()
        return call_home(loop, self._wait_next, timeout)  # type: ignore[no-any-return]

    def _wait_in_thread(self, timeout: float | None) -> Message:
        refuse_to_block_here(Subscription.next)
        until = None if timeout is None else monotonic() + timeout
        self.consumers.emptied()
        while True:
            left = None if until is None else until - monotonic()
            arrived = self._sleepers.sleep(self._something_to_say, left, self, self._waits)
            try:
                return self._queue.popleft()
            except IndexError:
                pass  # another thread was faster
            if self.closed_reason is not None:
                return self._last()
            if not arrived:
                raise TimeoutError(f"no message on {self.subject!r} within {timeout} s")

    def _something_to_say(self) -> bool:
        """Whether there is a message, or the end."""
        return bool(self._queue) or self.closed_reason is not None

    def _wait_next(self, timeout: float | None) -> Message:
        try:
            return self._queue.popleft()
        except IndexError:
            self.consumers.look_again()
        if self.closed_reason is not None:
            raise self._closed_error()
        fiber = getcurrent()
        assert type(fiber) is Fiber
        loop = fiber.loop
        if fiber.cancelled:
            loop.checkpoint(fiber)
        self._waits()
        waiter = Waiter(fiber, self)
        self._waiters.items.append(waiter)
        state = loop.park(waiter) if timeout is None else loop.park_for(waiter, timeout)
        if state == WOKEN:
            return waiter.value if timeout is None else waiter.take()  # type: ignore[no-any-return]
        self._waiters.discard(waiter)
        if state == FAILED:
            raise waiter.value
        if state == TIMED_OUT and not fiber.cancelled:
            raise TimeoutError(f"no message on {self.subject!r} within {timeout} s")
        raise zio.Cancelled

    def _waits(self) -> None:
        """Somebody is about to wait for a message: a held reader looks whether it is one it has to go on for."""
        if self._limits.backlog is not None:
            self._limits.backlog.consumed_by(current_owner())
        gate = self._core.gate
        if gate.shut:
            gate.look_again()

    def try_next(self) -> Message | None:
        """The next message if one is pending, else None. SubscriptionClosedError when ended and empty. Never waits."""
        if self._runner is not None:
            raise self._taken_by_handler("try_next()")
        if self._loop.forked:
            self._loop.check_usable()
        try:
            return self._queue.popleft()
        except IndexError:
            pass
        return None if self.closed_reason is None else self._last()

    def _last(self) -> Message:
        """It has ended; but its last messages may have come between a look at the queue and that."""
        try:
            return self._queue.popleft()
        except IndexError:
            pass
        raise self._closed_error()

    def next_batch(self, max: int, timeout: float | None = DEFAULT) -> list[Message]:
        """Wait like ``next`` for a message; return it with all others pending, at most ``max``."""
        if max < 1:
            raise ValueError(f"next_batch needs a max from 1 up, not {max}")
        batch = [self.next(timeout)]
        popleft = self._queue.popleft
        try:
            while len(batch) < max:
                batch.append(popleft())
        except IndexError:
            return batch
        return batch

    def __iter__(self) -> MessageIterator:
        if self._runner is not None:
            raise self._taken_by_handler("iteration")
        return MessageIterator(self, self._loop, self._queue.popleft, self._wait)

    def _taken_by_handler(self, what: str) -> Error:
        return Error(f"the messages of {self!r} go to its handler; {what} cannot take them as well")

    # Ending.

    def unsubscribe(self, after: int | None = None) -> None:
        """End the subscription and drop what is pending; with ``after``, end when so many have come in all.

        The messages that came before an ``after`` stay readable. Never blocks. Does nothing if it has ended.
        """
        if after is not None:
            check_limit("after", after, none_allowed=False)
        edit_home(self._loop, self._unsubscribe, after)

    def _unsubscribe(self, after: int | None) -> None:
        if self.closed_reason is not None:
            if after is None:
                self._discard_pending()
            return
        if after is None:
            self._core.table.unsubscribe(self)
            self.close(ClosedReason.UNSUBSCRIBED, None)
            self._discard_pending()
        else:
            self._max_msgs = after
            if self._received >= after:
                self._core.table.unsubscribe(self)
                self.close(ClosedReason.LIMIT_REACHED, None)
            else:
                self._core.table.limit(self, after - self._received_before)

    def drain(self, timeout: float | None = 30.0) -> None:
        """End the subscription after what is on its way has come, and wait until others have handled it.

        Waits for the handler and for iterators of other tasks, at most ``timeout`` seconds: then TimeoutError.
        What nobody iterates stays readable. Does nothing on a closed client or subscription.
        """
        check_timeout(timeout)
        if not self._core.is_closed:
            call_home(self._loop, self._core.draining.drain_subscriptions, [self], timeout)

    def set_pending_limits(self, msgs: int | None, bytes: int | None) -> None:
        """Change the limits of pending messages and payload bytes; None is no limit."""
        check_limit("msgs", msgs)
        check_limit("bytes", bytes)
        edit_home(self._loop, self._limits.change, msgs, bytes)

    # Counters.

    @property
    def pending_msgs(self) -> int:
        """How many messages wait to be taken."""
        return len(self._queue)

    @property
    def pending_bytes(self) -> int:
        """Their size: payload and headers."""
        return sum(map(size_of, list(self._queue)))

    @property
    def delivered(self) -> int:
        """How many messages were taken."""
        return self._received - self._given_up - len(self._queue)

    @property
    def dropped(self) -> int:
        """How many messages were dropped because of the limits."""
        return self._limits.dropped

    @property
    def dropped_bytes(self) -> int:
        """The size of the dropped messages: payload and headers."""
        return self._limits.dropped_bytes

    @property
    def has_handler(self) -> bool:
        """Whether a handler takes its messages."""
        return self._runner is not None

    @property
    def closed(self) -> bool:
        """Whether it has ended; messages may still be pending."""
        return self.closed_reason is not None

    # For the client, at home.

    def deliver(self, messages: list[Message], bound: int) -> None:
        """A batch has arrived; ``bound`` is at least its size in bytes."""
        queue = self._queue
        count = len(messages)
        maximum = self._max_msgs
        if maximum is not None and self._received + count >= maximum:
            del messages[maximum - self._received :]
            count = len(messages)
            self._core.table.forget(self)
            self._received += count
            self._take_in(messages, bound)
            self.close(ClosedReason.LIMIT_REACHED, None)
            return
        self._received += count
        if not queue:
            self._bytes_bound = 0
            if self._runner is None and self._waiters.items and count == 1:
                waiter = self._waiters.pop()
                if waiter is not None:
                    waiter.wake(messages[0], self)
                    return
        self._take_in(messages, bound)

    def _take_in(self, messages: list[Message], bound: int) -> None:
        queue, limits = self._queue, self._limits
        self._bytes_bound += bound
        limit_msgs, limit_bytes = limits.msgs, limits.bytes
        if (limit_msgs is not None and len(queue) + len(messages) > limit_msgs) or (
            limit_bytes is not None and self._bytes_bound > limit_bytes
        ):
            self._take_in_counted(messages)
        else:
            queue.extend(messages)
            limits.all_fit(len(queue), self._bytes_bound)
        if self._runner is not None:
            self._runner.start(self)
            return
        if self._waiters.items:
            self._serve_waiters()
        if self._sleepers:
            self._sleepers.rouse(len(queue))

    def _serve_waiters(self) -> None:
        while self._queue:
            waiter = self._waiters.pop()
            if waiter is None:
                return
            try:
                message = self._queue.popleft()
            except IndexError:  # taken from another thread just now
                self._waiters.items.appendleft(waiter)
                return
            waiter.wake(message, self)

    def _take_in_counted(self, messages: list[Message]) -> None:
        limits = self._limits
        episodes = limits.episodes
        waiting = len(self._waiters) + len(self._sleepers) if self._runner is None else 0
        self._bytes_bound, dropped = limits.fit_in(messages, self._queue, waiting)
        self._given_up += dropped
        if limits.episodes > episodes:
            self._core.slow_consumer(self)
        if dropped and limits.overflow == "error":
            self._core.table.unsubscribe(self)
            self.close(ClosedReason.SLOW_CONSUMER, SlowConsumerError(self.subject, limits.dropped))

    def belongs_to(self, core: Core) -> bool:
        """Whether it is one of this client."""
        return self._core is core

    def close(self, reason: ClosedReason, error: BaseException | None) -> None:
        """It has ended. What is pending stays readable; who waits, with nothing pending, is told."""
        if self.closed_reason is None:
            self.closed_reason = reason
            self._error = error
            self._limits.end()
            self._serve_waiters()
            self._waiters.fail_all(self._closed_error)
            self._sleepers.rouse(len(self._sleepers))
            self._core.table.forget(self)

    @property
    def error(self) -> BaseException:
        """What ``next`` raises, now that it has ended."""
        return self._closed_error()

    @property
    def heard_of(self) -> bool:
        """Whether a message has come on this connection: then the server has accepted it."""
        return self._received > self._received_before

    def _closed_error(self) -> BaseException:
        if self._error is not None and not isinstance(self._error, SubscriptionClosedError):
            return self._error
        kind = (
            SubscriptionLostError
            if self.closed_reason in (ClosedReason.CLIENT_CLOSED, ClosedReason.CONNECTION_LOST)
            else SubscriptionClosedError
        )
        return kind(self.subject, self.closed_reason, self)

    @property
    def remaining(self) -> int | None:
        """How many messages may still come before the limit, None without one."""
        return None if self._max_msgs is None else self._max_msgs - self._received

    def count_anew(self) -> None:
        """It is being subscribed on a new connection."""
        self._received_before = self._received

    def _discard_pending(self) -> None:
        count = len(self._queue)
        self._queue.clear()
        self._given_up += count
        self.consumers.look_again()

    # Select.

    @property
    def select_home(self) -> Loop:
        loop = self._loop
        if loop.closed and not loop.forked:  # with its client: anybody may look at what is left
            return (runtime_here() or zio.background()).loop
        return loop

    def select_ready(self) -> bool:
        if self._runner is not None:
            raise self._taken_by_handler("select()")
        return self._something_to_say()

    def select_take(self) -> Message:
        try:
            return self._queue.popleft()
        except IndexError:
            pass
        if self.closed_reason is None:
            raise zio.WouldBlock("another thread took the message")
        raise self._closed_error()

    def select_arm(self, waiter: Waiter) -> None:
        self._waits()
        self._waiters.push(waiter)

    def select_disarm(self, waiter: Waiter) -> None:
        self._waiters.discard(waiter)

    def select_result(self, waiter: Waiter) -> Message:
        return waiter.take()  # type: ignore[no-any-return]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        if not self._loop.forked:  # a forked child that leaves the block has nothing to end
            self.unsubscribe()

    def __reduce__(self) -> tuple[type[SubscriptionSnapshot], tuple[object, ...]]:
        return SubscriptionSnapshot, snapshot_values(self)

    def __len__(self) -> int:
        return len(self._queue)

    def __bool__(self) -> bool:
        return True

    def __repr__(self) -> str:
        queue = f" queue={self.queue!r}" if self.queue else ""
        state = "open" if self.closed_reason is None else f"ended: {self.closed_reason}"
        return f"<Subscription {self.subject!r}{queue} {state}, {len(self._queue)} pending>"
