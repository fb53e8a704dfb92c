"""Calls that arrive from outside the home loop: from plain threads, and from tasks of other loops.

The operation as a whole is posted to the home loop and runs there as a task; the caller waits for the
outcome: a plain thread blocks on a lock, a task of another loop parks there. A cancel or timeout of the
caller cancels the posted task and then still waits for its outcome, so an operation that had completed
already counts, and nothing it took is lost. So it is with Control-C and with what a signal handler raises: if the
operation has completed, its result comes first.
"""

from __future__ import annotations

import signal
import sys
import threading
import warnings
from contextlib import suppress
from contextvars import copy_context
from typing import TYPE_CHECKING, Any, Protocol

from greenlet import getcurrent

from . import exiting
from .clock import monotonic
from .errors import BlockingNotAllowed, Cancelled, RuntimeClosed
from .fiber import Fiber
from .native_threads import native_thread_is_alive
from .scope_tree import Holder
from .seconds import seconds_after
from .thread_holder import ThreadHolder, current_holder, thread_holder
from .waiter import CANCELLED, FAILED, WOKEN, StubbornWaiter, Waiter

if TYPE_CHECKING:
    from collections.abc import Callable

    from .scheduler import Loop
    from .task import Task

# Which loop runs in which thread; written by that thread only.
loops_by_thread: dict[int, Loop] = {}

_warned_asyncio = False

# Packages whose calls are not the user's: warnings name the code that called into them.
inner_packages = {__name__.partition(".")[0]}


class RuntimeThread(threading.Thread):
    """A thread that a runtime made itself; idle, it cannot wake anybody of its own accord."""


def another_thread_could_wake_us() -> bool:
    """Whether a thread that no runtime made is alive beside this one, or a runtime that has something to do."""
    here = threading.get_ident()
    ours: list[threading.Thread] = []
    for thread in threading.enumerate():
        if isinstance(thread, RuntimeThread):
            ours.append(thread)
        elif thread.ident != here and not isinstance(thread, threading._DummyThread):
            return True
    if native_thread_is_alive(ours):  # the dummies are of such threads, and stay when those are gone
        return True
    return any(loop.has_work() for ident, loop in list(loops_by_thread.items()) if ident != here)


class ForeignCall:
    """One posted operation and its outcome.

    The caller may be struck by an error at any moment. Before it waits, it says that it has given up, and then looks
    whether the operation has begun; the loop says that it begins, and then looks whether the caller has given up. So at
    least one of them knows of the other, and what has begun is waited for.
    """

    __slots__ = (
        "_begun",
        "_done",
        "_given_up",
        "_lock",
        "_once",
        "args",
        "context",
        "error",
        "fn",
        "interrupted",
        "loop",
        "owner",
        "task",
        "value",
        "wake_task",
    )

    def __init__(self, loop: Loop, fn: Callable[..., Any], args: tuple[Any, ...], owner: Holder) -> None:
        self.loop = loop
        self.fn = fn
        self.args = args
        self.owner = owner
        self.context = copy_context()
        self.task: Task[Any] | None = None
        self.value: Any = None
        self.error: BaseException | None = None
        self.interrupted = False
        self.wake_task: Callable[[], None] | None = None
        self._begun = False
        self._given_up = False
        self._done = False
        self._once = [None]  # taken by who tells the outcome
        self._lock = threading.Lock()
        self._lock.acquire()

    # In the home loop.

    def start(self) -> None:
        if self._begun:
            return  # the hub was struck when it had begun it
        self._begun = True
        if self._given_up:
            self._finish(None, Cancelled())
            return
        self._run()

    def _run(self) -> None:
        loop = self.loop
        if loop.closing_calls:
            self._finish(None, RuntimeClosed("the runtime has ended"))
            return
        task = self.task = loop.start_call(self.fn, self.args, self.owner, self.context)
        task.on_done = self._task_done
        if self.interrupted:
            task._cancel()

    def _task_done(self, task: Task[Any]) -> None:
        self.loop.callers.pop(task, None)
        error = task.error
        if error is None:
            self._finish(task.result(), None)
        elif isinstance(error, Cancelled) and task.cancelled and not self.interrupted and self.loop.closing_calls:
            self._finish(None, RuntimeClosed("the runtime ended during the call"))
        else:
            self._finish(None, error)

    def _finish(self, value: Any, error: BaseException | None) -> None:
        try:
            self._once.pop()
        except IndexError:
            return
        self.value, self.error = value, error
        self._done = True
        if self.wake_task is not None:
            self.wake_task()
        else:
            self.loop.wake_thread(self._release)

    def _release(self) -> None:
        """Let the thread go on. Twice does no harm."""
        try:
            self._lock.release()
        except RuntimeError:
            return

    def _interrupt_at_home(self) -> None:
        self.interrupted = True
        task = self.task
        if task is not None:
            task._cancel()

    def lost(self) -> None:
        """The loop ended with this call in its inbox."""
        self._finish(None, RuntimeClosed("the runtime has ended"))

    # At the caller's.

    def interrupt(self) -> None:
        """Cancel the operation; the caller goes on waiting for its outcome."""
        self.loop.post(self._interrupt_at_home, optional=True)

    def wait_in_thread(self, holder: ThreadHolder) -> Any:
        interruption: BaseException | None = None
        posted = False
        waits = holder.about_to_wait()
        waits.append(self)
        try:
            while True:
                try:
                    if not posted:
                        posted = True
                        self.loop.post(self.start, lost=self.lost)
                        if holder.scope.cancelled:
                            self.interrupt()
                    left = holder.check_deadlines()
                    if self._lock.acquire(timeout=-1 if left is None else max(left, 0)) or self._done:
                        break
                except BaseException as exc:  # KeyboardInterrupt, or what a signal handler raised
                    if interruption is not None:
                        raise
                    self._given_up = True
                    if not self._begun:
                        raise
                    interruption = exc
                    if self._done:  # the lock may be ours already, and nobody would release it again
                        break
                    self.interrupt()
        finally:
            if self in waits:
                waits.remove(self)
        if self.error is not None:
            exiting.stay_if_over()
        if interruption is not None:
            try:
                if self.error is not None:
                    raise interruption
                _raise_later(holder, interruption)
            finally:
                del interruption  # no cycle through its traceback
        return self._outcome()

    def wait_in_task(self, fiber: Fiber) -> Any:
        loop = fiber.loop
        waiter = Waiter(fiber, self)
        loop.outside_wakers += 1
        try:
            self.wake_task = _waker(loop, waiter)
            try:
                self.loop.post(self.start, lost=self.lost)
                state = loop.park(waiter)
            except BaseException as exc:
                self._given_up = True
                state = loop.struck(waiter, exc)
                if not self._begun and state != WOKEN:
                    raise waiter.take() from None
            if state != WOKEN:
                self.loop.post(self._interrupt_at_home, optional=True)
                self._await_outcome(loop, fiber)
                if state == FAILED and self.error is None:
                    loop.raise_later(fiber, waiter.value)  # the result counts, see _raise_later
                elif state != CANCELLED:
                    raise waiter.value
        finally:
            loop.outside_wakers -= 1
        return self._outcome()

    def _await_outcome(self, loop: Loop, fiber: Fiber) -> None:
        """Park, whatever is cancelled meanwhile, until the operation has ended at its home."""
        while True:
            waiter = StubbornWaiter(fiber, self)
            # First the waker, then the look at _done: the other thread writes and reads in the opposite order.
            self.wake_task = _waker(loop, waiter)
            if self._done:
                waiter.state = WOKEN  # the waker may be on its way, and must find nobody here
                return
            if loop.park(waiter) == FAILED:
                loop.raise_later(fiber, waiter.take())

    def _outcome(self) -> Any:
        error = self.error
        self.task = None  # which has the error too
        if error is not None:
            try:
                raise error
            finally:
                self.error = error = None  # no cycle through the traceback
        return self.value


