"""Blocking code in threads: into the pool and back."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

from greenlet import getcurrent

from ._core import Fiber, call_elsewhere, check_function, worker_loop
from ._core.foreign import refuse_to_block_here

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")


def to_thread(fn: Callable[..., T], *args: Any, abandon_on_cancel: bool = False) -> T:
    """Run blocking ``fn(*args)`` in a pool thread; only the current task waits. Its result, or raise its error.

    Context variables are those of the caller. Cancelled before a thread was free, ``fn`` never runs; later
    the call waits for its end and returns what it returned, or with ``abandon_on_cancel`` raises Cancelled at
    once and drops the outcome; zio's own calls, made by ``fn``, end with Cancelled. In a plain thread (a pool
    thread included) ``fn`` is called directly.
    """
    check_function("zio.to_thread", "fn", fn)
    fiber = getcurrent()
    if type(fiber) is Fiber:
        return fiber.loop.runtime.pool.run(fn, args, abandon=abandon_on_cancel)  # type: ignore[no-any-return]
    refuse_to_block_here(to_thread)
    return fn(*args)


def from_thread(fn: Callable[..., T], *args: Any) -> T:
    """In a pool thread: run ``fn(*args)`` as a task of the runtime that ``to_thread`` came from, and wait for it.

    RuntimeError in other threads; those use ``Runtime.call``. While it waits the thread does not count against the
    limit of the pool, so that the task may have jobs of its own.
    """
    check_function("zio.from_thread", "fn", fn)
    loop = worker_loop()
    if loop is None:
        raise RuntimeError("from_thread works in threads started by zio.to_thread; elsewhere use Runtime.call")
    with loop.runtime.pool.stepping_aside():
        return call_elsewhere(loop, fn, *args)  # type: ignore[no-any-return]
