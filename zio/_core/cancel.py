"""Cancel scopes: level-triggered, nested, each with an optional deadline and shield.

Scopes and tasks form one tree of nodes. ``cancel_called`` says that this node was cancelled itself;
``cancelled`` says that it is under a cancelled node with no shield between. A task reads its innermost
node. Cancelling walks down the tree once, sets ``cancelled`` and ends the waits of parked tasks; a task
that runs has its loop's budget set to zero, so that its next blocking call takes the slow path and raises:
the fast path needs no test of its own.

In a plain thread the same scopes work: the thread has a node of its own, and what blocks there consults it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

from .errors import Cancelled
from .scope_tree import Holder, ScopeNode, spread_cancel
from .seconds import seconds_after
from .thread_holder import current_holder

if TYPE_CHECKING:
    from types import TracebackType

    from .scheduler import Loop

_INF = float("inf")


def adopt(parent: ScopeNode, node: CancelScope) -> None:
    node.parent = parent
    if parent.kids is None:
        parent.kids = {}
    parent.kids[node] = None
    node.cancelled = node.cancel_called or (parent.cancelled and not node.shielded)


def _without_cancelled(exc: BaseException) -> BaseException | None:
    """``exc`` with every Cancelled removed; None if nothing else was in it."""
    if isinstance(exc, Cancelled):
        return None
    if isinstance(exc, BaseExceptionGroup):
        return exc.split(Cancelled)[1]
    return exc


def _contains_cancelled(exc: BaseException) -> bool:
    if isinstance(exc, BaseExceptionGroup):
        return exc.subgroup(Cancelled) is not None
    return isinstance(exc, Cancelled)


class CancelScope(ScopeNode):
    """``with CancelScope() as scope:`` a block that ``scope.cancel()`` ends.

    Inside a cancelled scope every blocking call raises :class:`zio.Cancelled` until the block is left; the
    block's own scope takes the exception there and execution goes on behind it. ``deadline`` is a time of
    :func:`zio.now` (seconds); it may be changed while the block runs. ``shield=True`` keeps cancels from
    outside away. ``cancel`` may be called from any thread.

    Attributes: ``cancel_called``; ``cancelled_caught`` (the block was cut short); ``expired`` (it was the
    deadline that did so).
    """

    __slots__ = (
        "_deadline",
        "_entered",
        "_holder",
        "_loop",
        "_shielded",
        "_timer_at",
        "cancel_called",
        "cancelled_caught",
        "timed_out",
    )

    sleeping = False  # for the timer heap

    def __init__(self, *, deadline: float | None = None, shield: bool = False) -> None:
        super().__init__()
        self.cancel_called = False
        self._shielded = shield
        self._holder: Holder | None = None
        self._deadline = _checked(deadline)
        self._timer_at: float | None = None
        self._loop: Loop | None = None
        self._entered = False
        self.cancelled_caught = False
        self.timed_out = False

    @property
    def deadline(self) -> float | None:
        """When the block is cancelled, as a time of :func:`zio.now`; None for never. Assignable."""
        return self._deadline

    @deadline.setter
    def deadline(self, value: float | None) -> None:
        self._deadline = _checked(value)
        if self._holder is not None:  # entered, and not left
            self._arm()

    @property
    def shield(self) -> bool:
        """Whether cancels from outside are kept away."""
        return self._shielded

    @property
    def shielded(self) -> bool:
        return self._shielded

    @property
    def holder(self) -> Holder | None:
        return self._holder

    @property
    def expired(self) -> bool:
        """Whether the deadline cut the block short."""
        return self.timed_out and self.cancelled_caught

    def cancel(self) -> None:
        """Cancel the block: what waits in it ends with Cancelled, later calls raise at once. Idempotent."""
        if not self._entered:
            self.cancel_called = True
            if not self._entered:
                return  # entering looks at cancel_called
        loop = self._loop
        if loop is not None and not loop.is_here():
            loop.post(self._cancel, optional=True)
        else:
            self._cancel()

    def _cancel(self) -> None:
        self.cancel_called = True
        if self._entered:
            spread_cancel(self)

    # The timer heap's side.

    def alive(self, deadline: float) -> bool:
        return self._timer_at == deadline

    def expire(self) -> None:
        loop, at = self._loop, self._timer_at
        if loop is None or at is None or at > loop.clock.now():
            return  # left, or put off, while its turn in the ready queue came
        self._timer_at = None
        self.run_out()

    def run_out(self) -> None:
        """The deadline has passed."""
        if not self.cancel_called:
            self.timed_out = True
            self._cancel()

    def _arm(self) -> None:
        loop, deadline = self._loop, self._deadline
        if loop is None:
            return  # a plain thread looks at its deadlines when it blocks
        if self._timer_at is not None and self._timer_at != deadline:
            loop.timers.ended_early()
            self._timer_at = None
        if deadline is not None and self._timer_at is None and deadline != float("inf"):
            if deadline <= loop.clock.now():
                self.run_out()
            else:
                self._timer_at = deadline
                loop.timers.push(deadline, self)

    # Entering and leaving.

    def __enter__(self) -> Self:
        if self._entered:
            raise RuntimeError("a cancel scope can be entered once only")
        holder = current_holder()
        self._holder = holder
        self._loop = holder.loop
        outer = holder.scope
        try:
            # Before adopt looks at cancel_called; cancel, in another thread, goes the other way round.
            self._entered = True
            adopt(outer, self)
            holder.scope = self
            if self._deadline is not None:
                self._arm()
            holder.scope_changed()
            return self
        except BaseException:  # struck: the block does not begin, so nobody would leave it
            self._leave(holder, outer)
            raise

    def _leave(self, holder: Holder, outer: ScopeNode) -> None:
        """The scope around is the innermost one again. Any step may be done again."""
        if self._timer_at is not None:
            self._timer_at = None
            if self._loop is not None:
                self._loop.timers.ended_early()
        if outer.kids is not None:
            outer.kids.pop(self, None)
        holder.scope = outer
        self.parent = None
        self._holder = None
        holder.scope_changed()

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> bool:
        holder, parent = self._holder, self.parent
        assert holder is not None
        assert parent is not None
        if exc is not None and holder is current_holder():
            self._leave_inner(holder)
        if holder is not current_holder() or holder.scope is not self:
            raise RuntimeError(
                f"cancel scope left out of order: {self!r} belongs to {holder!r}, whose innermost scope is "
                f"{holder.scope!r}, and is left in {current_holder()!r} (a scope must not be held across the "
                "yield of a generator)"
            )
        try:
            self._leave(holder, parent)
        except BaseException:  # struck in the middle
            self._leave(holder, parent)
            raise
        if exc is None or not self.cancel_called or (parent.cancelled and not self._shielded):
            return False
        if not _contains_cancelled(exc):
            return False
        self.cancelled_caught = True
        rest = _without_cancelled(exc)
        if rest is not None:
            raise rest
        self._absorbed()
        return True

    def make_sure_it_is_left(self) -> None:
        """For who catches an error that may have struck before ``__exit__`` had begun. Idempotent."""
        if self._holder is not None and self.parent is not None:
            self._leave(self._holder, self.parent)

    def _leave_inner(self, holder: Holder) -> None:
        """Leave the scopes within this one whose end was struck before it had begun: an error comes out of them."""
        inner = holder.scope
        within: list[CancelScope] = []
        while isinstance(inner, CancelScope) and inner is not self and inner.parent is not None:
            within.append(inner)
            inner = inner.parent
        if inner is self:
            for scope in within:
                assert scope.parent is not None
                scope._leave(holder, scope.parent)

    def _absorbed(self) -> None:
        """The block was cut short by this scope."""

    def __repr__(self) -> str:
        state = "cancelled" if self.cancelled else "active"
        return f"<{type(self).__name__} {state} at {id(self):#x}>"


def _checked(deadline: float | None) -> float | None:
    try:
        if deadline is None or deadline <= _INF:
            return deadline
    except TypeError:
        raise TypeError(f"a deadline must be a time of zio.now(), not {deadline!r}") from None
    raise ValueError("a deadline must be a time of zio.now(), not NaN")


class TimeoutScope(CancelScope):
    """What :func:`zio.timeout` returns: raises TimeoutError where the block is left if its deadline ended it."""

    __slots__ = ("seconds",)

    def __init__(self, seconds: float | None) -> None:
        super().__init__(deadline=deadline_in(seconds))
        self.seconds = seconds

    def _absorbed(self) -> None:
        if self.timed_out:
            raise TimeoutError(f"timed out after {self.seconds} s") from None


def deadline_in(seconds: float | None) -> float | None:
    """The deadline ``seconds`` from now, on the current clock; None for no limit."""
    if seconds is None:
        return None
    return seconds_after(current_holder().now(), seconds, "a timeout")


def timeout(seconds: float | None) -> TimeoutScope:
    """``with zio.timeout(5):`` limit a block to ``seconds``; raises TimeoutError at the ``with`` when they pass.

    None is no limit; zero or less cancels the first blocking call. A cancel from outside wins over the timeout.
    """
    return TimeoutScope(seconds)


def move_on_after(seconds: float | None) -> CancelScope:
    """``with zio.move_on_after(5) as scope:`` leave the block quietly after ``seconds``; see ``scope.expired``."""
    return CancelScope(deadline=deadline_in(seconds))


def shield(timeout: float | None = None) -> CancelScope:
    """``with zio.shield(timeout=2):`` keep cancels from outside away from a block of cleanup.

    With ``timeout`` (seconds) the block itself is cancelled when they pass, so that cleanup stays bounded.
    A cancel that came meanwhile is raised by the first blocking call behind the block.
    """
    return CancelScope(deadline=deadline_in(timeout), shield=True)
