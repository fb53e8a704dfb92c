"""Task groups: tasks that end before the block does, and whose first error ends all."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self, TypeVar

from greenlet import getcurrent

from ._core import (
    FAILED,
    UNRUN,
    Cancelled,
    CancelScope,
    Fiber,
    StubbornWaiter,
    Task,
    Waiter,
    WaitQueue,
    call_elsewhere,
    check_function,
    current_holder,
    here,
    inherited_context,
)
from .starting import Start
from .sync import Semaphore

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from ._core import Loop

T = TypeVar("T")


class TaskGroup:
    """``with TaskGroup() as g: g.spawn(fn)``: the block ends when it and all its tasks have ended.

    The first error, of a task or of the block, cancels the rest; all errors are raised together as an
    ExceptionGroup. KeyboardInterrupt and SystemExit are raised bare. Only inside a zio runtime.

    A Cancelled that comes out of joining a task which somebody else has cancelled is an error like any other: the group
    raises a BaseExceptionGroup with it.

    With ``fail_fast=False`` an error cancels nobody: the rest goes on, and all errors are raised at the end. What is
    no ``Exception``, such as KeyboardInterrupt, cancels all the same.

    With ``limit`` there are at most so many tasks at a time: ``spawn`` and ``start`` wait while there are.
    Selectable, from anywhere: it completes when the group has no task; its value is None.
    """

    def __init__(self, limit: int | None = None, *, fail_fast: bool = True) -> None:
        if limit is not None and not (isinstance(limit, int) and limit >= 1):
            raise ValueError(f"limit must be a number of tasks from 1 up, or None, not {limit!r}")
        self._scope = CancelScope()
        self._errors: list[BaseException] = []
        self._fail_fast = fail_fast
        self._fiber: Fiber | None = None
        self._waiter: Waiter | None = None  # of the end of the block
        self._closed = False
        self._places = None if limit is None else Semaphore(limit)
        self._idlers: WaitQueue | None = None  # those who wait until there is no task
        self._entering = 0  # those who wait for a place: the block does not end before they have got it
        self._observed = limit is not None  # whether anybody but the block wants to know of a task's end

    def __enter__(self) -> Self:
        if self._fiber is not None:  # before anything changes for the block that it belongs to
            raise RuntimeError(f"{self!r} has been entered already: each block needs a group of its own")
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

        RuntimeError when the block has ended. It waits only in a group with a limit: until there are fewer tasks.
        If Cancelled is raised then, the task was not started.
        """
        try:
            if fn.__code__.co_flags & UNRUN:
                check_function("TaskGroup.spawn", "fn", fn)
        except AttributeError:
            check_function("TaskGroup.spawn", "fn", fn)
        loop = self._loop()
        if self._places is not None:
            self._take_place(self._places)
        task = Task(loop, self._scope, fn, args, name, inherited_context())
        task.on_done = self._task_done
        loop.ready.append(task)
        return task

    def start(self, fn: Callable[..., Any], *args: Any, name: str | None = None) -> Any:
        """Start ``fn(*args, started=...)`` as a task and wait until it has called ``started(value)``; that value.

        From then on it is a task like any other. If it fails before, its error is raised here and the group goes on;
        RuntimeError if it ends, or is cancelled with its group, without having called. A cancel of this call cancels
        the task and waits for its end.
        """
        check_function("TaskGroup.start", "fn", fn)
        self._loop()
        if self._places is not None:
            self._take_place(self._places)
        return Start(self._scope, fn, args, name, self._task_done, self._task_left).wait()

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until the group has no task, at most ``timeout`` seconds; False if they pass. More may come later.

        RuntimeError in a task of the group, which would wait for itself. From any task or thread.
        """
        loop = self.select_home
        fiber = getcurrent()
        if type(fiber) is not Fiber or fiber.loop is not loop:
            return call_elsewhere(loop, self.wait, timeout)  # type: ignore[no-any-return]
        if loop.budget <= 0:
            loop.checkpoint(fiber)
        else:
            loop.budget -= 1
        if self.select_ready():
            return True
        return loop.wait(Waiter(fiber, self), timeout, self.select_disarm, self._observe().items)

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

    def _take_place(self, places: Semaphore) -> None:
        self._entering += 1
        try:
            places.acquire()
        except BaseException:
            if self._waiter is not None:  # the block may have waited for this one only
                self._waiter.wake()
            raise
        finally:
            self._entering -= 1

    def _task_done(self, task: Task[Any]) -> None:
        error = task.error
        if error is not None:
            task.joined = True
        # A Cancelled that nobody asked for is an error like any other: it must not vanish.
        if error is not None and not (isinstance(error, Cancelled) and task.cancelled):
            self._failed(error)
        if not self._scope.kids and self._waiter is not None:
            self._waiter.wake()
        if self._observed:
            self._tell()

    def _task_left(self) -> None:
        """A task has ended that is not the group's concern."""
        if not self._scope.kids and self._waiter is not None:
            self._waiter.wake()
        if self._observed:
            self._tell()

    def _tell(self) -> None:
        if self._places is not None:
            self._places.release()
        if self._idlers is not None and not self._busy():
            self._idlers.wake_all(None, self)

    def _busy(self) -> bool:
        """Whether there is a task; a scope that the block has entered is below the group's too."""
        kids = self._scope.kids
        return kids is not None and any(isinstance(kid, Task) for kid in kids)

    def _failed(self, error: BaseException) -> None:
        if not any(error is known for known in self._errors):  # the block may have joined the task that failed
            self._errors.append(error)
        if self._fail_fast or not isinstance(error, Exception):
            self._scope._cancel()

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> bool:
        assert self._fiber is not None
        if getcurrent() is not self._fiber:  # whose wait would this be?
            raise RuntimeError(f"{self!r} is left in {current_holder()!r}, and was entered in {self._fiber.task!r}")
        scope = self._scope
        if exc is not None and not (isinstance(exc, Cancelled) and scope.cancelled):
            self._failed(exc)
        elif exc is not None:
            scope._cancel()
        cut_short = exc is not None and isinstance(exc, Cancelled)
        interrupted: BaseException | None = None
        loop = self._fiber.loop
        while scope.kids or self._entering:
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
                scope._cancel()
        self._waiter = None
        self._closed = True
        try:
            return self._leave(exc, cut_short)
        finally:
            self._errors = []
            del interrupted, exc

    def _await_tasks(self, loop: Loop) -> None:
        assert self._fiber is not None
        while self._scope.kids or self._entering:
            self._waiter = waiter = StubbornWaiter(self._fiber, self)
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

    # Select.

    @property
    def select_home(self) -> Loop:
        if self._fiber is None:
            raise RuntimeError("a TaskGroup can be waited for only when its block has begun")
        return self._fiber.loop

    def select_ready(self) -> bool:
        node = getattr(getcurrent(), "task", None)
        while node is not None:
            node = node.parent
            if node is self._scope:
                raise RuntimeError(f"a task of {self!r} cannot wait for itself")
        return not self._busy()

    def select_take(self) -> None:
        return None

    def _observe(self) -> WaitQueue:
        if self._idlers is None:
            self._idlers = WaitQueue()
            self._observed = True
        return self._idlers

    def select_arm(self, waiter: Waiter) -> None:
        self._observe().push(waiter)

    def select_disarm(self, waiter: Waiter) -> None:
        if self._idlers is not None:
            self._idlers.discard(waiter)

    def select_result(self, waiter: Waiter) -> None:
        return None

    def __repr__(self) -> str:
        return f"<TaskGroup of {len(self._scope.kids or ())} tasks at {id(self):#x}>"
