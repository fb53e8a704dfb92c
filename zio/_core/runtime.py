"""Runtimes: one loop with its beginning and its end, in this thread or in a background thread.

The end of a run goes from the outside in: the user's tasks are cancelled and joined (their ``finally`` may
still use clients), then clients flush and close, then system tasks, the thread pool, the loop.
"""

from __future__ import annotations

import logging
import os
import random
import threading
import weakref
from contextlib import suppress
from itertools import count
from typing import TYPE_CHECKING, Any, TypeVar

from greenlet import getcurrent

from . import foreign, this_process
from .environment import refuse_patched_process, seed_of_environment
from .errors import Cancelled, RuntimeClosed
from .fiber import Fiber
from .functions import check_function
from .instruments import Instrument, add_instrument, remove_instrument, remove_instruments
from .interrupts import InterruptHandler, release_wakeup_fd
from .log_lines import log_later
from .pool import ThreadPool
from .scheduler import Loop
from .scope_tree import ScopeNode, spread_cancel
from .statistics import Statistics, statistics_of
from .task import Task
from .waiter import Waiter

if TYPE_CHECKING:
    from collections.abc import Callable

    from .clock import Clock

T = TypeVar("T")

logger = logging.getLogger("zio")

LOOKUP_THREADS = 8

_numbers = count(1)

_live_loops: weakref.WeakSet[Loop] = weakref.WeakSet()


def log_unhandled(task: Task[Any], error: BaseException) -> None:
    """The default ``on_unhandled``: the error with its traceback goes to the log."""
    log_later(logger, logging.ERROR, "%r failed and nobody waits for it", task, error=error)