class ForeignEdit(ForeignCall):
    """A posted operation that never blocks: the hub does it at once. No cancel point, so a release gets through."""

    __slots__ = ()

    def _run(self) -> None:
        try:
            value = self.fn(*self.args)
        except BaseException as exc:  # whatever it is, it belongs to the caller
            self._finish(None, exc)
        else:
            self._finish(value, None)

    def interrupt(self) -> None:
        """It ends by itself."""


INTERRUPT_AGAIN = 0.01  # seconds: by then the caller has what its call returned


def _raise_later(holder: ThreadHolder, interruption: BaseException) -> None:
    """An interrupted operation has completed all the same, and may have taken something: its caller gets the result.

    What came between is raised by the thread's next blocking call; Control-C also without one, a moment later.
    """
    holder.raise_later(interruption)
    if isinstance(interruption, KeyboardInterrupt):
        timer = threading.Timer(INTERRUPT_AGAIN, _interrupt_again, (holder, interruption))
        timer.daemon = True
        with suppress(RuntimeError):  # no more threads: then there is the next blocking call
            timer.start()


def _interrupt_again(holder: ThreadHolder, interruption: KeyboardInterrupt) -> None:
    """Control-C for the main thread, unless it was raised there meanwhile.

    Only where it means KeyboardInterrupt: the first one may have come from a handler of another signal.
    """
    ident = threading.main_thread().ident
    if holder.pending is not interruption or ident is None:
        return
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler and hasattr(signal, "pthread_kill"):
        holder.pending = None
        signal.pthread_kill(ident, signal.SIGINT)  # a real one, so that it ends a wait in the system too


def _waker(loop: Loop, waiter: Waiter) -> Callable[[], None]:
    return lambda: loop.post(waiter.wake, optional=True)


ENOUGH = 24  # calls within each other: more than anything takes that is not to be left half done


def need_stack(levels: int = ENOUGH) -> None:
    """RecursionError now, rather than in the middle of what follows. (0.8 µs.)"""
    if levels:
        need_stack(levels - 1)


