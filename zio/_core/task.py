"""A task: a function running on its own stack, its outcome, and its place in the cancel tree."""

from __future__ import annotations

from contextvars import copy_context
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from greenlet import getcurrent

from .errors import Cancelled
from .fiber import NO_LOOP, Fiber, current_fiber
from .foreign import call_elsewhere
from .scope_tree import Holder, spread_cancel
from .waiter import CANCELLED, FAILED, TIMED_OUT, WOKEN, Waiter

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextvars import Context

    from .scheduler import Loop
    from .scope_tree import ScopeNode

T = TypeVar("T")


def inherited_context() -> Context | None:
    """For a task that is spawned here."""
    return copy_context() if getcurrent().gr_context else None


PENDING = 0
RETURNED = 1
RAISED = 2


class Task(Holder, Generic[T]):
    """A running function. Made by :func:`zio.spawn` and ``TaskGroup.spawn``.

    ``join`` and ``cancel`` may be called from any task or thread. A task is selectable: ``zio.select(task)``
    gives its result.
    """

    running_on: Fiber | None

    # What is not set by ``__init__`` costs nothing: see ScopeNode.
    __slots__ = (
        "_joined",  # not set: False
        "_name",  # not set: none was given
        "_state",
        "_traceback",  # only of a task that failed
        "_waiters",
        "context",
        "fn",
        "loop",
        "on_done",
        "payload",  # the arguments, and when it has ended the outcome
        "running_on",  # not set: it has not started
    )

    def __init__(
        self,
        loop: Loop,
        parent: ScopeNode,
        fn: Callable[..., T],
        args: tuple[Any, ...],
        name: str | None,
        context: Context | None,
    ) -> None:
        # Written out, without super(): spawning is a hot path.
        self.loop = loop
        self.fn: Callable[..., T] | None = fn
        self.payload: Any = args
        if name:
            self._name = name
        # None is an empty one, made when needed: with 100,000 tasks the collector spent a quarter of its time on them.
        self.context = context
        self.on_done: Callable[[Task[Any]], None] | None = None
        self._state = PENDING
        self._waiters: list[Waiter] | None = None
        self.kids = None
        self.scope = self
        self.parent = parent
        self.cancelled = parent.cancelled
        kids = parent.kids
        if kids is None:
            parent.kids = {self: None}
        else:
            kids[self] = None

    # For users.

    @property
    def name(self) -> str:
        """As given; empty if none was."""
        try:
            return self._name
        except AttributeError:
            return ""

    @name.setter
    def name(self, name: str) -> None:
        self._name = name

    @property
    def fiber(self) -> Fiber | None:
        """What it runs on; None before it starts and after its end."""
        try:
            return self.running_on
        except AttributeError:
            return None

    @property
    def joined(self) -> bool:
        """Whether anybody has seen, or will see, how it ended."""
        try:
            return self._joined
        except AttributeError:
            return False

    @joined.setter
    def joined(self, joined: bool) -> None:
        self._joined = joined

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
        try:
            loop = (fiber := current_fiber()).loop
        except AttributeError:  # not in a task
            loop = NO_LOOP
        if loop is not self.loop:
            if self._state == PENDING or self.loop.is_here():
                return call_elsewhere(self.loop, self.join, timeout)  # type: ignore[no-any-return]
            return self.result()
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
                self._waiters = []
            try:
                queue = self._waiters
                state = loop.park(waiter, queue) if timeout is None else loop.park_for(waiter, timeout, queue)
            except BaseException as exc:
                state = loop.struck(waiter, exc)
            if state != WOKEN:
                self.select_disarm(waiter)
                if state == TIMED_OUT and not fiber.cancelled:
                    raise TimeoutError(f"{self!r} did not end within {timeout} s")
                if state == FAILED:
                    raise waiter.value
                raise Cancelled
            del waiter
        self._joined = True
        if self._state == RETURNED:
            return self.payload  # type: ignore[no-any-return]
        try:
            raise self.payload.with_traceback(self._traceback)
        finally:
            del self  # the error's traceback has this frame: no cycle

    def result(self) -> T:
        """The result of a task that has ended, or raise its error. RuntimeError if it has not."""
        if self._state == PENDING:
            raise RuntimeError(f"{self!r} has not ended")
        self._joined = True
        if self._state == RAISED:
            try:
                raise self.payload.with_traceback(self._traceback)
            finally:
                del self  # as in join
        return self.payload  # type: ignore[no-any-return]

    @property
    def error(self) -> BaseException | None:
        """What ended the task, None if it returned or runs still."""
        return self.payload if self._state == RAISED else None

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

    @property
    def owner(self) -> Holder:
        """On whose behalf it runs: the caller elsewhere of a posted call, else itself."""
        return self.loop.callers.get(self, self) if self.parent is self.loop.calls else self

    def _cancel(self) -> None:
        if self._state == PENDING:
            spread_cancel(self)

    def cancel_arrived(self) -> None:
        fiber = self.fiber
        if fiber is None:
            return  # not started: it will end without running
        fiber.cancelled = True
        waiter = fiber.waiter
        if waiter is None or waiter.state:
            self.loop.budget = 0  # it runs now, or will look when it runs
        else:
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
        if state == RAISED and self.cancelled and type(outcome) is Cancelled:
            # Where a task was that was cancelled interests nobody; the traceback keeps all that its frames had.
            outcome = Cancelled(*outcome.args)
        self.payload = outcome
        if state == RAISED:
            self._traceback = outcome.__traceback__  # without those who join
            self._name = self._title()  # for the report, which comes when the function is forgotten
        self._state = state  # last: another thread that sees it reads the outcome without asking
        self.fn = None
        self.running_on = None
        self.context = None  # an ended task keeps nothing alive,
        self.scope = None  # type: ignore[assignment]  # not even itself
        self.parent.kids.pop(self, None)  # type: ignore[union-attr]
        # If an error strikes in here, this is called once more: so each joiner stays until it is woken.
        waiters = self._waiters
        if waiters is not None:
            while waiters:
                if waiters[0].wake(None, self):
                    self._joined = True
                del waiters[0]
            self._waiters = None
        on_done = self.on_done
        if on_done is not None:
            on_done(self)
            self.on_done = None

    def __repr__(self) -> str:
        state = ("pending" if self.fiber is None else "running", "done", "failed")
        return f"<Task {self._title()} {state[self._state]} at {id(self):#x}>"

    def _title(self) -> str:
        name = self.name
        if name or self.fn is None:
            return name
        return getattr(self.fn, "__qualname__", "") or type(self.fn).__name__
