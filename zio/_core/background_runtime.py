"""The runtime of the process in a daemon thread, which serves calls from plain threads: its beginning and its end.

It begins without a lock: a signal handler or a finalizer may ask for it while it begins, in the very thread that begins
it. Whoever finds none starts one, and the first to put its own in place has made the one that counts.

It ends with the process, and other exit handlers may need it until then, whether they run before ours or behind it. So
ours only has clients flush and tell what is lost, while the handlers of ``logging`` still work; the runtime is closed
when the last exit handler has run: the interpreter drops the handlers then, and ours is an object that notices.
"""

from __future__ import annotations

import _thread
import atexit
import logging
import sys
import threading
from contextlib import suppress
from typing import TYPE_CHECKING

from greenlet import getcurrent

from . import exiting, foreign, this_process
from .errors import Cancelled, RuntimeClosed
from .fiber import Fiber
from .log_lines import log_later, wait_logged
from .runtime import Runtime
from .waiter import Waiter

if TYPE_CHECKING:
    from collections.abc import Callable

logger = logging.getLogger("zio")

EXIT_TIMEOUT = 5.0  # seconds that the interpreter's exit waits for the background runtime
_LATE = "the background runtime did not end within %s s of the interpreter's exit"


class _NotStarted:
    """Before the first one: like one that has ended."""

    def __init__(self) -> None:
        self.closed = True
        self.successor: dict[str, Runtime] = {}


_current: Runtime | _NotStarted = _NotStarted()


def background() -> Runtime:
    """The process-wide runtime in a daemon thread, started on first need. Serves calls from plain threads.

    RuntimeClosed if it would have to be started while the interpreter exits (Python 3.12 starts no threads then).
    """
    global _current
    this_process.notice_fork()
    while True:
        found = _current
        if not found.closed:
            assert isinstance(found, Runtime)
            return found
        after = found.successor.get("runtime")
        if after is None:
            started = _start()
            after = found.successor.setdefault("runtime", started)
            if after is not started:  # somebody was faster
                _end(started)
        _current = after  # or one before it, if we are slow; from there the way leads here again


def _start() -> Runtime:
    started = threading.Event()
    runtime = Runtime()
    runtime.is_background = True
    try:
        _start_thread(lambda: _serve(runtime, started))
    except RuntimeError as exc:
        runtime.close()
        if sys.is_finalizing() or not threading.main_thread().is_alive():
            raise RuntimeClosed(
                "the interpreter is exiting: the background runtime cannot be started any more"
            ) from exc
        raise
    except BaseException:  # of a signal handler: whether the thread runs nobody knows
        _end(runtime)
        raise
    try:
        started.wait()
    except BaseException:
        _end(runtime)
        raise
    see_to_the_exit()
    return runtime


def _serve(runtime: Runtime, started: threading.Event) -> None:
    with suppress(Cancelled):  # ended before it had begun
        runtime.run(_park_for_ever, started)


def _start_thread(target: Callable[[], object]) -> None:
    if this_process.in_hooks:
        # The threading module would take a Thread for one of the parent's; of this one it does not know.
        _thread.start_new_thread(target, ())
    else:
        foreign.RuntimeThread(target=target, name="zio-background", daemon=True).start()


def _end(runtime: Runtime) -> None:
    runtime.loop.post(runtime.cancel_main, optional=True)


def background_if_started() -> Runtime | None:
    """The background runtime if it runs; it is not started."""
    runtime = _current
    return None if isinstance(runtime, _NotStarted) or runtime.closed else runtime


def _park_for_ever(started: threading.Event) -> None:
    fiber = getcurrent()
    assert type(fiber) is Fiber
    loop = fiber.loop
    loop.outside_wakers += 1
    started.set()
    while True:
        try:
            loop.wait(Waiter(fiber, "the end of the process"), None, lambda _waiter: None)
        except Cancelled:
            return
        except Exception as exc:  # in the hub: it serves the whole process, and goes on
            log_later(logger, logging.ERROR, "the background runtime was struck by an error", error=exc)


def _forget() -> None:
    """In a forked child: it is the parent's."""
    global _current
    if isinstance(_current, Runtime) and _current.loop.forked:
        _current = _NotStarted()


this_process.renew_in_child(_forget)


# The end of the process.


class _Exit:
    """Our exit handler. Nothing but ``atexit`` refers to it, so that it goes when the last handler has run."""

    def __call__(self) -> None:
        runtime = background_if_started()
        if runtime is not None and not runtime.loop.forked:
            settle(runtime)

    def __del__(self) -> None:
        _registered.clear()
        if not threading.main_thread().is_alive():  # else somebody has only cleared the list of handlers
            exiting.it_is_over()
        _close()


_registered: set[bool] = set()


def see_to_the_exit() -> None:
    """Register our exit handler, if it is not; a child of multiprocessing drops those that it has from the parent."""
    if not _registered:
        _registered.add(True)
        atexit.register(_Exit())
    processes = sys.modules.get("multiprocessing.process")
    if processes is not None and processes.parent_process() is not None:
        from multiprocessing.util import Finalize

        Finalize(None, _at_the_end_of_a_child, exitpriority=-100)


def settle(runtime: Runtime) -> None:
    """Have all that was accepted go out, and told what does not; more may come behind it."""
    done = threading.Event()
    runtime.loop.post(runtime.settle_before_exit, done.set, lost=done.set, optional=True)
    if not done.wait(EXIT_TIMEOUT):
        log_later(logger, logging.WARNING, "the clients of the program did not flush within %s s", EXIT_TIMEOUT)
    wait_logged()  # while the handlers of the log still work


def _at_the_end_of_a_child() -> None:
    """One of multiprocessing has asked its own list. A forked one then ends by os._exit, a spawned one as any other."""
    runtime = background_if_started()
    if runtime is None or runtime.loop.forked:
        return
    if "--multiprocessing-fork" in sys.orig_argv and not this_process.was_forked:  # the word is that of a spawned one
        settle(runtime)
    else:
        exiting.it_is_over()
        _close()


def _close() -> None:
    runtime = background_if_started()
    if runtime is not None and not runtime.loop.forked:
        _end(runtime)
        if not runtime.wait_ended(EXIT_TIMEOUT):
            log_later(logger, logging.WARNING, _LATE, EXIT_TIMEOUT)
        wait_logged()


see_to_the_exit()
