"""Task groups: tasks that end before the block does, and whose first error ends all."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self, TypeVar

from ._core import FAILED, Cancelled, CancelScope, Task, Waiter, here

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from ._core import Fiber, Loop

T = TypeVar("T")


class TaskGroup:
    """``with TaskGroup() as g: g.spawn(fn)``: the block ends when it and all its tasks have ended.

    The first error, of a task or of the block, cancels the rest; all errors are raised together as an
    ExceptionGroup. KeyboardInterrupt and SystemExit are raised bare. Only inside a zio runtime.
    """

    def __init__(self) -> None:
        self._scope = CancelScope()
        self._errors: list[BaseException] = []
        self._fiber: Fiber | None = None
        self._waiter: Waiter | None = None
        self._closed = False

    def __enter__(self) -> Self:
        try:
            self._fiber = here()
        except RuntimeError:
            raise RuntimeError("TaskGroup needs a running zio task: use it inside zio.run(...)") from None
        if self._fiber.loop.forked:
            self._fiber.loop.check_usable()
        self._scope.__enter__()
        return self

    def spawn(self, fn: Callable[..., T], *args: Any, name: str | None = None) -> Task[T]:
        """Start ``fn(*args)`` as a task of the group. In a group that is being cancelled it never runs.

        RuntimeError when the block has ended.
        """
        loop = self._loop()
        task = Task(loop, self._scope, fn, args, name)
        task.on_done = self._task_done
        loop.ready.append(task)
        return task

    def cancel(self) -> None:
        """Cancel the block and all tasks. They end with Cancelled, which the group takes. From any thread."""
        self._scope.cancel()

    @property
    def cancelled(self) -> bool:
        """Whether the group has been cancelled, by ``cancel``, an error or from outside."""
        return self._scope.cancelled

    def _loop(self) -> Loop:
        if self._fiber is None or self._closed:
            raise RuntimeError("tasks can be started in a TaskGroup only while its block runs")
        loop = self._fiber.loop
        if not loop.is_here():
            loop.check_usable()
            raise RuntimeError(
                "TaskGroup.spawn was called from another thread: use Runtime.call, or zio.from_thread in a pool thread"
            )
        return loop

    def _task_done(self, task: Task[Any]) -> None:
        task.joined = True
        error = task.error
        # A Cancelled that nobody asked for is an error like any other: it must not vanish.
        if error is not None and not (isinstance(error, Cancelled) and task.cancelled):
            self._failed(error)
        if not self._scope.kids and self._waiter is not None:
            self._waiter.wake()

    def _failed(self, error: BaseException) -> None:
        if not any(error is known for known in self._errors):  # the block may have joined the task that failed
            self._errors.append(error)
        self._scope._cancel()

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> bool:
        assert self._fiber is not None
        scope = self._scope
        if exc is not None and not (isinstance(exc, Cancelled) and scope.cancelled):
            self._failed(exc)
        elif exc is not None:
            scope._cancel()
        cut_short = exc is not None and isinstance(exc, Cancelled)
        interrupted: BaseException | None = None
        loop = self._fiber.loop
        while scope.kids:
            self._waiter = waiter = Waiter(self._fiber, self)
            try:
                if self._fiber.cancelled:
                    raise Cancelled
                loop.wait(waiter, None, lambda _waiter: None)
            except Cancelled:
                cut_short = True
                if not scope.cancel_called:
                    scope._cancel()
                # Cancelled or not, the group ends only after its tasks.
                self._await_tasks(loop)
            except BaseException as error:  # KeyboardInterrupt, Deadlock
                interrupted = error
                self._failed(error)
        self._waiter = None
        self._closed = True
        try:
            return self._leave(exc, cut_short)
        finally:
            self._errors = []
            del interrupted, exc

    def _await_tasks(self, loop: Loop) -> None:
        assert self._fiber is not None
        while self._scope.kids:
            self._waiter = waiter = Waiter(self._fiber, self)
            if loop.park(waiter) == FAILED:  # KeyboardInterrupt, Deadlock
                self._failed(waiter.value)

    def _leave(self, exc: BaseException | None, cut_short: bool) -> bool:
        scope, errors = self._scope, self._errors
        outer_cancelled = scope.parent is not None and scope.parent.cancelled
        cancelled = Cancelled() if cut_short else None
        scope.__exit__(type(cancelled) if cancelled else None, cancelled, None)
        if errors:
            try:
                for error in errors:
                    if isinstance(error, (KeyboardInterrupt, SystemExit)):
                        raise error
                raise BaseExceptionGroup("errors in a TaskGroup", errors) from None
            finally:
                del error, errors, exc, cancelled  # no cycle through the traceback
        if cut_short and outer_cancelled:
            if isinstance(exc, Cancelled):
                return False
            raise Cancelled
        return cut_short

    def __repr__(self) -> str:
        return f"<TaskGroup of {len(self._scope.kids or ())} tasks at {id(self):#x}>"
