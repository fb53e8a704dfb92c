"""The handshake of ``TaskGroup.start``: the task says when it has begun, and what came of it."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from ._core import CANCELLED, WOKEN, Cancelled, StubbornWaiter, Task, Waiter, edit_elsewhere, here, inherited_context

if TYPE_CHECKING:
    from collections.abc import Callable

    from ._core import CancelScope


class Start:
    """One task that is being started, and the task that waits for it. Until then its end is news to the latter."""

    __slots__ = ("_called", "_in_group", "_left", "_loop", "_task", "_waiter")

    def __init__(
        self,
        parent: CancelScope,
        fn: Callable[..., Any],
        args: tuple[Any, ...],
        name: str | None,
        in_group: Callable[[Task[Any]], None],
        left: Callable[[], None],
    ) -> None:
        fiber = here()
        loop = self._loop = fiber.loop
        self._in_group = in_group  # what the end of the task means for the group once it has started
        self._left = left  # and what it means before
        self._called = False
        self._waiter: Waiter | None = Waiter(fiber, self)  # none any more when the call has returned
        name = name or getattr(fn, "__qualname__", type(fn).__name__)
        task = Task(loop, parent, partial(fn, started=self.started), args, name, inherited_context())
        # Until it has started or ended: the frames of an error have this object, which must not have the error then.
        self._task: Task[Any] | None = task
        task.on_done = self._ended
        loop.ready.append(task)

    def started(self, value: Any = None) -> None:
        """Given to the task, which calls it once: ``start`` returns ``value``. From any thread. Never blocks."""
        if self._loop.is_here():
            self._started(value)
        else:
            edit_elsewhere(self._loop, self._started, value)

    def _started(self, value: Any) -> None:
        if self._task is None:
            raise RuntimeError(f"started() was called {'twice' if self._called else 'when the task had ended'}")
        self._task = None
        self._called = True
        if self._waiter is not None:
            self._waiter.wake(value, self)  # unless the call was cancelled: then the task is too

    def _ended(self, task: Task[Any]) -> None:
        self._task = None
        if self._waiter is not None and self._waiter.wake(None, task):
            task.joined = True
            self._left()
        else:
            self._in_group(task)

    def wait(self) -> Any:
        """The value of ``started``."""
        waiter, task, loop = self._waiter, self._task, self._loop
        assert waiter is not None
        assert task is not None
        fiber = waiter.fiber
        try:
            if fiber.cancelled:
                state = waiter.state = CANCELLED  # before, or while it got its place in the group: the task never runs
            else:
                state = loop.park(waiter)
            if state == WOKEN:
                if waiter.source is self:
                    return waiter.take()
                if not (isinstance(task.error, Cancelled) and task.cancelled):
                    task.result()  # raises what it has failed with, if it has
                    raise RuntimeError(f"{task!r} ended without having called started()")
                if not fiber.cancelled:
                    raise RuntimeError(f"{task!r} was cancelled before it called started()")
                raise Cancelled
            interruption = waiter.take()  # KeyboardInterrupt, Deadlock; nothing if it was a cancel
            task.cancel()
            while not task.done:
                end = StubbornWaiter(fiber, task)
                task.select_arm(end)
                if loop.park(end) != WOKEN:
                    task.select_disarm(end)
                    interruption = end.take() or interruption
            raise interruption or Cancelled
        finally:
            self._waiter = None
            del self, waiter, task, fiber  # an error's traceback has this frame: no cycle

    def __repr__(self) -> str:
        return f"<start of {self._task!r}>" if self._task is not None else "<start that has ended>"
