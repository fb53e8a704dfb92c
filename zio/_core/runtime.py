"""Runtimes: one loop with its beginning and its end, in this thread or in a background thread.

The end of a run goes from the outside in: the user's tasks are cancelled and joined (their ``finally`` may
still use clients), then clients flush and close, then system tasks, the thread pool, the loop.
"""

from __future__ import annotations

import atexit
import logging
import os
import random
import sys
import threading
import weakref
from time import sleep
from typing import TYPE_CHECKING, Any, TypeVar

from greenlet import getcurrent

from . import foreign
from .errors import BlockingNotAllowed, Cancelled, RuntimeClosed
from .fiber import Fiber
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
        if on_unhandled is not None and not callable(on_unhandled):
            raise TypeError(f"on_unhandled={on_unhandled!r} must be callable")
        if clock is not None and not callable(getattr(clock, "now", None)):
            raise TypeError(f"clock={clock!r} must be a clock, such as zio.testing.VirtualClock()")
        refuse_patched_process()
        self._on_unhandled = on_unhandled or log_unhandled
        self.random = random.Random(seed)
        shuffle_seed = seed if seed is not None else _seed_of_environment()
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
        self.is_background = False  # the one of the process: a SystemExit in it ends a task, as it does a thread
        self._closers: dict[Callable[[], object], None] = {}
        self._state = "new"
        self._stop: Waiter | None = None
        self._ended = threading.Event()
        _live_loops.add(self._loop)

    # For users.

    def run(self, fn: Callable[..., T], *args: Any) -> T:
        """Run ``fn(*args)`` as the main task; its result, or raise its error. Leaves no task, thread or fd behind."""
        _refuse_nesting()
        if self._state != "new":
            raise RuntimeClosed("a runtime runs once; make a new one")
        self._state = "running"
        loop = self._loop
        ident = threading.get_ident()
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
                loop.post(self._cancel_main, optional=True)
                self._ended.wait()

    @property
    def closed(self) -> bool:
        """Whether the run has ended."""
        return self._state == "closed"

    # For the packages built on it.

    @property
    def loop(self) -> Loop:
        return self._loop

    def on_close(self, closer: Callable[[], object]) -> None:
        """Have ``closer()`` called in a task when the run ends, after the user's tasks and before system tasks."""
        self._closers[closer] = None

    def forget_closer(self, closer: Callable[[], object]) -> None:
        self._closers.pop(closer, None)

    def _cancel_main(self) -> None:
        if self._loop.main is not None:
            self._loop.main.cancel()

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
            node = ScopeNode()
            closing = [loop.spawn(self._close_one, (closer,), parent=node) for closer in reversed(closers)]
            for task in closing:
                wait_done(task)
        self._cancel_and_join(loop.system)

    @staticmethod
    def _close_one(closer: Callable[[], object]) -> None:
        try:
            closer()
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
    _refuse_nesting()  # before a runtime with its descriptors is made for nothing
    return Runtime(threads=threads).run(fn, *args)


# The background runtime.


class _Background(Runtime):
    """The runtime of a daemon thread, which serves until the process ends."""

    def __init__(self) -> None:
        super().__init__()
        self.is_background = True
        self.serving = False
        self.thread: threading.Thread | None = None  # once it has been started
        self._unwanted = False

    def start(self) -> None:
        thread = foreign.RuntimeThread(target=self.run, args=(self._serve,), name="zio-background", daemon=True)
        try:
            thread.start()
            self.thread = thread
        except BaseException:  # no more threads; or struck by an error, and then nobody knows whether it runs
            self._unwanted = True
            raise

    def _serve(self) -> None:
        fiber = getcurrent()
        assert type(fiber) is Fiber
        loop = fiber.loop
        loop.outside_wakers += 1
        self.serving = True
        while not self._unwanted:
            try:
                loop.wait(Waiter(fiber, "the end of the process"), None, lambda _waiter: None)
            except Cancelled:
                return
            except Exception as exc:  # in the hub: it serves the whole process, and goes on
                log_later(logger, logging.ERROR, "the background runtime was struck by an error", error=exc)

    def await_start(self) -> None:
        """Block until it serves. BlockingNotAllowed in the middle of the call that starts it."""
        while not self.serving and not self.closed:
            if self.thread is None:
                raise BlockingNotAllowed(
                    "the background runtime is being started by this very thread: what a signal handler or a finalizer "
                    "calls in the middle of that cannot wait for it"
                )
            sleep(START_LOOK)  # and no lock, which the code that was interrupted may hold


