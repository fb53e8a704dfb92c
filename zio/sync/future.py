"""Future: a value, or an error, that comes later and once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Generic, TypeVar

from greenlet import getcurrent

from .._core import Fiber, Homed, Waiter, WaitQueue

if TYPE_CHECKING:
    from .._core import Loop

T = TypeVar("T")


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
        waiters = self._waiters
        return loop.wait(Waiter(fiber, self), timeout, waiters.discard, waiters.items, self.select_ready)

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