def call_elsewhere(loop: Loop, fn: Callable[..., Any], *args: Any) -> Any:
    """Run ``fn(*args)`` as a task of ``loop`` and wait here for the outcome. Direct if this is that loop."""
    fiber = getcurrent()
    if type(fiber) is Fiber:
        if fiber.loop is loop:
            if loop.forked:  # or a lock that no thread of this process holds would be waited for
                loop.check_usable()
            return fn(*args)
        if fiber.loop.forked:
            fiber.loop.check_usable()
        if fiber.cancelled:
            raise Cancelled
        loop.check_usable()
        return ForeignCall(loop, fn, args, current_owner()).wait_in_task(fiber)
    refuse_to_block_here(fn)
    loop.check_usable()
    holder = thread_holder()
    holder.raise_pending()
    holder.check_deadlines()
    if holder.scope.cancelled:
        raise Cancelled
    return ForeignCall(loop, fn, args, holder).wait_in_thread(holder)


def refuse_to_block_here(what: object) -> None:
    """Raise BlockingNotAllowed in a thread that runs a loop, outside its tasks; warn once beside asyncio."""
    if threading.get_ident() in loops_by_thread:
        name = getattr(what, "__qualname__", None) or repr(what)
        raise BlockingNotAllowed(
            f"{name} would block the loop of this thread: it was called from the hub, a callback, a signal "
            "handler or a greenlet that is not a zio task"
        )
    asyncio_events = sys.modules.get("asyncio.events")
    if asyncio_events is not None and asyncio_events._get_running_loop() is not None:
        global _warned_asyncio
        if not _warned_asyncio:
            _warned_asyncio = True
            warnings.warn(
                "a blocking zio call in a thread with a running asyncio loop stops that loop while it waits; "
                "use asyncio.to_thread",
                RuntimeWarning,
                stacklevel=_level_of_caller(),
            )


def _level_of_caller() -> int:
    """The ``stacklevel`` for a warning of our caller that names the code that called into ``inner_packages``."""
    level = 1
    frame = sys._getframe(1)
    while frame.f_back is not None and frame.f_globals.get("__name__", "").partition(".")[0] in inner_packages:
        frame = frame.f_back
        level += 1
    return level


def edit_elsewhere(loop: Loop, fn: Callable[..., Any], *args: Any) -> Any:
    """Run ``fn``, which never blocks, at ``loop``; from that loop's own thread, hub included, at once.

    Done whatever is cancelled at the caller's: locks are released in cancelled scopes too.
    """
    if loop.is_here():
        return fn(*args)
    fiber = getcurrent()
    loop.check_usable()
    if type(fiber) is Fiber:
        fiber.loop.check_usable()
        return ForeignEdit(loop, fn, args, current_owner()).wait_in_task(fiber)
    refuse_to_block_here(fn)
    holder = thread_holder()
    return ForeignEdit(loop, fn, args, holder).wait_in_thread(holder)


def current_owner() -> Holder:
    """On whose behalf the running code acts: the task, or for a posted call the caller elsewhere."""
    holder: Holder = current_holder()
    return getattr(holder, "owner", holder)


def waits_on(holder: Holder) -> object | None:
    """What a task or a plain thread waits on at this moment: the ``what`` of a wait, or a thread's latch.

    Of a call that was posted to another loop, what that waits on there. None if it does not wait. From any thread; what
    it returns may be over by then.
    """
    seen: Holder | None = holder
    while seen is not None:
        if isinstance(seen, ThreadHolder):
            waits = list(seen.waits)
            what: object | None = waits[-1] if waits else None
        else:
            fiber = getattr(seen, "fiber", None)
            waiter = None if fiber is None else fiber.waiter
            what = None if waiter is None or waiter.state else waiter.what
        if not isinstance(what, ForeignCall):
            return what
        seen = what.task
    return None


class Latch(Protocol):
    """What a plain thread waits for outside the loop: ``wait`` for at most so many seconds; ``settled`` at the end.

    ``interrupt`` makes a ``wait`` under way return.
    """

    @property
    def settled(self) -> bool: ...
    def wait(self, seconds: float) -> bool: ...
    def interrupt(self) -> None: ...


def wait_in_thread(latch: Latch, timeout: float | None) -> bool:
    """Block this plain thread until ``latch`` is settled; False after ``timeout`` seconds.

    Obeys the cancel scopes of the thread: Cancelled.
    """
    holder = thread_holder()
    holder.raise_pending()
    until = None if timeout is None else seconds_after(monotonic(), timeout, "a timeout")
    waits = holder.about_to_wait()
    waits.append(latch)
    try:
        while not latch.settled:
            if holder.scope is holder and not holder.cancelled:  # nothing to obey
                seconds = threading.TIMEOUT_MAX if until is None else until - monotonic()
                if seconds <= 0:
                    return False
                latch.wait(min(seconds, threading.TIMEOUT_MAX))
                continue
            left = holder.check_deadlines()
            if holder.scope.cancelled:
                raise Cancelled
            rest = None if until is None else until - monotonic()
            if rest is not None and rest <= 0:
                return False
            latch.wait(min(x for x in (left, rest, threading.TIMEOUT_MAX) if x is not None))
        exiting.stay_if_over()
        return True
    finally:
        if latch in waits:
            waits.remove(latch)
