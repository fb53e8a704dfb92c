"""What the process around us must be, and what it tells by environment variables."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


def seed_of_environment() -> int | None:
    text = os.environ.get("ZIO_SCHED_SEED", "")
    if not text:
        return None
    try:
        return int(text)
    except ValueError:
        raise ValueError(f"ZIO_SCHED_SEED={text!r}: must be an integer") from None


def refuse_patched_process() -> None:
    """gevent and eventlet replace threads, epoll and subprocess when they patch; nothing here can work then."""
    gevent = sys.modules.get("gevent.monkey")
    if gevent is not None:
        _refuse_patches("gevent.monkey", gevent.is_module_patched, threads="threading")
    eventlet = sys.modules.get("eventlet.patcher")
    if eventlet is not None:
        _refuse_patches("eventlet.monkey_patch", eventlet.is_monkey_patched, threads="thread")


def _refuse_patches(patcher: str, is_patched: Callable[[str], bool], *, threads: str) -> None:
    if is_patched(threads) or is_patched("select"):
        what = "its threads are greenlets there and select.epoll is gone"
    elif is_patched("subprocess"):
        what = f"its subprocess is another one there, which waits in a loop of {patcher.partition('.')[0]}"
    else:
        return
    raise RuntimeError(
        f"zio cannot run in a process patched by {patcher}: {what}. Start it in a process of its own, or do not patch"
    )
