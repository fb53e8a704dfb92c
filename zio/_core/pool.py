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

    __slots__ = (
        "args",
        "cancelled",
        "context",
        "done",
        "ended",
        "error",
        "fn",
        "holder",
        "returned",
        "value",
        "waiter",
    )

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
        self.returned = False  # the loop knows that it has ended
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
    """The threads of one runtime.

    No lock: a finalizer, or a signal handler, may run in the middle of any of this and call into the runtime. Each step
    is one of C, and who has nothing to do looks again after he has said so: a job is appended, and then an idle thread
    is looked for; a thread says that it is idle, and then looks for a job.
    """

    def __init__(self, loop: Loop, max_threads: int = MAX_THREADS) -> None:
        self._loop = loop
        self._max = max_threads
        self._queue: deque[Job] = deque()
        self._idle: list[_Seat] = []
        self._threads: dict[threading.Thread, Job | None] = {}  # and what each works on
        self._aside: list[None] = []  # one for each thread whose job waits for a task
        self._closed = False

    # From any thread.

    def submit(self, job: Job, *, at_once: bool = False) -> None:
        """Run ``job`` in a thread: an idle one, a new one, or when all are taken the next that is free.

        ``at_once`` starts a thread above the limit instead of queueing, for jobs that may wait for each other. A
        RuntimeError if there is no thread, and none can be had; the job was not taken then.
        """
        if self._closed:
            raise RuntimeClosed("the runtime has ended")
        if not (self._idle or at_once or len(self._threads) - len(self._aside) < self._max):
            self._queue.append(job)
            if self._idle:  # since a moment ago
                self._hand_out()
            return
        try:
            seat = self._idle.pop()
        except IndexError:
            self._start(job)
        else:
            seat.hand(job)

    def _hand_out(self) -> None:
        """Give what is queued to those who are idle."""
        while self._queue:
            try:
                seat = self._idle.pop()
            except IndexError:
                return  # whoever is busy looks at the queue before it is idle
            try:
                job = self._queue.popleft()
            except IndexError:
                self._idle.append(seat)
                continue
            seat.hand(job)

    def _start(self, job: Job) -> None:
        thread = RuntimeThread(target=self._work, args=(job,), name="zio-worker", daemon=True)
        self._threads[thread] = job
        try:
            thread.start()
        except BaseException:
            self._threads.pop(thread, None)
            raise

    def working(self) -> list[tuple[str, Job]]:
        """The threads that have a job, and what it is."""
        return [(thread.name, job) for thread, job in list(self._threads.items()) if job is not None and not job.ended]

    def numbers(self) -> tuple[int, int, int]:
        """Jobs in the queue, threads, and those of them that are idle."""
        return len(self._queue), len(self._threads), len(self._idle)

    def withdraw(self, job: Job) -> bool:
        """Take back a job that no thread has begun."""
        try:
            self._queue.remove(job)
        except ValueError:
            return False
        return True

    def cancel(self, job: Job) -> None:
        """The job itself cannot be stopped, but its calls back into the runtime can: they end with Cancelled."""
        job.cancelled = True  # in this order, since the beginning of the job goes the other way round
        holder = job.holder
        if holder is not None:
            holder.cancel_job(job)

    # In the threads.

    @contextmanager
    def stepping_aside(self) -> Iterator[None]:
        """For a job that waits for a task: another thread may take its place, or with the last one all would stand."""
        self._aside.append(None)
        try:
            if self._queue and not self._closed:
                self._take_place()
            yield
        finally:
            self._aside.pop()

    def _take_place(self) -> None:
        try:
            job = self._queue.popleft()
        except IndexError:
            return
        try:
            self._start(job)
        except BaseException:
            self._queue.appendleft(job)
            raise

    def _work(self, first: Job) -> None:
        _worker.loop = self._loop
        me, holder = threading.current_thread(), thread_holder()
        seat = _Seat()
        job: Job | None = first
        try:
            while job is not None:
                self._threads[me] = job
                if job.waiter is not None or job.cancelled:  # a task waits for it, or did
                    job.holder = holder
                    holder.job_begins(job)
                job.run()
                if self._loop.forked:  # the child that the job has forked returns here: what waits is the parent's
                    return
                self._threads[me] = None
                if job.holder is not None:
                    job.holder = None
                    holder.job_ended()
                job = self._next(seat)
        finally:
            self._threads.pop(me, None)
        if self._queue and not self._closed:  # came when there seemed to be enough of us
            self._take_place()

    def _next(self, seat: _Seat) -> Job | None:
        """The next job, waiting for one; None for the end."""
        while not self._closed:
            try:
                return self._queue.popleft()
            except IndexError:
                pass
            self._idle.append(seat)
            if (self._queue or self._closed) and self._leave(seat):
                continue
            if not seat.wait(IDLE_SECONDS):
                if self._leave(seat):
                    return None
                seat.wait(-1)  # it is being handed something at this very moment
            return seat.take()
        return None

    def _leave(self, seat: _Seat) -> bool:
        """Whether it was still among the idle: then nobody can hand it a job any more."""
        try:
            self._idle.remove(seat)
        except ValueError:
            return False
        return True

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
        if job.returned:
            return  # an error struck the hub when it had been told of it
        job.returned = True
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
        self._closed = True
        self._queue.clear()
        while self._idle:
            try:
                self._idle.pop().hand(None)
            except IndexError:
                break
        ending = [thread for thread, job in list(self._threads.items()) if job is None or job.ended]
        for thread in ending:
            thread.join()


class _Seat:
    """Where an idle thread waits to be handed a job (None: the end)."""

    __slots__ = ("_handed", "_lock")

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._lock.acquire()
        self._handed: list[Job | None] = []

    def hand(self, job: Job | None) -> None:
        self._handed.append(job)
        self._lock.release()

    def wait(self, seconds: float) -> bool:
        """Whether something was handed over within so many seconds; -1 is no limit."""
        return self._lock.acquire(timeout=seconds)

    def take(self) -> Job | None:
        """What was handed over."""
        return self._handed.pop()
