"""``select``: wait for the first of several sources; the others lose nothing."""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable
from weakref import WeakSet

from greenlet import getcurrent

from ._core import (
    CANCELLED,
    TIMED_OUT,
    WOKEN,
    Cancelled,
    Fiber,
    Loop,
    MonotonicClock,
    Waiter,
    WouldBlock,
    WrongLoop,
    background,
    call_elsewhere,
    check_seconds,
    seconds_after,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ._core import Clock

_UNSET: Any = object()


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


# Types that have all of this: to look it up each time was three quarters of the time of a select.
_kinds: WeakSet[type] = WeakSet()


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
    are ready they take turns, in no particular order, so that none starves; with ``priority`` the first in argument
    order wins. The losers are untouched: nothing is taken from them.

    ``timeout`` in seconds: TimeoutError when it passes. A closed source raises ChannelClosed with ``.source``
    set, a failed task or future its error. A cancel ends the wait and takes nothing.
    """
    entries = [(source, source) for source in sources]
    entries += named.items()
    if not entries:
        raise ValueError("select needs at least one source")
    for _, source in entries:
        if type(source) not in _kinds:
            _check_selectable(source)
    home = _home_of([source for _, source in entries])
    fiber = getcurrent()
    if type(fiber) is Fiber and (home is None or fiber.loop is home):
        return _select_here(fiber, entries, timeout, priority)
    if home is None:
        home = background().loop
    return call_elsewhere(home, _select_posted, entries, timeout, priority)  # type: ignore[no-any-return]


def _check_selectable(source: object) -> None:
    if not isinstance(source, Selectable):
        raise TypeError(f"cannot select on {source!r}: no channel, task, future, event or the like")
    if issubclass(type(source), Selectable):  # not only this one object
        _kinds.add(type(source))


def _home_of(sources: list[Any]) -> Loop | None:
    """The one loop that the sources belong to."""
    found = [getattr(source, "select_home", None) for source in sources]
    homes = {id(loop): loop for loop in found if loop is not None}
    if len(homes) > 1:
        raise WrongLoop(f"select over sources of {len(homes)} different loops: {told_with_homes(sources)}")
    return next(iter(homes.values()), None)


def told_with_homes(sources: Iterable[Any]) -> str:
    """The sources and what loops they belong to, for an error."""
    homes = [(source, getattr(source, "select_home", None)) for source in sources]
    return ", ".join(f"{source!r} belongs to {home!r}" for source, home in homes if home is not None)


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
    # By chance: any rule of turns has a pattern of selects, by one task or by several, in which a source starves.
    at = 0 if priority else int(loop.runtime.random.random() * len(entries))
    for key, source in entries[at:] + entries[:at] if at else entries:
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
    """A source that completes at a moment; see :func:`after`.

    It has no home, since it is nothing but a time: each wait has a timer of its own in the loop that it is in.
    """

    __slots__ = ("_armed", "_clock", "_deadline")

    select_home = None

    def __init__(self, seconds: float) -> None:
        self._clock: Clock = _clock_here()
        self._deadline = seconds_after(self._clock.now(), seconds, "the time of after()")
        self._armed: dict[Waiter, None] = {}  # those whose timer will do something yet; each its own loop's

    @property
    def deadline(self) -> float:
        """When it completes, on the clock of the run that it was made or last used in."""
        return self._deadline

    def _move_to(self, clock: Clock) -> None:
        """Count what is left on another clock: it was made outside the run of a virtual one, or in an earlier run."""
        if clock is not self._clock:
            if clock.virtual or self._clock.virtual:
                self._deadline = clock.now() + (self._deadline - self._clock.now())
            self._clock = clock

    def select_ready(self) -> bool:
        self._move_to(_clock_here())
        return self._clock.now() >= self._deadline

    def select_take(self) -> float:
        return self._deadline

    def select_arm(self, waiter: Waiter) -> None:
        loop = waiter.fiber.loop
        self._move_to(loop.clock)
        if self._deadline != inf:
            self._armed[waiter] = None
            loop.timers.push(self._deadline, _Alarm(self, waiter))

    def select_disarm(self, waiter: Waiter) -> None:
        if waiter in self._armed:
            del self._armed[waiter]
            waiter.fiber.loop.timers.ended_early()

    def select_result(self, waiter: Waiter) -> float:
        return self._deadline

    def __repr__(self) -> str:
        return f"<after, at {self._deadline:.3f}>"


class _Alarm:
    """One wait for an ``after``, in the heap of timers."""

    __slots__ = ("_after", "_waiter")

    sleeping = False

    def __init__(self, after: After, waiter: Waiter) -> None:
        self._after = after
        self._waiter = waiter

    def alive(self, deadline: float) -> bool:
        return not self._waiter.state

    def expire(self) -> None:
        self._after._armed.pop(self._waiter, None)
        self._waiter.wake(None, self._after)


def _clock_here() -> Clock:
    fiber = getcurrent()
    return fiber.loop.clock if type(fiber) is Fiber else _REAL_TIME


_REAL_TIME = MonotonicClock()


def after(seconds: float) -> After:
    """A source for :func:`select` that completes in ``seconds`` from now and stays ready; its value is that time.

    It may be made anywhere, before the run too, and used by any number of tasks and runs at once. The seconds count
    from the call. A run with a virtual clock takes over what is left of them.
    """
    return After(seconds)
