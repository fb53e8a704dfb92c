"""Control-C: a KeyboardInterrupt reaches the main task, and once only.

The first one is raised on the spot if the main task's own code is running, so a busy loop can be stopped.
Otherwise the main task is woken with it, or gets it at its next blocking call. A second one, while the first
still waits, is raised in whatever runs. The handler is installed only over Python's default handler, and
taken out again, in a forked child too.
"""

from __future__ import annotations

import signal
import threading
from functools import partial
from typing import TYPE_CHECKING, Any

from greenlet import getcurrent

from .fiber import Fiber
from .handlers import arrived_in_child, install_handler, put_back

if TYPE_CHECKING:
    from types import FrameType

    from .scheduler import Loop

_OURS = __name__.partition(".")[0]


_wakeup_fd = -1  # ours, while signal.set_wakeup_fd has it


def take_wakeup_fd(loop: Loop) -> None:
    """Have every signal wake the loop.

    Python's handlers run between two instructions of the main thread. If that sleeps in the poller while another
    thread takes the signal, or was just about to, it would not get there.
    """
    global _wakeup_fd
    fd = loop.poller.signal_fd()
    before = signal.set_wakeup_fd(fd, warn_on_full_buffer=False)
    if before == -1:
        _wakeup_fd = fd
    else:
        signal.set_wakeup_fd(before)


def release_wakeup_fd() -> None:
    """The opposite; also in a forked child, whose signals must not wake the parent."""
    global _wakeup_fd
    if _wakeup_fd != -1:
        now = signal.set_wakeup_fd(-1)
        if now != _wakeup_fd:
            signal.set_wakeup_fd(now)
        _wakeup_fd = -1


class InterruptHandler:
    """Context manager around the run of a loop in the main thread."""

    def __init__(self, loop: Loop) -> None:
        self._loop = loop

    def __enter__(self) -> None:
        if threading.current_thread() is not threading.main_thread():
            return
        take_wakeup_fd(self._loop)
        if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
            install_handler(signal.SIGINT, self._handle)

    def __exit__(self, *exc_info: object) -> None:
        if threading.current_thread() is threading.main_thread():
            release_wakeup_fd()
        put_back(signal.SIGINT, self._handle, unless_replaced=True)

    def _handle(self, signum: int, frame: FrameType | None) -> None:
        if arrived_in_child(signum):
            return
        loop = self._loop
        main = loop.main
        if main is None or loop.forked:
            raise KeyboardInterrupt
        current: Any = getcurrent()
        if isinstance(loop.interruption, KeyboardInterrupt):
            if type(current) is not Fiber and not main.done and _inside_runtime(frame):
                return  # the hub is about to deliver the first one
            loop.interruption = None
            raise KeyboardInterrupt
        if type(current) is Fiber and current.task is main and not _inside_runtime(frame):
            raise KeyboardInterrupt
        # If the main task has ended, what is left may end in order, and then the run raises it.
        interrupt_main(loop, KeyboardInterrupt())


def interrupt_main(loop: Loop, error: BaseException) -> None:
    """Have the main task's next blocking call, or the wait it is in, raise ``error``. In the loop's thread.

    One that waits already goes first; but Control-C goes before all others.
    """
    waiting = loop.interruption
    if waiting is None:
        loop.interruption = error
    elif waiting is not error:
        first, second = (error, waiting) if isinstance(error, KeyboardInterrupt) else (waiting, error)
        first.add_note(f"meanwhile there was also: {second!r}")
        loop.interruption = first
    loop.budget = 0
    loop.urgent(partial(_deliver, loop))


def _deliver(loop: Loop) -> None:
    """In the hub: end the main task's wait; if it is in none just now, look again at the next poll."""
    main, error = loop.main, loop.interruption
    if error is None or main is None or main.done:
        return
    waiter = main.fiber.waiter if main.fiber is not None else None
    if waiter is not None and waiter.fail(error):
        loop.interruption = None
    else:
        loop.urgent(partial(_deliver, loop))


def _inside_runtime(frame: FrameType | None) -> bool:
    """Whether the interrupted code is the runtime's own, whose state an exception could tear."""
    return frame is not None and str(frame.f_globals.get("__name__", "")).partition(".")[0] == _OURS
