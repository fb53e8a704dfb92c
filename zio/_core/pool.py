"""Threads for blocking code: made on demand, reused last-in first-out, ended when idle for a while.

Our own, because concurrent.futures refuses work once the interpreter is exiting, and clients still flush then.
The process has no second thread before the first job.
"""

from __future__ import annotations

import threading
from collections import deque
from contextlib import contextmanager
from contextvars import copy_context
from typing import TYPE_CHECKING, Any

from greenlet import getcurrent

from .cancel import CancelScope
from .errors import Cancelled, RuntimeClosed
from .fiber import Fiber
from .foreign import RuntimeThread
from .thread_holder import thread_holder
from .waiter import FAILED, WOKEN, Waiter

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextvars import Context

    from .scheduler import Loop
    from .thread_holder import ThreadHolder

MAX_THREADS = 64  # jobs above that wait in a queue
IDLE_SECONDS = 10.0  # an idle thread ends after this

_worker = threading.local()


def worker_loop() -> Loop | None:
    """The loop that the job of this pool thread works for; None in other threads."""
    return getattr(_worker, "loop", None)


class Job:
    """A call in a thread: ``done(job)`` is called there when it has ended."""

    __slots__ = ("args", "cancelled", "context", "done", "ended", "error", "fn", "holder", "value", "waiter")

    def __init__(
        self, fn: Callable[..., Any], args: tuple[Any, ...], done: Callable[[Job], None], context: Context | None
    ) -> None:
        self.fn = fn
        self.args = args
        self.done = done
        self.context = context
        self.value: Any = None
        self.error: BaseException | None = None
        self.waiter: Waiter | None = None
        self.ended = False
        self.cancelled = False  # the task that waits for it is: what it calls back ends with Cancelled
        self.holder: ThreadHolder | None = None  # the thread, while it runs

    def __repr__(self) -> str:
        return f"<job {getattr(self.fn, '__qualname__', '') or type(self.fn).__name__} in a thread>"

    def run(self) -> None:
        try:
            self.value = self.fn(*self.args) if self.context is None else self.context.run(self.fn, *self.args)
        except BaseException as exc:  # whatever it is, it belongs to the caller
            self.error = exc
        self.ended = True
        self.done(self)