class Runtime:
    """A loop to run tasks on. :func:`zio.run` makes one for a single run; this class is for more control.

    ``on_unhandled(task, error)`` is called for a failed task of :func:`zio.spawn` that nobody joins
    (default: logged with its traceback). ``network`` replaces the system's network (see ``zio.testing``).
    ``seed`` makes a run repeatable: it shuffles the order of ready tasks and seeds ``runtime.random``.
    ``clock`` may be a ``zio.testing.VirtualClock``. ``threads`` must be 1 in this version.

    A runtime runs once. ``call`` may be used from any thread while it does.
    """

    def __init__(
        self,
        *,
        on_unhandled: Callable[[Task[Any], BaseException], object] | None = None,
        network: Any = None,
        seed: int | None = None,
        clock: Clock | None = None,
        threads: int = 1,
    ) -> None:
        if threads != 1:
            raise ValueError(f"threads={threads!r}: this version runs one loop per runtime, so it must be 1")
        if on_unhandled is not None:
            check_function("Runtime", "on_unhandled", on_unhandled)
        if clock is not None and not callable(getattr(clock, "now", None)):
            raise TypeError(f"clock={clock!r} must be a clock, such as zio.testing.VirtualClock()")
        refuse_patched_process()
        self._number = next(_numbers)
        self._thread_name = ""  # of the thread it runs in
        self._on_unhandled = on_unhandled or log_unhandled
        self.random = random.Random(seed)
        shuffle_seed = seed if seed is not None else seed_of_environment()
        self._loop = Loop(
            clock=clock,
            shuffle=None if shuffle_seed is None else random.Random(shuffle_seed),
            on_unhandled=self._report,
        )
        self._loop.runtime = self
        self.network = network
        self.pool = ThreadPool(self._loop)
        self.lookups = ThreadPool(self._loop, LOOKUP_THREADS)  # of names, so that neither waits for the other's jobs
        self.names: dict[str, Any] = {}  # that are being looked up
        self.successor: dict[str, Runtime] = {}  # of a background runtime: the one after it
        self.is_background = False  # the one of the process: a SystemExit in it ends a task, as it does a thread
        self._closers: dict[Callable[[], object], None] = {}
        self._settlers: dict[Callable[[], object], None] = {}
        self._state = "new"
        self._stop: Waiter | None = None
        self._ended = threading.Event()
        _live_loops.add(self._loop)

    # For users.

    def run(self, fn: Callable[..., T], *args: Any) -> T:
        """Run ``fn(*args)`` as the main task; its result, or raise its error. Leaves no task, thread or fd behind."""
        check_function("Runtime.run", "fn", fn)
        _refuse_nesting()
        if self._state != "new":
            raise RuntimeClosed("a runtime runs once; make a new one")
        self._state = "running"
        loop = self._loop
        ident = threading.get_ident()
        self._thread_name = threading.current_thread().name
        loop.thread_id = ident
        loop.hub = getcurrent()
        foreign.loops_by_thread[ident] = loop
        try:
            with InterruptHandler(loop):
                loop.main = loop.spawn(fn, args, name="main")
                self._run_to_the_end(loop.main)
        finally:
            self._state = "closed"
            foreign.loops_by_thread.pop(ident, None)
            remove_instruments(loop)
            if not loop.forked:
                self.pool.close()
                self.lookups.close()
                loop.close()
            self._ended.set()
        main = loop.main
        request, loop.exit_request = loop.exit_request, None
        if request is not None:
            try:
                if main.error is not None and not isinstance(main.error, Cancelled):
                    self._report(main, main.error)
                raise request
            finally:
                del request
        interruption, loop.interruption = loop.interruption, None
        if interruption is not None:
            try:
                raise interruption
            finally:
                del interruption
        try:
            return main.result()  # type: ignore[no-any-return]
        finally:
            del main
            loop.main = None

    def call(self, fn: Callable[..., T], *args: Any) -> T:
        """Run ``fn(*args)`` as a task of this runtime and wait for its result, from any thread or task.

        Before the run has begun it waits for that, too: for ever if nobody calls ``run`` or ``close``. RuntimeClosed
        when it has ended.
        """
        check_function("Runtime.call", "fn", fn)
        return foreign.call_elsewhere(self._loop, fn, *args)  # type: ignore[no-any-return]

    def statistics(self) -> Statistics:
        """Numbers of this moment: tasks, timers, threads. From any thread."""
        return self._inspect(statistics_of)  # type: ignore[no-any-return]

    def add_instrument(self, instrument: Instrument) -> None:
        """Have it told of each task that is spawned, runs, waits and ends (see ``zio.debug.Instrument``).

        It costs nothing while there is none. From any thread; ValueError if it is installed already.
        """
        self._inspect(add_instrument, instrument)

    def remove_instrument(self, instrument: Instrument) -> None:
        """Tell it no more; does nothing if it is not installed. From any thread."""
        if self._state != "closed":
            self._inspect(remove_instrument, instrument)

    def _inspect(self, look: Callable[..., Any], *args: Any) -> Any:
        """Call ``look(loop, *args)`` in the loop's thread, or here if it has not begun."""
        if self._state == "new":
            return look(self._loop, *args)
        return foreign.edit_elsewhere(self._loop, look, self._loop, *args)

    def close(self) -> None:
        """End the run: cancel the main task; from another thread also wait until all is closed. Idempotent."""
        loop = self._loop
        if self._state == "new":
            self._state = "closed"
            self.pool.close()
            self.lookups.close()
            loop.close()
            self._ended.set()
        elif self._state == "running":
            if loop.is_here():
                if loop.main is not None:
                    loop.main.cancel()
            else:
                loop.post(self.cancel_main, optional=True)
                self._ended.wait()

    @property
    def closed(self) -> bool:
        """Whether the run has ended."""
        return self._state == "closed"

    @property
    def title(self) -> str:
        """Which one it is, for errors."""
        state = {"new": "not begun", "closed": "ended"}.get(self._state) or f"in thread {self._thread_name!r}"
        return f"Runtime {self._number}, {state}"

    def __repr__(self) -> str:
        return f"<{self.title}>"

    # For the packages built on it.

    @property
    def loop(self) -> Loop:
        return self._loop

    def on_close(self, closer: Callable[[], object]) -> None:
        """Have ``closer()`` called in a task when the run ends, after the user's tasks and before system tasks."""
        self._closers[closer] = None

    def forget_closer(self, closer: Callable[[], object]) -> None:
        self._closers.pop(closer, None)

    def on_process_exit(self, settler: Callable[[], object]) -> None:
        """Have ``settler()`` called in a task when the process begins to end, if this is the background runtime.

        Other exit handlers may still use what it settles; the closers come when they have run.
        """
        self._settlers[settler] = None

    def forget_settler(self, settler: Callable[[], object]) -> None:
        self._settlers.pop(settler, None)

    def settle_before_exit(self, done: Callable[[], object]) -> None:
        """Call all settlers at once, then ``done()``. In the hub."""
        self._loop.spawn_system(self._settle, done, name="settle before the exit")

    def _settle(self, done: Callable[[], object]) -> None:
        try:
            self._call_all(self._settlers)
        finally:
            done()

    def cancel_main(self) -> None:
        """End the run. In the hub."""
        if self._loop.main is not None:
            self._loop.main.cancel()

    def wait_ended(self, seconds: float) -> bool:
        """Wait in another thread until all is closed; False after ``seconds``."""
        return self._ended.wait(seconds)

    def _report(self, task: Task[Any], error: BaseException) -> None:
        try:
            self._on_unhandled(task, error)
        except Exception as exc:
            log_later(logger, logging.ERROR, "on_unhandled failed for %r", task, error=exc)
            log_unhandled(task, error)

    def _run_to_the_end(self, main: Task[Any]) -> None:
        loop = self._loop
        try:
            loop.run_until(main)
        except BaseException:  # raised in the hub: by a callback, or by a signal handler of the user
            if not loop.forked:
                main._cancel()
                loop.run_until(main)
            raise
        finally:
            if main.done and not loop.forked:
                spread_cancel(loop.root)  # before any of them runs again, or for the first time
                loop.run_until(loop.spawn(self._shut_down, parent=ScopeNode(), name="shutdown"))

    def _shut_down(self) -> None:
        loop = self._loop
        self._cancel_and_join(loop.root)
        loop.closing_calls = True
        self._cancel_and_join(loop.calls)
        while self._closers:  # all at once: each may take its whole time limit
            closers, self._closers = self._closers, {}
            self._call_all(closers)
        self._cancel_and_join(loop.system)

    def _call_all(self, ends: dict[Callable[[], object], None]) -> None:
        """In tasks of their own, the last one first; returns when all have returned."""
        node = ScopeNode()
        for task in [self._loop.spawn(self._call_one, (end,), parent=node) for end in reversed(ends)]:
            wait_done(task)

    @staticmethod
    def _call_one(end: Callable[[], object]) -> None:
        try:
            end()
        except Exception as exc:
            log_later(logger, logging.ERROR, "closing at the end of the run failed", error=exc)

    def _cancel_and_join(self, node: ScopeNode) -> None:
        spread_cancel(node)
        while node.kids:
            kid = next(iter(node.kids))
            assert isinstance(kid, Task)
            wait_done(kid)


