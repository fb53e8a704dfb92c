"""Cancel scopes: level-triggered, nested, each with an optional deadline and shield.

Scopes and tasks form one tree of nodes. ``cancel_called`` says that this node was cancelled itself;
``cancelled`` says that it is under a cancelled node with no shield between. A task reads its innermost
node. Cancelling walks down the tree once, sets ``cancelled`` and ends the waits of parked tasks; a task
that runs has its loop's budget set to zero, so that its next blocking call takes the slow path and raises:
the fast path needs no test of its own.

In a plain thread the same scopes work: the thread has a node of its own, and what blocks there consults it.
"""

from __future__ import annotations

import threading
from time import monotonic
from typing import TYPE_CHECKING, Any, Protocol, Self

from greenlet import getcurrent

from .errors import Cancelled
from .seconds import seconds_after

if TYPE_CHECKING:
    from types import TracebackType

    from .scheduler import Loop

_INF = float("inf")


class ScopeNode:
    """A place in the cancel tree: a scope, a task, or the base of a group."""

    # No more than a task needs: with 100,000 tasks each slot is 15 of the 1,300 ns that one takes.
    __slots__ = ("__weakref__", "cancelled", "kids", "parent")

    parent: ScopeNode | None
    kids: dict[ScopeNode, None] | None  # insertion-ordered, for reproducible runs

    def __init__(self) -> None:
        self.parent = None
        self.kids = None
        self.cancelled = False

    @property
    def shielded(self) -> bool:
        """Whether a cancel of what is above stops here."""
        return False

    @property
    def holder(self) -> Holder | None:
        """The task or thread on whose stack this scope lies."""
        return None


class Holder(ScopeNode):
    """A node with a stack of scopes: a task, or a plain thread."""

    __slots__ = ("scope",)

    scope: ScopeNode  # the innermost scope; the holder itself if it has entered none

    @property
    def holder(self) -> Holder:
        return self

    def cancel_arrived(self) -> None:
        """The innermost scope has become cancelled: end the wait this holder is in, if any."""
        raise NotImplementedError

    def scope_changed(self) -> None:
        """Another scope is now the innermost one."""


def spread_cancel(node: ScopeNode) -> None:
    """Mark ``node`` and all below it, shields excepted, as cancelled, and tell the holders."""
    reached = []
    stack = [node]
    while stack:
        current = stack.pop()
        if current.cancelled:
            continue
        current.cancelled = True
        holder = current.holder
        if holder is not None and holder.scope is current:
            reached.append(holder)
        if current.kids:
            # A copy: a plain thread may enter or leave a scope while another thread cancels it.
            stack.extend(kid for kid in reversed(list(current.kids)) if not kid.shielded)
    for holder in reached:
        holder.cancel_arrived()


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
                if not self.cancel_called:
                    self.timed_out = True
                    self._cancel()
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
        self._entered = True  # before adopt looks at cancel_called; cancel, in another thread, goes the other way round
        adopt(holder.scope, self)
        holder.scope = self
        if self._deadline is not None:
            self._arm()
        holder.scope_changed()
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> bool:
        holder, parent = self._holder, self.parent
        assert holder is not None
        assert parent is not None
        if holder is not current_holder() or holder.scope is not self:
            raise RuntimeError(
                f"cancel scope left out of order: {self!r} belongs to {holder!r}, whose innermost scope is "
                f"{holder.scope!r}, and is left in {current_holder()!r} (a scope must not be held across the "
                "yield of a generator)"
            )
        if self._timer_at is not None:
            self._timer_at = None
            assert self._loop is not None
            self._loop.timers.ended_early()
        holder.scope = parent
        assert parent.kids is not None
        del parent.kids[self]
        self.parent = None
        self._holder = None
        holder.scope_changed()
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


# The current holder: the task of the running fiber, or the record of a plain thread.


class Blocked(Protocol):
    """What a plain thread waits in; told when a scope of the thread is cancelled."""

    def interrupt(self) -> None: ...


class ThreadWatch(Protocol):
    """Who wants to know of the end of a plain thread; told in that thread, at its very end."""

    def thread_ended(self, thread: ThreadHolder) -> None: ...


# The plain threads in a scope, or cancelled. Empty, as it mostly is, a hot call need not look its thread up.
threads_in_scopes: set[ThreadHolder] = set()


class ThreadHolder(Holder):
    """The place of a plain thread in the cancel tree, and its identity as owner of locks."""

    __slots__ = ("blocked", "ended", "loop", "name", "pending", "watches")

    def __init__(self) -> None:
        super().__init__()
        self.scope = self
        self.loop = None
        self.blocked: Blocked | None = None
        self.pending: BaseException | None = None  # what interrupted a call that had completed all the same
        self.name = threading.current_thread().name
        self.ended = False
        self.watches: set[ThreadWatch] = set()  # told when it ends

    def thread_has_ended(self) -> None:
        self.ended = True  # first: who begins to watch looks at it afterwards
        watches, self.watches = self.watches, set()
        for watch in list(watches):
            watch.thread_ended(self)

    def now(self) -> float:
        return monotonic()

    def scope_changed(self) -> None:
        if self.scope is self and not self.cancelled:
            threads_in_scopes.discard(self)
        else:
            threads_in_scopes.add(self)

    def cancel_job(self) -> None:
        """The task that has this thread of a pool at work was cancelled: so are the calls that the job makes."""
        threads_in_scopes.add(self)
        spread_cancel(self)

    def job_ended(self) -> None:
        """What comes next in this thread is another job."""
        self.cancelled = False
        self.pending = None
        self.scope_changed()

    def raise_pending(self) -> None:
        """At the beginning of a blocking call."""
        if self.pending is not None:
            pending, self.pending = self.pending, None
            try:
                raise pending
            finally:
                del pending  # no cycle through the traceback

    def cancel_arrived(self) -> None:
        blocked = self.blocked  # read once: this may run in another thread
        if blocked is not None:
            blocked.interrupt()

    def check_deadlines(self) -> float | None:
        """Cancel the scopes whose deadline has passed; the seconds until the next deadline, None without one."""
        now = monotonic()
        nearest = None
        expired = []
        node: ScopeNode | None = self.scope
        while node is not None:
            if isinstance(node, CancelScope) and node.deadline is not None and not node.cancel_called:
                if node.deadline <= now:
                    expired.append(node)
                elif nearest is None or node.deadline < nearest:
                    nearest = node.deadline
            if node.shielded:
                break
            node = node.parent
        for scope in reversed(expired):
            scope.timed_out = True
            scope._cancel()
        return None if nearest is None else min(nearest - now, threading.TIMEOUT_MAX)

    def __repr__(self) -> str:
        return f"<thread {self.name!r}>"


class _EndOfThread:
    """Stands in a thread's own data, which goes with the thread; so nothing else may refer to it."""

    __slots__ = ("_holder",)

    def __init__(self, holder: ThreadHolder) -> None:
        self._holder = holder

    def __del__(self) -> None:
        self._holder.thread_has_ended()


_thread_local = threading.local()


def thread_holder() -> ThreadHolder:
    """The record of the calling plain thread, made on first use."""
    try:
        return _thread_local.holder  # type: ignore[no-any-return]
    except AttributeError:
        holder = _thread_local.holder = ThreadHolder()
        _thread_local.end = _EndOfThread(holder)
        return holder


def current_holder() -> Any:
    """The task that is running; in a plain thread (or outside any task), the thread's record."""
    return getattr(getcurrent(), "task", None) or thread_holder()
