"""``select``: wait for the first of several sources; the others lose nothing."""

from __future__ import annotations

from itertools import count
from typing import Any, Protocol, runtime_checkable

from greenlet import getcurrent

from ._core import (
    CANCELLED,
    TIMED_OUT,
    WOKEN,
    Cancelled,
    Fiber,
    Loop,
    Waiter,
    WouldBlock,
    WrongLoop,
    background,
    call_elsewhere,
    check_seconds,
    current_holder,
    seconds_after,
)

_UNSET: Any = object()
_turns = count()


@runtime_checkable
class Selectable(Protocol):
    """What a source offers. All methods are called in the source's home loop; none blocks.

    ``select_ready``: whether ``select_take`` would complete now. ``select_take``: complete it, value or error.
    ``select_arm``: have ``waiter`` claimed when it completes, with ``waiter.source`` set to the source.
    ``select_disarm``: undo that; the waiter was claimed by somebody else.
    ``select_result``: the value (or error) for a waiter that this source has claimed.
    """

    def select_ready(self) -> bool: ...
    def select_take(self) -> Any: ...
    def select_arm(self, waiter: Waiter) -> None: ...
    def select_disarm(self, waiter: Waiter) -> None: ...
    def select_result(self, waiter: Waiter) -> Any: ...


class SelectWaiter(Waiter):
    """A waiter armed on several sources. ``offers`` has, for channels to send to, what is offered."""

    __slots__ = ("offers",)

    def __init__(self, fiber: Fiber, what: object) -> None:
        super().__init__(fiber, what)
        self.offers: dict[Any, Any] = {}


def select(*sources: Any, timeout: float | None = None, priority: bool = False, **named: Any) -> tuple[Any, Any]:
    """Wait for the first of ``sources`` to complete; returns ``(source, value)``, or ``(name, value)`` for named ones.

    Sources are channels (receive), ``channel.send_op(item)``, broadcast receivers, tasks, futures, groups, events and
    ``Notify`` (value True), subscriptions, signal receivers and :func:`after`. If several
    are ready they take turns; with ``priority`` the first in argument order wins. The losers are untouched: nothing is
    taken from them.

    ``timeout`` in seconds: TimeoutError when it passes. A closed source raises ChannelClosed with ``.source``
    set, a failed task or future its error. A cancel ends the wait and takes nothing.
    """
    entries = [(source, source) for source in sources]
    entries += named.items()
    if not entries:
        raise ValueError("select needs at least one source")
    for _, source in entries:
        if not isinstance(source, Selectable):
            raise TypeError(f"cannot select on {source!r}: no channel, task, future, event or the like")
    home = _home_of([source for _, source in entries])
    fiber = getcurrent()
    if type(fiber) is Fiber and (home is None or fiber.loop is home):
        return _select_here(fiber, entries, timeout, priority)
    if home is None:
        home = background().loop
    return call_elsewhere(home, _select_posted, entries, timeout, priority)  # type: ignore[no-any-return]


def _home_of(sources: list[Any]) -> Loop | None:
    """The one loop that the sources belong to."""
    found = [getattr(source, "select_home", None) for source in sources]
    homes = {id(loop): loop for loop in found if loop is not None}
    if len(homes) > 1:
        raise WrongLoop(f"select over sources of {len(homes)} different loops: {sources!r}")
    return next(iter(homes.values()), None)


def _select_posted(entries: list[tuple[Any, Any]], timeout: float | None, priority: bool) -> tuple[Any, Any]:
    fiber = getcurrent()
    assert type(fiber) is Fiber
    return _select_here(fiber, entries, timeout, priority)


def _select_here(
    fiber: Fiber, entries: list[tuple[Any, Any]], timeout: float | None, priority: bool
) -> tuple[Any, Any]:
    loop = fiber.loop
    if loop.budget <= 0:
        loop.checkpoint(fiber)
    else:
        loop.budget -= 1
    at = 0 if priority else next(_turns) % len(entries)
    for key, source in entries[at:] + entries[:at]:
        if source.select_ready():
            try:
                return key, source.select_take()
            except WouldBlock:  # a thread beside the loop was faster
                continue
    try:
        if timeout is not None and timeout <= 0:
            raise TimeoutError(f"nothing ready among {len(entries)} sources")
    except TypeError:
        check_seconds("a timeout", timeout)
        raise
    waiter = SelectWaiter(fiber, [source for _, source in entries])
    try:
        for _, source in entries:
            source.select_arm(waiter)
        if not waiter.state and any(_missed(source, waiter) for _, source in entries):
            # A signal handler was here just before, or a thread.
            waiter.state = CANCELLED
            for _, source in entries:
                source.select_disarm(waiter)
            return _select_here(fiber, entries, timeout, priority)
        state = loop.park(waiter) if timeout is None else loop.park_for(waiter, timeout)
    except BaseException as exc:
        state = loop.struck(waiter, exc)
    winner = waiter.source if state == WOKEN else None
    won_key: Any = _UNSET
    for key, source in entries:
        if source is winner and won_key is _UNSET:
            won_key = key
        else:
            source.select_disarm(waiter)
    if state == WOKEN:
        return won_key, winner.select_result(waiter)  # type: ignore[union-attr]
    if state == TIMED_OUT and not fiber.cancelled:
        raise TimeoutError(f"none of {len(entries)} sources completed within {timeout} s")
    if waiter.value is not None:
        raise waiter.value
    raise Cancelled


def _missed(source: Selectable, waiter: Waiter) -> bool:
    """Whether ``source`` is ready though ``waiter`` was not told: it was armed a moment too late."""
    look = getattr(source, "select_missed", None)  # of those to which the waiter itself counts
    return source.select_ready() if look is None else bool(look(waiter))


class After:
    """A source that completes at a moment; see :func:`after`."""

    __slots__ = ("_waiters", "deadline")

    select_home = None
    sleeping = False  # for the timer heap

    def __init__(self, deadline: float) -> None:
        self.deadline = deadline
        self._waiters: list[Waiter] = []

    def select_ready(self) -> bool:
        return bool(current_holder().now() >= self.deadline)

    def select_take(self) -> float:
        return self.deadline

    def select_arm(self, waiter: Waiter) -> None:
        if not self._waiters and self.deadline != float("inf"):
            waiter.fiber.loop.timers.push(self.deadline, self)
        self._waiters.append(waiter)

    def select_disarm(self, waiter: Waiter) -> None:
        if waiter in self._waiters:
            self._waiters.remove(waiter)
            if not self._waiters and self.deadline != float("inf"):
                waiter.fiber.loop.timers.ended_early()

    def select_result(self, waiter: Waiter) -> float:
        return self.deadline

    def alive(self, deadline: float) -> bool:
        return bool(self._waiters)

    def expire(self) -> None:
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            waiter.wake(None, self)

    def __repr__(self) -> str:
        return f"<after, at {self.deadline:.3f}>"


def after(seconds: float) -> After:
    """A source for :func:`select` that completes in ``seconds`` from now and stays ready; its value is that time."""
    return After(seconds_after(current_holder().now(), seconds, "the time of after()"))
