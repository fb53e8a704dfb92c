"""Being told what the scheduler does. Nothing of this exists while nobody wants to know.

The hot paths have no test for instruments: with the first one the loop becomes an :class:`InstrumentedLoop`, and the
beginning and the end of tasks are replaced; with the last one all is as before.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from .errors import Cancelled
from .log_lines import log_later
from .scheduler import Loop
from .task import Task
from .waiter import CANCELLED

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextvars import Context

    from .fiber import Fiber
    from .scope_tree import ScopeNode
    from .waiter import Queue, Waiter

logger = logging.getLogger("zio")


class Instrument:
    """Override what you want to see. Called in the loop's thread, in the middle of its work: be quick, do not wait.

    One that raises is removed, and its error is logged.
    """

    def task_spawned(self, task: Task[Any]) -> None:
        """The task exists, and will run."""

    def task_running(self, task: Task[Any]) -> None:
        """The task begins, or goes on."""

    def task_parked(self, task: Task[Any], what: object) -> None:
        """The task waits on ``what``; None: it only lets others run."""

    def task_ended(self, task: Task[Any]) -> None:
        """The task has ended; see ``task.error``. One that was cancelled before it began never ran."""


_budget: Any = vars(Loop)["budget"]  # the slot itself


class InstrumentedLoop(Loop):
    """A loop that tells."""

    __slots__ = ()

    # The hottest calls park on their own while there is a budget. Here they see none, and call the methods below.
    @property
    def budget(self) -> int:
        return 0

    @budget.setter
    def budget(self, value: int) -> None:
        _budget.__set__(self, value)

    def checkpoint(self, fiber: Fiber) -> bool:
        budget = _budget.__get__(self)
        if budget <= 0:
            return Loop.checkpoint(self, fiber)
        _budget.__set__(self, budget - 1)
        return False

    def park(self, waiter: Waiter, queue: Queue | None = None) -> int:
        task = waiter.fiber.task
        try:
            _tell(self, "task_parked", task, waiter.what)
        except BaseException:
            waiter.state = CANCELLED  # it is armed: nobody may wake a wait that never begins
            raise
        state = Loop.park(self, waiter, queue)
        _tell(self, "task_running", task)
        return state

    def let_others_run(self, fiber: Fiber) -> None:
        task = fiber.task
        _tell(self, "task_parked", task, None)
        Loop.let_others_run(self, fiber)
        _tell(self, "task_running", task)

    def pause(self, fiber: Fiber) -> None:
        if _budget.__get__(self) <= 0 and Loop.checkpoint(self, fiber):
            return
        if self.ready:
            self.let_others_run(fiber)
            if fiber.cancelled:
                raise Cancelled


_plain_init = Task.__init__
_plain_finish = Task.finish
_instrumented: set[int] = set()  # ids of the loops that have instruments


def add_instrument(loop: Loop, instrument: Instrument) -> None:
    """From now on. Only in the loop's thread."""
    if instrument in loop.instruments:
        raise ValueError(f"{instrument!r} is installed already")
    loop.instruments = (*loop.instruments, instrument)
    loop.__class__ = InstrumentedLoop
    _instrumented.add(id(loop))
    Task.__init__ = _init  # type: ignore[method-assign, assignment]
    Task.finish = _finish  # type: ignore[method-assign, assignment]


def remove_instrument(loop: Loop, instrument: Instrument) -> None:
    """Not any more. Does nothing if it is not installed. Only in the loop's thread."""
    loop.instruments = tuple(other for other in loop.instruments if other is not instrument)
    if not loop.instruments and id(loop) in _instrumented:
        loop.__class__ = Loop
        _instrumented.discard(id(loop))
        if not _instrumented:
            Task.__init__ = _plain_init  # type: ignore[method-assign]
            Task.finish = _plain_finish  # type: ignore[method-assign]


def remove_instruments(loop: Loop) -> None:
    """At the end of the run."""
    for instrument in loop.instruments:
        remove_instrument(loop, instrument)


def _tell(loop: Loop, hook: str, *args: Any) -> None:
    for instrument in loop.instruments:
        try:
            getattr(instrument, hook)(*args)
        except Exception as exc:
            remove_instrument(loop, instrument)
            log_later(logger, logging.ERROR, "%r failed in %s and is removed", instrument, hook, error=exc)


def _init(
    task: Task[Any],
    loop: Loop,
    parent: ScopeNode,
    fn: Callable[..., Any],
    args: tuple[Any, ...],
    name: str | None,
    context: Context | None,
) -> None:
    _plain_init(task, loop, parent, fn, args, name, context)
    if not loop.instruments:
        return
    task.name = task.name or getattr(fn, "__qualname__", "") or type(fn).__name__

    def begin(*args: Any) -> Any:
        _tell(loop, "task_running", task)
        return fn(*args)

    task.fn = begin
    _tell(loop, "task_spawned", task)


def _finish(task: Task[Any], state: int, outcome: Any) -> None:
    loop = task.loop
    _plain_finish(task, state, outcome)
    if loop.instruments:
        _tell(loop, "task_ended", task)
