"""map: one task for each item, the results in the order of the items."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from greenlet import getcurrent

from ._core import Fiber, background, check_function, refuse_to_block_here
from .groups import TaskGroup
from .sync import Semaphore
from .tasks import maybe_pause

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from ._core import Task

T = TypeVar("T")
R = TypeVar("R")


def map(fn: Callable[[T], R], items: Iterable[T], limit: int | None = None) -> list[R]:
    """``[fn(item) for item in items]``, each call in a task of its own, at most ``limit`` of them at a time.

    With a limit an item is taken from ``items`` only when a call can begin with it, so ``items`` may be long, or a
    channel. Without one all is taken at once. The first error, of a call or of ``items``, cancels the other calls;
    errors are raised as an ExceptionGroup, as in a :class:`TaskGroup`. A cancel cancels all calls and waits for their
    end. In a plain thread the calls run in the background runtime.
    """
    check_function("zio.map", "fn", fn)
    if limit is not None and not (isinstance(limit, int) and limit >= 1):
        raise ValueError(f"limit must be a number of tasks from 1 up, or None, not {limit!r}")
    if type(getcurrent()) is not Fiber:
        refuse_to_block_here(map)
        return background().call(map, fn, items, limit)
    maybe_pause()
    with TaskGroup() as group:
        tasks = [group.spawn(fn, item) for item in items] if limit is None else _bounded(group, fn, items, limit)
    return [task.result() for task in tasks]


def _bounded(group: TaskGroup, fn: Callable[[T], R], items: Iterable[T], limit: int) -> list[Task[R]]:
    places = Semaphore(limit)

    def call(item: T) -> R:
        try:
            return fn(item)
        finally:
            places.release()

    tasks: list[Task[R]] = []
    iterator = iter(items)
    while True:
        places.acquire()
        try:
            item = next(iterator)
        except StopIteration:
            return tasks
        tasks.append(group.spawn(call, item))
