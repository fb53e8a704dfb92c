"""RWLock: many readers or one writer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

from greenlet import getcurrent

from .._core import WOKEN, BrokenLock, Fiber, Homed, Waiter, WaitQueue, current_owner
from .ownership import OwnerWatch, has_ended

if TYPE_CHECKING:
    from .._core import Loop


class _Wish(Waiter):
    """A wait for one of the two sides; until claimed its value is the future owner."""

    __slots__ = ("exclusive",)

    def __init__(self, fiber: Fiber, lock: RWLock, exclusive: bool) -> None:
        super().__init__(fiber, lock)
        self.exclusive = exclusive


class RWLock(Homed):
    """Held by any number of readers or by one writer: ``with lock.read():`` and ``with lock.write():``.

    First come first served: a reader that comes while a writer waits stands behind it, so neither side starves. Who
    reads may read again at once; there is no way from reading to writing but to release first. If a task or a thread
    ends while it holds the lock, whoever then needs what it holds gets BrokenLock: everybody after a writer, writers
    after a reader.
    """

    __slots__ = ("_readers", "_waiters", "_watched", "_watches", "_writer")

    def __init__(self) -> None:
        super().__init__()
        self._readers: dict[Any, int] = {}  # how often each of them has it
        self._writer: Any = None
        self._waiters = WaitQueue()
        self._watched = False  # whether owners are watched, which is so while anybody waits
        self._watches: dict[Any, OwnerWatch] = {}

    def read(self) -> Side:
        """The readers' side."""
        return Side(self, exclusive=False)

    def write(self) -> Side:
        """The writer's side."""
        return Side(self, exclusive=True)

    def locked(self) -> bool:
        """Whether somebody holds it, on whichever side."""
        return self._writer is not None or bool(self._readers)

    def _acquire(self, exclusive: bool, blocking: bool, timeout: float | None) -> bool:
        fiber = getcurrent()
        if type(fiber) is not Fiber or fiber.loop is not self._loop:
            return self._elsewhere(self._acquire, exclusive, blocking, timeout)  # type: ignore[no-any-return]
        loop = fiber.loop
        if loop.budget <= 0:
            loop.checkpoint(fiber)
        else:
            loop.budget -= 1
        me = fiber.task.owner  # type: ignore[union-attr]
        if self._writer is me:
            raise RuntimeError(f"{me!r} holds {self!r} for writing already")
        if me in self._readers:
            if exclusive:
                raise RuntimeError(f"{me!r} holds {self!r} for reading, and must release it before it writes")
            self._readers[me] += 1
            return True
        if not self._waiters and self._has_room(exclusive):
            self._let_in(me, exclusive)
            return True
        self._raise_if_broken()
        if not blocking:
            return False
        wish = _Wish(fiber, self, exclusive)
        wish.value = me
        if not self._watched:
            self._watched = True
            for owner in [self._writer, *self._readers]:
                self._watch(owner)
        try:
            return loop.wait(wish, timeout, self._withdraw, self._waiters.items)
        except BaseException:
            if wish.state == WOKEN and (self._writer is me if exclusive else me in self._readers):
                self._release(exclusive, me)  # struck by an error when it had come in already
            raise

    def _release(self, exclusive: bool, me: object) -> None:
        if exclusive:
            if self._writer is not me:
                raise RuntimeError(f"{me!r} does not hold {self!r} for writing, and cannot release it")
            self._writer = None
        else:
            count = self._readers.get(me, 0)
            if not count:
                raise RuntimeError(f"{me!r} does not hold {self!r} for reading, and cannot release it")
            if count > 1:
                self._readers[me] = count - 1
                return
            del self._readers[me]
        if self._watched:
            self._unwatch(me)
            self._next()

    def _has_room(self, exclusive: bool) -> bool:
        return self._writer is None and not (exclusive and self._readers)

    def _let_in(self, me: object, exclusive: bool) -> None:
        if exclusive:
            self._writer = me
        else:
            self._readers[me] = 1

    def _next(self) -> None:
        """Let in whoever may come in now: one writer, or the readers before the next writer."""
        let_in = []
        while (wish := self._waiters.peek()) is not None:
            assert isinstance(wish, _Wish)
            if not self._has_room(wish.exclusive):
                break
            let_in.append(wish.value)
            self._let_in(wish.value, wish.exclusive)
            self._waiters.wake_one()
        if self._waiters:
            for owner in let_in:
                self._watch(owner)
        else:
            self._watched = False
            for owner in list(self._watches):
                self._unwatch(owner)

    def _withdraw(self, wish: Waiter) -> None:
        """Its time is up, or it was cancelled: readers that waited for this writer only may come in."""
        self._waiters.discard(wish)
        if self._watched:
            self._next()

    # Owners that end without releasing.

    @property
    def home(self) -> Loop:
        """The loop whose thread edits it; known as soon as somebody waits."""
        assert self._loop is not None
        return self._loop

    def _watch(self, owner: Any) -> None:
        if owner is not None:
            self._watches[owner] = watch = OwnerWatch(self)
            watch.stand_by(owner)

    def _unwatch(self, owner: Any) -> None:
        watch = self._watches.pop(owner, None)
        if watch is not None:
            watch.stand_down(owner)

    def owner_ended(self, owner: object) -> None:
        """Called in the home loop when an owner watched has ended."""
        self._watches.pop(owner, None)
        if owner is not self._writer and owner not in self._readers:
            return
        for wish in list(self._waiters.items):  # the readers among them come in when the writers have left
            assert isinstance(wish, _Wish)
            if wish.exclusive or owner is self._writer:
                wish.fail(self._broken(owner))

    def _broken(self, owner: object) -> BrokenLock:
        how = "writing" if owner is self._writer else "reading"
        return BrokenLock(f"{owner!r} ended while it held {self!r} for {how}")

    def _raise_if_broken(self) -> None:
        for owner in [self._writer, *self._readers]:
            if has_ended(owner):
                raise self._broken(owner)

    def __repr__(self) -> str:
        if self._writer is not None:
            state = "held by a writer"
        else:
            state = f"held by {len(self._readers)} readers" if self._readers else "free"
        return f"<RWLock {state} at {id(self):#x}>"


class Side:
    """One side of a :class:`RWLock`, to acquire and release like a lock. Got from ``read()`` or ``write()``."""

    __slots__ = ("exclusive", "lock")

    def __init__(self, lock: RWLock, exclusive: bool) -> None:
        self.lock = lock
        self.exclusive = exclusive

    def acquire(self, blocking: bool = True, timeout: float | None = None) -> bool:
        """Take it, waiting at most ``timeout`` seconds; False if they pass (or if ``not blocking``).

        RuntimeError for a writer that has either side already. When it raises, Cancelled included, it was not taken.
        """
        return self.lock._acquire(self.exclusive, blocking, timeout)

    def release(self) -> None:
        """Give it back. RuntimeError if the caller does not hold this side. Never blocks."""
        self.lock._edit(self.lock._release, self.exclusive, current_owner())

    def __enter__(self) -> Self:
        self.acquire()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.release()

    def __repr__(self) -> str:
        return f"<{'writing' if self.exclusive else 'reading'} of {self.lock!r}>"
