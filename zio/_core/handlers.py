"""The signal handlers that we install, and what was there before them: a forked child gets that back.

What a child does with its signals is its own affair; ours would wake, or note a signal for, tasks that run in the
parent only, and a child that ignores SIGTERM cannot be ended. The hook of the fork may come behind others, and a child
made by C code may have none: so a handler, too, asks with ``arrived_in_child`` whose process it runs in. And what
comes at once, before Python in the child is ready, would be forgotten; so it waits until the handlers are back.
"""

from __future__ import annotations

import os
import signal
import threading
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable

    Handler = Callable[[int, Any], None]


class _Installed(NamedTuple):
    number: int
    handler: Handler
    previous: Any


_installed: list[_Installed] = []  # in order: one may stand over another
_pid = os.getpid()
_masks: dict[int, set[Any]] = {}  # of the threads that are forking: the signals they had blocked before


def install_handler(number: int, handler: Handler) -> None:
    """Let ``handler`` have the signals of this number. In the main thread; OSError or ValueError if it cannot."""
    if _pid != os.getpid():
        _put_back_in_child()
    previous = signal.getsignal(number)
    if previous is None:
        raise RuntimeError(
            f"{signal.Signals(number).name} has a handler that is not Python's, which could not be put back"
        )
    signal.signal(number, handler)
    _installed.append(_Installed(number, handler, previous))


def is_installed(number: int, handler: Handler) -> bool:
    """Whether it was, by this process."""
    return _pid == os.getpid() and any(entry[:2] == (number, handler) for entry in _installed)


def put_back(number: int, handler: Handler, *, unless_replaced: bool = False) -> None:
    """The handler from before ``install_handler`` is back; ``unless_replaced``: only if nobody has set another since.

    In a child that was forked meanwhile there is nothing to put back.
    """
    if not is_installed(number, handler):
        return
    entry = next(entry for entry in reversed(_installed) if entry[:2] == (number, handler))
    if not unless_replaced or signal.getsignal(number) == handler:
        signal.signal(number, entry.previous)
    if entry in _installed:
        _installed.remove(entry)


def arrived_in_child(number: int) -> bool:
    """For our handlers: whether this is a forked child, to which the signal goes without us."""
    if _pid == os.getpid():
        return False
    ours = any(entry[:2] == (number, signal.getsignal(number)) for entry in _installed)
    _put_back_in_child()
    if ours:  # else somebody has put his own over ours, and has got it
        signal.raise_signal(number)
    return True


def _put_back_in_child() -> None:
    global _pid
    while _installed:
        entry = _installed[-1]
        if signal.getsignal(entry.number) == entry.handler:
            signal.signal(entry.number, entry.previous)  # one that has just arrived is handled in here: see above
        if _installed and _installed[-1] is entry:
            _installed.pop()
    _pid = os.getpid()


def _hold_signals() -> None:
    if _installed:
        numbers = {entry.number for entry in _installed}
        _masks[threading.get_ident()] = signal.pthread_sigmask(signal.SIG_BLOCK, numbers)


def _let_signals_come() -> None:
    mask = _masks.pop(threading.get_ident(), None)
    if mask is not None:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)


def _after_fork_in_child() -> None:
    _put_back_in_child()
    _let_signals_come()
    _masks.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_hold_signals, after_in_parent=_let_signals_come, after_in_child=_after_fork_in_child)