_background: _Background | None = None
_background_lock = threading.RLock()
START_LOOK = 1e-4  # seconds between two looks whether it serves
EXIT_TIMEOUT = 5.0  # seconds that the interpreter's exit waits for the background runtime


def background() -> Runtime:
    """The process-wide runtime in a daemon thread, started on first need. Serves calls from plain threads."""
    global _background
    runtime = _background
    if runtime is not None and runtime.serving and not runtime.closed:
        return runtime
    with _background_lock:
        runtime = _background
        if runtime is None or runtime.closed:
            _background = runtime = _Background()
            try:
                runtime.start()
            except BaseException:
                _background = None
                raise
            _close_at_exit()
        runtime.await_start()
        return runtime


def background_if_started() -> Runtime | None:
    """The background runtime if it runs; it is not started."""
    runtime = _background
    return None if runtime is None or runtime.closed or not runtime.serving else runtime


def _close_at_exit() -> None:
    atexit.unregister(_close_background)
    atexit.register(_close_background)
    # A child of multiprocessing ends by os._exit, which asks none but its own list.
    processes = sys.modules.get("multiprocessing.process")
    if processes is not None and processes.parent_process() is not None:
        from multiprocessing.util import Finalize

        Finalize(None, _close_background, exitpriority=-100)


def _close_background() -> None:
    runtime = _background
    if runtime is not None and not runtime.closed and not runtime.loop.forked:
        runtime.loop.post(runtime._cancel_main, optional=True)
        if not runtime._ended.wait(EXIT_TIMEOUT):
            logger.warning("the background runtime did not end within %s s of the interpreter's exit", EXIT_TIMEOUT)


def runtime_here() -> Runtime | None:
    """The runtime of the running task; None in plain threads."""
    fiber = getcurrent()
    return fiber.loop.runtime if type(fiber) is Fiber else None


# Fork.


def _after_fork_in_child() -> None:
    global _background, _background_lock
    _background = None
    _background_lock = threading.RLock()
    release_wakeup_fd()
    foreign.loops_by_thread.clear()
    for loop in list(_live_loops):
        if not loop.closed:
            loop.abandon_in_child()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)


# The environment.


def _seed_of_environment() -> int | None:
    text = os.environ.get("ZIO_SCHED_SEED", "")
    if not text:
        return None
    try:
        return int(text)
    except ValueError:
        raise ValueError(f"ZIO_SCHED_SEED={text!r}: must be an integer") from None


def refuse_patched_process() -> None:
    """gevent and eventlet replace threads and epoll when they patch; nothing here can work then."""
    gevent = sys.modules.get("gevent.monkey")
    if gevent is not None and (gevent.is_module_patched("threading") or gevent.is_module_patched("select")):
        raise RuntimeError(
            "zio cannot run in a process patched by gevent.monkey: its threads are greenlets there and "
            "select.epoll is gone. Start it in a process of its own, or do not patch"
        )
    eventlet = sys.modules.get("eventlet.patcher")
    if eventlet is not None and (eventlet.is_monkey_patched("thread") or eventlet.is_monkey_patched("select")):
        raise RuntimeError(
            "zio cannot run in a process patched by eventlet.monkey_patch: its threads are greenlets there and "
            "select.epoll is gone. Start it in a process of its own, or do not patch"
        )
