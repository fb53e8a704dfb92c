"""A task: a function running on its own stack, its outcome, and its place in the cancel tree."""

from __future__ import annotations

from contextvars import Context, copy_context
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from greenlet import getcurrent

from .cancel import Holder, spread_cancel
from .errors import Cancelled
from .fiber import Fiber
from .foreign import call_elsewhere
from .waiter import CANCELLED, FAILED, TIMED_OUT, WOKEN, Waiter

if TYPE_CHECKING:
    from collections.abc import Callable

    from .cancel import ScopeNode
    from .scheduler import Loop

T = TypeVar("T")

PENDING = 0
RETURNED = 1
RAISED = 2


class Task(Holder, Generic[T]):
    """A running function. Made by :func:`zio.spawn` and ``TaskGroup.spawn``.

    ``join`` and ``cancel`` may be called from any task or thread. A task is selectable: ``zio.select(task)``
    gives its result.
    """

    __slots__ = (
        "joined",
        "_outcome",
        "_state",
        "_traceback",
        "_waiters",
        "args",
        "context",
        "fiber",
        "fn",
        "loop",
        "name",
        "on_done",
        "owner",
    )

    def __init__(
        self,
        loop: Loop,
        parent: ScopeNode,
        fn: Callable[..., T],
        args: tuple[Any, ...],
        name: str | None = None,
        context: Context | None = None,
    ) -> None:
        # Written out, without super(): spawning is a hot path.
        self.loop = loop
        self.fn: Callable[..., T] | None = fn
        self.args = args
        self.name = name or ""
        if context is None and getcurrent().gr_context:
            context = copy_context()
        # None is an empty one, made when needed: with 100,000 tasks the collector spent a quarter of its time on them.
        self.context = context
        self.fiber: Fiber | None = None
        self.owner: Holder | None = None  # on whose behalf a posted call runs
        self.on_done: Callable[[Task[Any]], None] | None = None
        self._state = PENDING
        self._outcome: Any = None
        self._waiters: list[Waiter] | None = None
        self.joined = False
        self.kids = None
        self.cancel_called = False
        self.shielded = False
        self.holder = self.scope = self
        self.parent = parent
        self.cancelled = parent.cancelled
        kids = parent.kids
        if kids is None:
            parent.kids = {self: None}
        else:
            kids[self] = None

    # For users.

    @property
    def done(self) -> bool:
        """Whether the task has ended, in whatever way."""
        return self._state != PENDING

    def cancel(self) -> None:
        """Ask the task to stop: its blocking calls raise Cancelled from now on. Does not wait. Idempotent.

        A task that has not started never runs. A task that has ended is left alone.
        """
        if self.loop.is_here():
            self._cancel()
        elif self._state == PENDING:
            self.loop.post(self._cancel, optional=True)

    def join(self, timeout: float | None = None) -> T:
        """Wait until the task has ended; its result, or raise its error.

        ``timeout`` is in seconds; TimeoutError when it passes. Cancelling the joiner leaves the task alone.
        A task that was cancelled raises Cancelled here.
        """
        fiber = getcurrent()
        if type(fiber) is not Fiber or fiber.loop is not self.loop:
            if self._state == PENDING or self.loop.is_here():
                return call_elsewhere(self.loop, self.join, timeout)  # type: ignore[no-any-return]
            return self.result()
        loop = self.loop
        budget = loop.budget
        if budget <= 0:
            loop.checkpoint(fiber)
        else:
            loop.budget = budget - 1
        if self._state == PENDING:
            if self is fiber.task:
                raise RuntimeError(f"{self!r} cannot wait for itself")
            waiter = Waiter(fiber, self)
            if self._waiters is None:
                self._waiters = [waiter]
            else:
                self._waiters.append(waiter)
            state = loop.park(waiter) if timeout is None else loop.park_for(waiter, timeout)
            if state != WOKEN:
                self.select_disarm(waiter)
                if state == TIMED_OUT and not fiber.cancelled:
                    raise TimeoutError(f"{self!r} did not end within {timeout} s")
                if state == FAILED:
                    raise waiter.value
                raise Cancelled
            del waiter
        self.joined = True
        if self._state == RETURNED:
            return self._outcome  # type: ignore[no-any-return]
        try:
            raise self._outcome.with_traceback(self._traceback)
        finally:
            del self  # the error's traceback has this frame: no cycle

    def result(self) -> T:
        """The result of a task that has ended, or raise its error."""
        self.joined = True
        if self._state == RAISED:
            try:
                raise self._outcome.with_traceback(self._traceback)
            finally:
                del self  # as in join
        return self._outcome  # type: ignore[no-any-return]

    @property
    def error(self) -> BaseException | None:
        """What ended the task, None if it returned or runs still."""
        return self._outcome if self._state == RAISED else None

    # For select.

    @property
    def select_home(self) -> Loop:
        return self.loop

    def select_ready(self) -> bool:
        if self is getattr(getcurrent(), "task", None):
            raise RuntimeError(f"{self!r} cannot wait for itself")
        return self._state != PENDING

    def select_arm(self, waiter: Waiter) -> None:
        if self._waiters is None:
            self._waiters = []
        self._waiters.append(waiter)

    def select_disarm(self, waiter: Waiter) -> None:
        if self._waiters is not None and waiter in self._waiters:
            self._waiters.remove(waiter)

    def select_take(self) -> T:
        return self.result()

    def select_result(self, waiter: Waiter) -> T:
        return self.result()

    # For the cancel tree.

    def _cancel(self) -> None:
        if self._state == PENDING and not self.cancel_called:
            self.cancel_called = True
            spread_cancel(self)

    def cancel_arrived(self) -> None:
        fiber = self.fiber
        if fiber is None:
            return  # not started: it will end without running
        fiber.cancelled = True
        waiter = fiber.waiter
        if waiter is None:
            self.loop.budget = 0  # it runs now, or will look when it runs
        elif not waiter.state:
            waiter.state = CANCELLED
            self.loop.ready.append(fiber)

    def scope_changed(self) -> None:
        fiber = self.fiber
        assert fiber is not None
        fiber.cancelled = cancelled = self.scope.cancelled
        if cancelled:
            self.loop.budget = 0

    def now(self) -> float:
        return self.loop.clock.now()

    # For the fiber.

    def finish(self, state: int, outcome: Any) -> None:
        """The function has ended: record it, wake the joiners, tell the group."""
        self._outcome = outcome
        self._state = state  # last: another thread that sees it reads the outcome without asking
        if state == RAISED:
            self._traceback = outcome.__traceback__  # without those who join
            self.name = self._title()  # for the report, which comes when the function is forgotten
        self.fn = None
        self.args = ()
        self.fiber = None
        self.context = None  # an ended task keeps nothing alive,
        self.holder = self.scope = None  # type: ignore[assignment]  # not even itself
        del self.parent.kids[self]  # type: ignore[union-attr]
        waiters = self._waiters
        if waiters is not None:
            self._waiters = None
            for waiter in waiters:
                if waiter.wake(None, self):
                    self.joined = True
        on_done = self.on_done
        if on_done is not None:
            self.on_done = None
            on_done(self)

    def __repr__(self) -> str:
        state = ("pending" if self.fiber is None else "running", "done", "failed")
        return f"<Task {self._title()} {state[self._state]} at {id(self):#x}>"

    def _title(self) -> str:
        if self.name or self.fn is None:
            return self.name
        return getattr(self.fn, "__qualname__", "") or type(self.fn).__name__
