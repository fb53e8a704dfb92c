"""Calling the handler of a subscription: in tasks, or on worker threads.

Neither exists while nothing is pending, so a subscription that hears nothing costs none. Each call has the context in
which the subscription was made, as it was then: what one call sets in it, the next one does not see.

No lock: a worker that finds nothing says that its place is free and has the loop look again, so nothing is left lying.
"""

from __future__ import annotations

from contextvars import Context
from typing import TYPE_CHECKING, Any

from greenlet import getcurrent

from zio.lowlevel import Fiber, Job, current_holder

from ..user_functions import refuse_unrun

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from zio.lowlevel import Loop

    from ..core import Core
    from ..message import Message
    from .pending import Pending
    from .subscription import Subscription

FIRST_RETRY = 0.01  # seconds, when there was no thread; twice as long each time
LAST_RETRY = 1.0


class _Lane:
    """A queue of messages and those who work on it."""

    __slots__ = ("holders", "places", "queue", "workers")

    def __init__(self, queue: Pending, workers: int) -> None:
        self.queue = queue
        self.workers = workers  # at most
        self.places: list[None] = [None] * workers  # that are free
        self.holders: set[Any] = set()  # the tasks or threads that run

    @property
    def running(self) -> int:
        return self.workers - len(self.places)


class HandlerRunner:
    """Takes the messages of ``queues`` to ``cb``, with at most ``workers`` at work on each of them at once.

    With one, messages are handled in the order in which they came. The subscription is known only while there is
    something to do, so that the two make no cycle.
    """

    __slots__ = ("_cb", "_context", "_core", "_in_thread", "_lanes", "_retry")

    def __init__(
        self,
        cb: Callable[[Message], object],
        context: Context,
        core: Core,
        queues: Sequence[Pending],
        workers: int,
    ) -> None:
        self._cb = cb
        self._context = context
        self._core = core
        self._lanes = [_Lane(queue, workers) for queue in queues]
        self._in_thread = core.callbacks_in_threads
        self._retry: _Retry | None = None

    def start(self, sub: Subscription) -> None:
        """Messages are pending: see that somebody handles them. At home. Nobody does in a client that closes."""
        if self._core.closing:
            return
        for lane in self._lanes:
            for _ in range(len(lane.queue)):
                try:
                    lane.places.pop()
                except IndexError:
                    break  # all are at work
                if not self._start_one(sub, lane):
                    return

    def _start_one(self, sub: Subscription, lane: _Lane) -> bool:
        """Start a worker, who has its place; False if there is no thread for it."""
        loop = self._core.loop
        self._core.in_use[sub] = None
        if not self._in_thread:
            lane.holders.add(loop.spawn_system(self._run_in_task, sub, lane, name=f"handler of {sub.subject}"))
            return True
        try:
            loop.runtime.pool.submit(Job(self._run_in_thread, (sub, lane), _ignore, None), at_once=True)
        except RuntimeError as exc:  # no more threads: the system's limit, or the interpreter is exiting
            lane.places.append(None)
            self._rest(sub)
            if self._retry is None:
                self._core.handler_not_started(sub, exc)
                self._retry = _Retry(self, sub)
            self._retry.start(loop)
            return False
        if self._retry is not None:
            self._retry = None
        return True

    def _run_in_task(self, sub: Subscription, lane: _Lane) -> None:
        popleft, core = lane.queue.popleft, self._core
        call = _in_own_context(self._cb, self._context)
        fiber = getcurrent()
        assert type(fiber) is Fiber
        loop = fiber.loop
        is_users = core.user_functions.is_users
        try:
            while not core.closing:
                budget = loop.budget
                if budget <= 0:
                    loop.checkpoint(fiber)
                else:
                    loop.budget = budget - 1
                try:
                    message = popleft()
                except IndexError:
                    return
                try:
                    result = call(message)
                    if fiber.gr_context is not None:  # set by the call, which had an empty one
                        fiber.gr_context = None
                    if result is not None:
                        refuse_unrun("cb", result)
                except BaseException as exc:
                    fiber.gr_context = None
                    if not is_users(exc):
                        raise
                    core.callback_failed(sub, message, exc)
        finally:
            lane.holders.discard(fiber.task)
            lane.places.append(None)
            self._look_again(sub)

    def _run_in_thread(self, sub: Subscription, lane: _Lane) -> None:
        core = self._core
        loop = core.loop
        me = current_holder()
        try:
            lane.holders.add(me)
            more = True
            while more and not loop.forked and not core.closing:  # forked: the child of a handler that has forked
                # In a context of its own; anew when a call has set something in it.
                context = self._context.copy()
                more = context.run(self._handle_in_thread, sub, lane, context)
        finally:
            lane.holders.discard(me)
            lane.places.append(None)
            if not loop.forked:
                loop.post(self._look_again, sub, optional=True)

    def _handle_in_thread(self, sub: Subscription, lane: _Lane, context: Context) -> bool:
        """Handle what is pending; False if that was all, True if the next call needs another context."""
        cb, popleft, core = self._cb, lane.queue.popleft, self._core
        loop = core.loop
        fresh = not context
        while not loop.forked and not core.closing:
            message = None
            try:
                try:
                    message = popleft()
                except IndexError:
                    return False
                result = cb(message)
                if result is not None:
                    refuse_unrun("cb", result)
            except BaseException as exc:  # SystemExit too: it ends no more than this call, as in any thread
                if message is None:
                    raise  # an asynchronous one, which has struck between two messages
                loop.post(core.callback_failed, sub, message, exc, optional=True)
            if not fresh or len(context):
                return True
        return False

    def _look_again(self, sub: Subscription) -> None:
        """A worker has found nothing; perhaps something has come since. At home."""
        self.start(sub)
        self._rest(sub)
        sub.consumers.look_again()

    def _rest(self, sub: Subscription) -> None:
        if not any(lane.running for lane in self._lanes):
            self._core.in_use.pop(sub, None)

    def idle(self, excused: list[Any]) -> bool:
        """Whether nothing runs and nothing is pending, apart from the excused and what only they could take."""
        for lane in self._lanes:
            waiting = sum(holder in excused for holder in list(lane.holders))
            if lane.running > waiting or (lane.queue and lane.workers > waiting):
                return False
        return True

    def at_rest(self, excused: list[Any]) -> bool:
        """Whether nothing runs, apart from the excused, whatever is pending."""
        return all(lane.running <= sum(holder in excused for holder in list(lane.holders)) for lane in self._lanes)


class _Retry:
    """An entry in the loop's heap of timers: tries again to find a thread."""

    __slots__ = ("_deadline", "_pause", "_runner", "_sub")

    sleeping = True  # for the timer heap: it fires at once

    def __init__(self, runner: HandlerRunner, sub: Subscription) -> None:
        self._runner = runner
        self._sub = sub
        self._pause = FIRST_RETRY
        self._deadline: float | None = None

    def start(self, loop: Loop) -> None:
        if self._deadline is None:
            self._deadline = loop.clock.now() + self._pause
            self._pause = min(2 * self._pause, LAST_RETRY)
            loop.timers.push(self._deadline, self)

    def alive(self, deadline: float) -> bool:
        return deadline == self._deadline

    def expire(self) -> None:
        self._deadline = None
        self._runner.start(self._sub)


def _in_own_context(cb: Callable[[Message], object], context: Context) -> Callable[[Message], object]:
    """What calls ``cb`` in a copy of ``context``. A task has an empty one anyway, and gives up what a call has set."""
    if not context:
        return cb
    return lambda message: context.copy().run(cb, message)


def _ignore(job: Job) -> None:
    """A handler's job has no outcome: errors go to ``callback_failed``."""
