"""Calling the handler of a subscription, one message after another: in a task, or on a worker thread.

Neither exists while nothing is pending, so a subscription that hears nothing costs none.
"""

from __future__ import annotations

from threading import Lock
from typing import TYPE_CHECKING, Any

from greenlet import getcurrent

from zio.lowlevel import Fiber, Job, current_holder

if TYPE_CHECKING:
    from collections import deque
    from collections.abc import Callable

    from .client import Client
    from .message import Message
    from .subscription import Subscription


class HandlerRunner:
    """Takes the messages of ``queue`` to ``cb``; ``on_idle`` is called at home whenever the queue was emptied."""

    __slots__ = ("_cb", "_client", "_holder", "_in_thread", "_lock", "_on_idle", "_queue", "_running", "_sub")

    def __init__(
        self,
        sub: Subscription,
        cb: Callable[[Message], object],
        client: Client,
        queue: deque[Message],
        on_idle: Callable[[], None],
    ) -> None:
        self._sub = sub
        self._cb = cb
        self._client = client
        self._queue = queue
        self._on_idle = on_idle
        self._running = False
        self._holder: Any = None  # the task or thread that runs
        self._in_thread = client.callbacks_in_threads
        self._lock = Lock()

    def start(self) -> None:
        """Messages are pending: see that somebody handles them. At home."""
        with self._lock:
            if self._running or not self._queue:
                return
            self._running = True
            self._client.in_use[self._sub] = None
        loop = self._client.loop
        if self._in_thread:
            try:
                loop.runtime.pool.submit(Job(self._run_in_thread, (), _ignore, None), at_once=True)
            except RuntimeError as exc:  # no more threads: the system's limit, or the interpreter is exiting
                self._ended()
                self._client.handler_not_started(self._sub, exc)
        else:
            self._holder = loop.spawn_system(self._run_in_task, name=f"handler of {self._sub.subject}")

    def _run_in_task(self) -> None:
        cb, popleft = self._cb, self._queue.popleft
        fiber = getcurrent()
        assert type(fiber) is Fiber
        loop = fiber.loop
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
                    cb(message)
                except Exception as exc:
                    self._client.callback_failed(self._sub, message, exc)
        finally:
            self._ended()
            self._on_idle()

    def _run_in_thread(self) -> None:
        cb, popleft, loop = self._cb, self._queue.popleft, self._client.loop
        self._holder = current_holder()
        while True:
            try:
                message = popleft()
            except IndexError:
                with self._lock:
                    if self._queue:
                        continue  # came in just now
                    self._ended()
                break
            try:
                cb(message)
            except BaseException as exc:  # SystemExit too: it ends no more than this call, as in any thread
                loop.post(self._client.callback_failed, self._sub, message, exc, optional=True)
        loop.post(self._on_idle, optional=True)

    def _ended(self) -> None:
        self._running = False
        self._holder = None
        self._client.in_use.pop(self._sub, None)

    def idle(self, excused: list[Any]) -> bool:
        """Whether nothing runs and nothing is pending, or the handler is among the excused."""
        if self._holder is not None and self._holder in excused:
            return True
        return not self._running and not self._queue


def _ignore(job: Job) -> None:
    """A handler's job has no outcome: errors go to ``callback_failed``."""
