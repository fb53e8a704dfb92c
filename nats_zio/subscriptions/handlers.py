"""Calling the handler of a subscription: in tasks, or on worker threads.

Neither exists while nothing is pending, so a subscription that hears nothing costs none.
"""

from __future__ import annotations

from threading import Lock
from typing import TYPE_CHECKING, Any

from greenlet import getcurrent

from zio.lowlevel import Fiber, Job, current_holder

from ..user_functions import refuse_unrun

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ..core import Core
    from ..message import Message
    from .pending import Pending
    from .subscription import Subscription


class _Lane:
    """A queue of messages and those who work on it."""

    __slots__ = ("holders", "queue", "running", "workers")

    def __init__(self, queue: Pending, workers: int) -> None:
        self.queue = queue
        self.workers = workers  # at most
        self.running = 0
        self.holders: set[Any] = set()  # the tasks or threads that run


class HandlerRunner:
    """Takes the messages of ``queues`` to ``cb``, with at most ``workers`` at work on each of them at once.

    With one, messages are handled in the order in which they came. ``on_idle`` is called at home whenever a queue
    was emptied.
    """

    __slots__ = ("_cb", "_core", "_in_thread", "_lanes", "_lock", "_on_idle", "_running", "_sub")

    def __init__(
        self,
        sub: Subscription,
        cb: Callable[[Message], object],
        core: Core,
        queues: Sequence[Pending],
        workers: int,
        on_idle: Callable[[], None],
    ) -> None:
        self._sub = sub
        self._cb = cb
        self._core = core
        self._lanes = [_Lane(queue, workers) for queue in queues]
        self._on_idle = on_idle
        self._running = 0
        self._in_thread = core.callbacks_in_threads
        self._lock = Lock()

    def start(self) -> None:
        """Messages are pending: see that somebody handles them. At home."""
        new = []
        with self._lock:
            for lane in self._lanes:
                count = min(len(lane.queue), lane.workers - lane.running)
                lane.running += count
                new += [lane] * count
            if not new:
                return
            self._running += len(new)
            self._core.in_use[self._sub] = None
        loop = self._core.loop
        for lane in new:
            if self._in_thread:
                try:
                    loop.runtime.pool.submit(Job(self._run_in_thread, (lane,), _ignore, None), at_once=True)
                except RuntimeError as exc:  # no more threads: the system's limit, or the interpreter is exiting
                    with self._lock:
                        self._ended(lane)
                        alone = not self._running
                    if alone:
                        self._core.handler_not_started(self._sub, exc)
            else:
                lane.holders.add(loop.spawn_system(self._run_in_task, lane, name=f"handler of {self._sub.subject}"))

    def _run_in_task(self, lane: _Lane) -> None:
        cb, popleft = self._cb, lane.queue.popleft
        fiber = getcurrent()
        assert type(fiber) is Fiber
        loop = fiber.loop
        is_users = self._core.user_functions.is_users
        try:
            while True:
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
                    result = cb(message)
                    if result is not None:
                        refuse_unrun("cb", result)
                except BaseException as exc:
                    if not is_users(exc):
                        raise
                    self._core.callback_failed(self._sub, message, exc)
        finally:
            lane.holders.discard(fiber.task)
            self._ended(lane)
            self._on_idle()

    def _run_in_thread(self, lane: _Lane) -> None:
        cb, queue, loop = self._cb, lane.queue, self._core.loop
        popleft = queue.popleft
        me = current_holder()
        lane.holders.add(me)
        while True:
            if loop.forked:  # the handler has forked, and the child returns: what is pending is the parent's
                return
            try:
                message = popleft()
            except IndexError:
                with self._lock:
                    if queue:
                        continue  # came in just now
                    lane.holders.discard(me)
                    self._ended(lane)
                break
            try:
                result = cb(message)
                if result is not None:
                    refuse_unrun("cb", result)
            except BaseException as exc:  # SystemExit too: it ends no more than this call, as in any thread
                loop.post(self._core.callback_failed, self._sub, message, exc, optional=True)
        loop.post(self._on_idle, optional=True)

    def _ended(self, lane: _Lane) -> None:
        lane.running -= 1
        self._running -= 1
        if not self._running:
            self._core.in_use.pop(self._sub, None)

    def idle(self, excused: list[Any]) -> bool:
        """Whether nothing runs and nothing is pending, apart from the excused and what only they could take."""
        for lane in self._lanes:
            waiting = sum(holder in excused for holder in list(lane.holders))
            if lane.running > waiting or (lane.queue and lane.workers > waiting):
                return False
        return True


def _ignore(job: Job) -> None:
    """A handler's job has no outcome: errors go to ``callback_failed``."""
