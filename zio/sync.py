"""Lock, Condition, Semaphore, Event and Future: threading's names, for tasks and plain threads alike."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Generic, Self, TypeVar

from greenlet import getcurrent

from ._core import (
    TIMED_OUT,
    WOKEN,
    BrokenLock,
    Cancelled,
    CancelScope,
    Fiber,
    Homed,
    RuntimeClosed,
    Task,
    Waiter,
    WaitQueue,
    current_owner,
)

if TYPE_CHECKING:
    from ._core import Loop

T = TypeVar("T")


class _OwnerWatch(Waiter):
    """Stands among the joiners of the task that owns a contended lock."""

    __slots__ = ("lock",)

    def __init__(self, lock: Lock) -> None:
        super().__init__(None, lock)  # type: ignore[arg-type]  # no fiber waits here
        self.lock = lock

    def wake(self, value: Any = None, source: object = None) -> bool:
        loop = self.lock._loop
        assert loop is not None
        if loop.is_here():
            self.lock._owner_ended(source)
        else:
            loop.post(self.lock._owner_ended, source, optional=True)
        return False

    # An owner may live on another loop, and only that loop's thread touches its list of joiners.

    def stand_by(self, owner: Task[Any]) -> None:
        if owner.loop.is_here():
            self._arm(owner)
            return
        try:
            owner.loop.post(self._arm, owner, lost=lambda: self._arm(owner))
        except RuntimeClosed:
            self._arm(owner)

    def _arm(self, owner: Task[Any]) -> None:
        if owner.done:
            self.wake(None, owner)
        else:
            owner.select_arm(self)

    def stand_down(self, owner: Task[Any]) -> None:
        if owner.loop.is_here():
            owner.select_disarm(self)
        else:
            owner.loop.post(owner.select_disarm, self, optional=True)


class Lock(Homed):
    """Mutual exclusion, first come first served; not re-entrant. ``with lock:`` holds it.

    The owner is a task or a plain thread, and only the owner may release. If the owner ends without
    releasing, everybody who waits or comes later gets BrokenLock.
    """

    __slots__ = ("_owner", "_waiters", "_watch")

    def __init__(self) -> None:
        super().__init__()
        self._owner: Any = None
        self._waiters = WaitQueue()  # their waiters carry the future owner as value until claimed
        self._watch: _OwnerWatch | None = None

    def acquire(self, blocking: bool = True, timeout: float | None = None) -> bool:
        """Take the lock, waiting for it at most ``timeout`` seconds; False if they pass (or if ``not blocking``).

        RuntimeError if the caller holds it already. When it raises, Cancelled included, the lock was not taken.
        """
        fiber = getcurrent()
        if type(fiber) is not Fiber or fiber.loop is not self._loop:
            return self._elsewhere(self.acquire, blocking, timeout)  # type: ignore[no-any-return]
        loop = fiber.loop
        budget = loop.budget
        if budget <= 0:
            loop.checkpoint(fiber)
        else:
            loop.budget = budget - 1
        task = fiber.task
        me = task.owner or task  # type: ignore[union-attr]
        owner = self._owner
        if owner is None:
            self._owner = me
            return True
        if owner is me:
            raise RuntimeError(f"{self!r} is held by {me!r} already; it is not re-entrant")
        self._raise_if_broken()
        if not blocking:
            return False
        waiter = Waiter(fiber, self)
        waiter.value = me
        self._waiters.push(waiter)
        self._watch_owner()
        return loop.wait(waiter, timeout, self._waiters.discard)

    def release(self) -> None:
        """Give the lock to the first who waits. RuntimeError if the caller does not hold it. Never blocks."""
        fiber = getcurrent()
        if type(fiber) is Fiber and fiber.loop is self._loop:
            self._release(fiber.task.owner or fiber.task)  # type: ignore[union-attr]
        else:
            self._edit(self._release, current_owner())

    def _release(self, me: Any) -> None:
        if self._owner is not me:
            held = "nobody" if self._owner is None else repr(self._owner)
            raise RuntimeError(f"{self!r} is held by {held}, so {me!r} cannot release it")
        self._pass_on()

    def _pass_on(self) -> None:
        if self._watch is not None:
            self._watch.stand_down(self._owner)
            self._watch = None
        waiter = self._waiters.pop()
        if waiter is None:
            self._owner = None
        else:
            self._owner = waiter.value
            waiter.wake()
            if self._waiters:
                self._watch_owner()

    def locked(self) -> bool:
        """Whether somebody holds it."""
        return self._owner is not None

    # An owner that ends without releasing.

    def _watch_owner(self) -> None:
        if self._watch is None and isinstance(self._owner, Task) and not self._owner.done:
            self._watch = _OwnerWatch(self)
            self._watch.stand_by(self._owner)

    def _owner_ended(self, task: object) -> None:
        if self._owner is task:
            self._watch = None
            self._waiters.fail_all(self._broken)

    def _broken(self) -> BrokenLock:
        return BrokenLock(f"{self._owner!r} ended while it held {self!r}")

    def _raise_if_broken(self) -> None:
        if isinstance(self._owner, Task) and self._owner.done:
            raise self._broken()

    def __enter__(self) -> Self:
        self.acquire()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.release()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {'held' if self.locked() else 'free'} at {id(self):#x}>"


class Condition(Homed):
    """Wait, under a lock, for something that others will announce. ``with condition:`` holds the lock."""

    __slots__ = ("_waiters", "lock")

    def __init__(self, lock: Lock | None = None) -> None:
        super().__init__()
        self.lock = lock or Lock()
        self._waiters = WaitQueue()

    def acquire(self, blocking: bool = True, timeout: float | None = None) -> bool:
        """Take the underlying lock; see :meth:`Lock.acquire`."""
        return self.lock.acquire(blocking, timeout)

    def release(self) -> None:
        """Release the underlying lock."""
        self.lock.release()

    def wait(self, timeout: float | None = None) -> bool:
        """Release the lock, wait to be notified at most ``timeout`` seconds, take the lock again.

        False if the seconds passed. The lock is held again however this ends, Cancelled included (so a
        cancelled wait returns only when the lock is free). RuntimeError if the caller does not hold the lock.
        """
        fiber = getcurrent()
        if type(fiber) is not Fiber or fiber.loop is not self._loop:
            return self._elsewhere(self.wait, timeout)  # type: ignore[no-any-return]
        loop = fiber.loop
        if loop.budget <= 0:
            loop.checkpoint(fiber)
        else:
            loop.budget -= 1
        self._check_held("wait")
        waiter = Waiter(fiber, self)
        self._waiters.push(waiter)
        self.lock.release()
        try:
            return loop.wait(waiter, timeout, self._waiters.discard)
        finally:
            with CancelScope(shield=True):
                self.lock.acquire()

    def wait_for(self, predicate: Callable[[], T], timeout: float | None = None) -> T:
        """Wait until ``predicate()`` is true; its last value, false if ``timeout`` seconds passed."""
        fiber = getcurrent()
        if type(fiber) is not Fiber or fiber.loop is not self._loop:
            return self._elsewhere(self.wait_for, predicate, timeout)  # type: ignore[no-any-return]
        loop = fiber.loop
        if loop.budget <= 0:
            loop.checkpoint(fiber)
        else:
            loop.budget -= 1
        now = loop.clock.now
        deadline = None if timeout is None else now() + timeout
        result = predicate()
        while not result:
            left = None if deadline is None else deadline - now()
            if left is not None and left <= 0:
                break
            self.wait(left)
            result = predicate()
        return result

    def notify(self, n: int = 1) -> None:
        """Wake ``n`` of those who wait. RuntimeError if the caller does not hold the lock. Never blocks."""
        self._check_held("notify")
        self._edit(self._notify, n)

    def notify_all(self) -> None:
        """Wake everybody who waits."""
        self._check_held("notify")
        self._edit(self._notify, None)

    def _notify(self, n: int | None) -> None:
        while n is None or n > 0:
            waiter = self._waiters.pop()
            if waiter is None:
                return
            waiter.wake()
            if n is not None:
                n -= 1

    def _check_held(self, what: str) -> None:
        if self.lock._owner is not current_owner():
            raise RuntimeError(f"cannot {what} on a condition whose lock the caller does not hold")

    def __enter__(self) -> Self:
        self.lock.acquire()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.lock.release()

    def __repr__(self) -> str:
        return f"<Condition of {self.lock!r} at {id(self):#x}>"


class Semaphore(Homed):
    """A number of permits; ``acquire`` takes one, ``release`` gives some back. First come first served.

    ``max_value``, if given, is the most there may be: releasing above it raises ValueError.
    """

    __slots__ = ("_max", "_value", "_waiters")

    def __init__(self, value: int = 1, max_value: int | None = None) -> None:
        if value < 0 or (max_value is not None and max_value < value):
            raise ValueError(f"a semaphore needs 0 <= value <= max_value, not value={value}, max_value={max_value}")
        super().__init__()
        self._value = value
        self._max = max_value
        self._waiters = WaitQueue()

    def acquire(self, blocking: bool = True, timeout: float | None = None) -> bool:
        """Take a permit, waiting at most ``timeout`` seconds; False if they pass (or if ``not blocking``).

        When it raises, Cancelled included, no permit was taken.
        """
        fiber = getcurrent()
        if type(fiber) is not Fiber or fiber.loop is not self._loop:
            return self._elsewhere(self.acquire, blocking, timeout)  # type: ignore[no-any-return]
        loop = fiber.loop
        budget = loop.budget
        if budget <= 0:
            loop.checkpoint(fiber)
        else:
            loop.budget = budget - 1
        if self._value > 0:
            self._value -= 1
            return True
        if not blocking:
            return False
        waiter = Waiter(fiber, self)
        waiters = self._waiters
        waiters.items.append(waiter)
        state = loop.park(waiter) if timeout is None else loop.park_for(waiter, timeout)
        if state == WOKEN:
            return True
        waiters.discard(waiter)
        if state == TIMED_OUT and not fiber.cancelled:
            return False
        raise waiter.value or Cancelled

    def release(self, n: int = 1) -> None:
        """Give back ``n`` permits. Never blocks."""
        if n < 1:
            raise ValueError(f"release needs a count from 1 up, not {n}")
        fiber = getcurrent()
        if type(fiber) is Fiber and fiber.loop is self._loop:
            self._release(n)
        else:
            self._edit(self._release, n)

    def _release(self, n: int) -> None:
        if self._max is not None and self._value + n > self._max:
            raise ValueError(f"release of {n} above the semaphore's max_value of {self._max}")
        while n:
            n -= 1
            waiter = self._waiters.pop() if self._waiters.items else None
            if waiter is None:
                self._value += n + 1
                return
            waiter.wake()

    @property
    def value(self) -> int:
        """How many permits are free."""
        return self._value

    def __enter__(self) -> Self:
        self.acquire()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.release()

    def __repr__(self) -> str:
        return f"<Semaphore {self._value} free at {id(self):#x}>"


class Event(Homed):
    """A flag to wait for. Selectable; its value is True."""

    __slots__ = ("_flag", "_waiters")

    def __init__(self) -> None:
        super().__init__()
        self._flag = False
        self._waiters = WaitQueue()

    def is_set(self) -> bool:
        """Whether the flag is set."""
        return self._flag

    def set(self) -> None:
        """Set the flag and wake everybody who waits. Never blocks."""
        self._edit(self._set)

    def clear(self) -> None:
        """Clear the flag. Never blocks."""
        self._edit(self._clear)

    def _set(self) -> None:
        self._flag = True
        self._waiters.wake_all(True, self)

    def _clear(self) -> None:
        self._flag = False

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until the flag is set, at most ``timeout`` seconds; False if they pass."""
        fiber = getcurrent()
        if type(fiber) is not Fiber or fiber.loop is not self._loop:
            return self._elsewhere(self.wait, timeout)  # type: ignore[no-any-return]
        loop = fiber.loop
        if loop.budget <= 0:
            loop.checkpoint(fiber)
        else:
            loop.budget -= 1
        if self._flag:
            return True
        waiter = Waiter(fiber, self)
        self._waiters.push(waiter)
        return loop.wait(waiter, timeout, self._waiters.discard)

    @property
    def select_home(self) -> Loop:
        return self._bind()

    def select_ready(self) -> bool:
        return self._flag

    def select_take(self) -> bool:
        return True

    def select_arm(self, waiter: Waiter) -> None:
        self._waiters.push(waiter)

    def select_disarm(self, waiter: Waiter) -> None:
        self._waiters.discard(waiter)

    def select_result(self, waiter: Waiter) -> bool:
        return True

    def __repr__(self) -> str:
        return f"<Event {'set' if self._flag else 'clear'} at {id(self):#x}>"