class ThreadPool:
    """The threads of one runtime."""

    def __init__(self, loop: Loop, max_threads: int = MAX_THREADS) -> None:
        self._loop = loop
        self._max = max_threads
        self._lock = threading.Lock()
        self._queue: deque[Job] = deque()
        self._idle: list[_Seat] = []
        self._threads: dict[threading.Thread, Job | None] = {}  # and what each works on
        self._aside = 0  # threads whose job waits for a task
        self._closed = False

    # From any thread.

    def submit(self, job: Job, *, at_once: bool = False) -> None:
        """Run ``job`` in a thread: an idle one, a new one, or when all are taken the next that is free.

        ``at_once`` starts a thread above the limit instead of queueing, for jobs that may wait for each other.
        """
        with self._lock:
            if self._closed:
                raise RuntimeClosed("the runtime has ended")
            if self._idle:
                self._idle.pop().hand(job)
                return
            if len(self._threads) - self._aside >= self._max and not at_once:
                self._queue.append(job)
                return
            self._start(job)

    def _start(self, job: Job) -> None:
        thread = RuntimeThread(target=self._work, args=(job,), name="zio-worker", daemon=True)
        self._threads[thread] = job
        try:
            thread.start()
        except BaseException:
            del self._threads[thread]
            raise

    def working(self) -> list[tuple[str, Job]]:
        """The threads that have a job, and what it is."""
        with self._lock:
            return [(thread.name, job) for thread, job in self._threads.items() if job is not None and not job.ended]

    def numbers(self) -> tuple[int, int, int]:
        """Jobs in the queue, threads, and those of them that are idle."""
        with self._lock:
            return len(self._queue), len(self._threads), len(self._idle)

    def withdraw(self, job: Job) -> bool:
        """Take back a job that no thread has begun."""
        with self._lock:
            try:
                self._queue.remove(job)
            except ValueError:
                return False
            return True

    def cancel(self, job: Job) -> None:
        """The job itself cannot be stopped, but its calls back into the runtime can: they end with Cancelled."""
        with self._lock:
            job.cancelled = True
            if job.holder is not None:
                job.holder.cancel_job()

    # In the threads.

    @contextmanager
    def stepping_aside(self) -> Iterator[None]:
        """For a job that waits for a task: another thread may take its place, or with the last one all would stand."""
        with self._lock:
            self._aside += 1
            if self._queue and not self._closed:
                self._start(self._queue.popleft())
        try:
            yield
        finally:
            with self._lock:
                self._aside -= 1

    def _work(self, first: Job) -> None:
        _worker.loop = self._loop
        me, holder = threading.current_thread(), thread_holder()
        seat = _Seat()
        job: Job | None = first
        while job is not None:
            self._threads[me] = job
            if job.waiter is not None or job.cancelled:  # a task waits for it, or did
                # In this order, since the task's cancel goes the other way round.
                job.holder = holder
                if job.cancelled:
                    self.cancel(job)
            job.run()
            if self._loop.forked:  # the child that the job has forked returns here: what waits is the parent's to do
                return
            with self._lock:
                self._threads[me] = None
                job.holder = None
                if job.cancelled:
                    holder.job_ended()
                if self._queue:
                    job = self._queue.popleft()
                    continue
                if self._closed:
                    break
                self._idle.append(seat)
            job = seat.wait(IDLE_SECONDS)
            if job is None:
                with self._lock:
                    if seat in self._idle:
                        self._idle.remove(seat)
                    else:
                        job = seat.taken()  # handed over at the last moment; None means the end
        with self._lock:
            self._threads.pop(me, None)

    # In the loop.

    def run(self, fn: Callable[..., Any], args: tuple[Any, ...], *, abandon: bool) -> Any:
        """Run ``fn(*args)`` in a thread and park until it has ended.

        Cancelled before a thread has begun: the job never runs. Later: waits for its end, or with
        ``abandon`` leaves it to itself and drops its outcome; calls of the job that wait in the runtime are cancelled.
        """
        fiber = getcurrent()
        assert type(fiber) is Fiber
        loop = fiber.loop
        if fiber.cancelled or loop.budget <= 0:
            loop.checkpoint(fiber)
        job = Job(fn, args, self._ended, copy_context())
        waiter = job.waiter = Waiter(fiber, job)
        loop.jobs += 1
        try:
            self.submit(job)
        except BaseException:
            loop.jobs -= 1
            raise
        state = loop.park(waiter)
        if state != WOKEN:
            if self.withdraw(job):
                loop.jobs -= 1
                job.waiter = None
                raise waiter.value if state == FAILED else Cancelled
            self.cancel(job)
            if abandon:
                job.waiter = None
                raise waiter.value if state == FAILED else Cancelled
            with CancelScope(shield=True):
                while job.waiter is not None:
                    job.waiter = again = Waiter(fiber, job)
                    if loop.park(again) == FAILED:  # a second Control-C: leave the job to itself
                        job.waiter = None
                        raise again.value
            if state == FAILED:
                raise waiter.value
        return self._outcome(job)

    def _ended(self, job: Job) -> None:
        self._loop.post(self._came_back, job, optional=True)

    def _came_back(self, job: Job) -> None:
        self._loop.jobs -= 1
        waiter, job.waiter = job.waiter, None
        if waiter is not None:
            waiter.wake()

    @staticmethod
    def _outcome(job: Job) -> Any:
        error = job.error
        if error is not None:
            try:
                raise error
            finally:
                job.error = error = None
        return job.value

    def close(self) -> None:
        """End the threads and wait for them; one that works on an abandoned job ends by itself after it."""
        with self._lock:
            self._closed = True
            self._queue.clear()
            for seat in self._idle:
                seat.hand(None)
            self._idle.clear()
            ending = [thread for thread, job in self._threads.items() if job is None or job.ended]
        for thread in ending:
            thread.join()


class _Seat:
    """Where an idle thread waits to be handed a job (None: the end)."""

    __slots__ = ("_job", "_lock")

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._lock.acquire()
        self._job: Job | None = None

    def hand(self, job: Job | None) -> None:
        self._job = job
        self._lock.release()

    def wait(self, seconds: float) -> Job | None:
        if self._lock.acquire(timeout=seconds):
            return self.taken()
        return None

    def taken(self) -> Job | None:
        self._lock.acquire(blocking=False)
        job, self._job = self._job, None
        return job
