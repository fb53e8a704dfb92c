"""as_completed: tasks and futures in the order in which they end."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any, Generic, Self, TypeVar

from greenlet import getcurrent

from ._core import WOKEN, Fiber, Loop, Task, Waiter, WaitQueue, WrongLoop, call_elsewhere, edit_elsewhere
from .selecting import told_with_homes
from .sync import Future
from .tasks import maybe_pause

if TYPE_CHECKING:
    from collections.abc import Iterable

S = TypeVar("S", bound="Task[Any] | Future[Any]")
_NO_MORE: Any = object()


def as_completed(sources: Iterable[S]) -> Completions[S]:
    """Iterate over tasks and futures in the order in which they end: ``for task in zio.as_completed(tasks):``.

    What it gives has ended, so ``join()`` or ``result()`` return or raise at once. The tasks are left alone if the loop
    is left early, by a cancel too. All have to be of one run; the loop may be in any task or thread.
    """
    return Completions(list(sources))


class Completions(Generic[S]):
    """The iterator of :func:`as_completed`."""

    __slots__ = ("_ended", "_loop", "_pending", "_waiters")

    def __init__(self, sources: list[S]) -> None:
        for source in sources:
            if not isinstance(source, (Task, Future)):
                raise TypeError(f"as_completed takes tasks and futures, not {source!r}")
        self._ended: deque[S] = deque()
        pending: list[S] = []
        for source in sources:
            (self._ended if source.done else pending).append(source)
        homes = {source.select_home for source in pending}
        if len(homes) > 1:
            told = told_with_homes(pending)
            raise WrongLoop(f"as_completed of tasks and futures of {len(homes)} different loops: {told}")
        self._waiters = WaitQueue()
        self._pending = len(pending)
        self._loop: Loop | None = next(iter(homes), None)
        if self._loop is not None:
            edit_elsewhere(self._loop, self._watch, pending)

    def _watch(self, sources: list[S]) -> None:
        for source in sources:
            if source.done:
                self._pending -= 1
                self._ended.append(source)
            else:
                source.select_arm(_Watch(self, source))

    def _has_ended(self, source: S) -> bool:
        """Whether somebody gets it at this moment; if not, it is kept for who comes."""
        self._pending -= 1
        waiter = self._waiters.pop()
        if waiter is None:
            self._ended.append(source)
        else:
            waiter.wake(source, self)
        if not self._pending:
            self._waiters.wake_all(_NO_MORE, self)
        return waiter is not None

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> S:
        if self._loop is None:
            maybe_pause()
            if self._ended:
                return self._ended.popleft()
            raise StopIteration
        source = self._next(self._loop)
        if source is _NO_MORE:
            raise StopIteration
        return source  # type: ignore[no-any-return]

    def _next(self, loop: Loop) -> Any:
        fiber = getcurrent()
        if type(fiber) is not Fiber or fiber.loop is not loop:
            return call_elsewhere(loop, self._next, loop)
        if loop.budget <= 0:
            loop.checkpoint(fiber)
        else:
            loop.budget -= 1
        if self._ended:
            return self._ended.popleft()
        if not self._pending:
            return _NO_MORE
        waiter = Waiter(fiber, self)
        loop.wait(waiter, None, self._waiters.discard, self._waiters.items)
        return waiter.take()

    def __repr__(self) -> str:
        return f"<as_completed: {len(self._ended)} ended, {self._pending} to come>"


class _Watch(Waiter):
    """Stands among the waiters of one source."""

    __slots__ = ("completions",)

    def __init__(self, completions: Completions[Any], source: object) -> None:
        super().__init__(None, source)  # type: ignore[arg-type]  # no fiber waits here
        self.completions = completions

    def wake(self, value: Any = None, source: Any = None) -> bool:
        self.state = WOKEN
        return self.completions._has_ended(source)