def _refuse_nesting() -> None:
    fiber = getcurrent()
    if type(fiber) is Fiber and not fiber.loop.forked:
        raise RuntimeError("zio.run cannot be called inside a running zio task; spawn a task or call the function")
    if threading.get_ident() in foreign.loops_by_thread:
        raise RuntimeError("a zio runtime is running in this thread already")


class _Onlooker(Waiter):
    """Waits for the end of a task and does not care how: no joiner, so an error is reported all the same."""

    __slots__ = ()

    def wake(self, value: Any = None, source: object = None) -> bool:
        super().wake(value, source)
        return False


def wait_done(task: Task[Any]) -> None:
    """Wait in a task until another has ended, whatever its outcome."""
    fiber = getcurrent()
    assert type(fiber) is Fiber
    if not task.done:
        waiter = _Onlooker(fiber, task)
        task.select_arm(waiter)
        fiber.loop.wait(waiter, None, task.select_disarm)


def run(fn: Callable[..., T], *args: Any, threads: int = 1) -> T:
    """Run ``fn(*args)`` as the main task of a new runtime in this thread; its result, or raise its error.

    When ``fn`` ends, the tasks left over are cancelled and joined. Nothing is left behind: no task, thread
    or file descriptor. ``threads`` must be 1 in this version.
    """
    check_function("zio.run", "fn", fn)
    _refuse_nesting()  # before a runtime with its descriptors is made for nothing
    return Runtime(threads=threads).run(fn, *args)


def runtime_here() -> Runtime | None:
    """The runtime of the running task; None in plain threads."""
    fiber = getcurrent()
    return fiber.loop.runtime if type(fiber) is Fiber else None


# Fork.


def _abandon_all() -> None:
    """In a forked child: the runtimes are the parent's."""
    here = os.getpid()
    for loop in list(_live_loops):
        if loop.pid != here and not loop.closed and not loop.forked:
            loop.abandon_in_child()
    for ident, loop in list(foreign.loops_by_thread.items()):
        if loop.pid != here:
            foreign.loops_by_thread.pop(ident, None)
    with suppress(ValueError):  # C code forked in another thread than the main one: there are no signal handlers
        release_wakeup_fd()


this_process.renew_in_child(_abandon_all)


def _look_twice_while_forking() -> None:
    """Before a fork by a task: its next call, which a hook may make in the child, looks whose it is."""
    loop = foreign.loops_by_thread.get(threading.get_ident())
    if loop is not None:
        loop.budget = 0


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_look_twice_while_forking)