class Future(Homed, Generic[T]):
    """A value, or an error, that comes later and once. Selectable; its value is the result."""

    __slots__ = ("_error", "_set", "_traceback", "_value", "_waiters")

    def __init__(self) -> None:
        super().__init__()
        self._set = False
        self._value: Any = None
        self._error: BaseException | None = None
        self._traceback: Any = None
        self._waiters = WaitQueue()

    @property
    def done(self) -> bool:
        """Whether there is a result or an error."""
        return self._set

    def set_result(self, value: T) -> None:
        """Give the result. RuntimeError if there is an outcome already. Never blocks."""
        self._edit(self._settle, value, None)

    def set_exception(self, error: BaseException) -> None:
        """Give an error, which ``result`` will raise. RuntimeError if there is an outcome already. Never blocks."""
        if not isinstance(error, BaseException):
            raise TypeError(f"set_exception needs an exception, not {error!r}")
        self._edit(self._settle, None, error)

    def _settle(self, value: Any, error: BaseException | None) -> None:
        if self._set:
            raise RuntimeError(f"{self!r} has an outcome already")
        self._value = value
        self._error = error
        if error is not None:
            self._traceback = error.__traceback__
        self._set = True  # last: another thread that sees it reads the outcome without asking
        self._waiters.wake_all(None, self)

    def result(self, timeout: float | None = None) -> T:
        """Wait for the outcome: return the result or raise the error. TimeoutError after ``timeout`` seconds."""
        if not self._settled(timeout):
            raise TimeoutError(f"no result within {timeout} s")
        try:
            return self.select_take()
        finally:
            del self  # an error's traceback has this frame: no cycle

    def exception(self, timeout: float | None = None) -> BaseException | None:
        """Wait for the outcome: the error, None if there is a result. TimeoutError after ``timeout`` seconds."""
        if not self._settled(timeout):
            raise TimeoutError(f"no result within {timeout} s")
        return self._error

    def _settled(self, timeout: float | None) -> bool:
        """Wait for the outcome; a cancel point also if it is there, except for other threads, which need not ask."""
        fiber = getcurrent()
        if self._set and not (type(fiber) is Fiber and fiber.loop is self._loop):
            return True
        return self._wait(timeout)

    def _wait(self, timeout: float | None) -> bool:
        fiber = getcurrent()
        if type(fiber) is not Fiber or fiber.loop is not self._loop:
            return self._elsewhere(self._wait, timeout)  # type: ignore[no-any-return]
        loop = fiber.loop
        if loop.budget <= 0:
            loop.checkpoint(fiber)
        else:
            loop.budget -= 1
        if self._set:
            return True
        waiter = Waiter(fiber, self)
        self._waiters.push(waiter)
        return loop.wait(waiter, timeout, self._waiters.discard)

    @property
    def select_home(self) -> Loop:
        return self._bind()

    def select_ready(self) -> bool:
        return self._set

    def select_take(self) -> T:
        if self._error is not None:
            try:
                raise self._error.with_traceback(self._traceback)  # without those who asked before
            finally:
                del self
        return self._value  # type: ignore[no-any-return]

    def select_arm(self, waiter: Waiter) -> None:
        self._waiters.push(waiter)

    def select_disarm(self, waiter: Waiter) -> None:
        self._waiters.discard(waiter)

    def select_result(self, waiter: Waiter) -> T:
        return self.select_take()

    def __repr__(self) -> str:
        state = "pending" if not self._set else "failed" if self._error else "done"
        return f"<Future {state} at {id(self):#x}>"
