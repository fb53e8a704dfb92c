"""Operating system signals as a source to wait on."""

from __future__ import annotations

import signal as _signal
import threading
from typing import TYPE_CHECKING, Any, Self

from greenlet import getcurrent

from ._core import Fiber, Waiter, WaitQueue, here

if TYPE_CHECKING:
    from types import FrameType

    from ._core import Loop


def signals(*numbers: int) -> SignalReceiver:
    """``with zio.signals(SIGTERM, SIGINT) as sig: sig.wait()``: receive signals in a task instead of a handler.

    While the block runs, the signals come here: to every receiver that asks for them. A signal that comes
    several times before it is taken may count once. The previous handlers are back afterwards, and get what
    came and was not taken. Only in a runtime of the main thread: RuntimeError. ValueError for what cannot be received
    (SIGKILL). Selectable and iterable.
    """
    if not numbers:
        raise ValueError("signals() needs at least one signal number")
    return SignalReceiver(tuple(_signal.Signals(number) for number in numbers))


# The receivers of each signal, and the handler that was there before the first of them.
_receivers: dict[_signal.Signals, list[SignalReceiver]] = {}
_previous: dict[_signal.Signals, Any] = {}


def _handle(number: int, frame: FrameType | None) -> None:
    for receiver in _receivers.get(_signal.Signals(number), ()):
        receiver._arrived(_signal.Signals(number))


class SignalReceiver:
    """The signals that arrive while its ``with`` block runs."""

    def __init__(self, numbers: tuple[_signal.Signals, ...]) -> None:
        self._numbers = numbers
        self._listening: list[_signal.Signals] = []  # those whose handler is ours, once for each time it was named
        self._pending: dict[_signal.Signals, None] = {}
        self._waiters = WaitQueue()
        self._loop: Loop | None = None

    def __enter__(self) -> Self:
        fiber = here()
        if threading.current_thread() is not threading.main_thread():
            raise RuntimeError("zio.signals works only in a runtime of the main thread: use it inside zio.run(...)")
        if self._listening:
            raise RuntimeError(f"{self!r} is in use: each block needs one of its own")
        self._loop = fiber.loop
        try:
            for number in self._numbers:
                self._listen(number)
        except BaseException:
            self._stop_listening()
            raise
        self._loop.outside_wakers += 1
        return self

    def _listen(self, number: _signal.Signals) -> None:
        receivers = _receivers.setdefault(number, [])
        if not receivers:
            previous = _signal.getsignal(number)
            if previous is None:
                raise RuntimeError(f"{number.name} has a handler that is not Python's, which could not be put back")
            try:
                _signal.signal(number, _handle)
            except (OSError, ValueError) as exc:  # SIGKILL, SIGSTOP
                raise ValueError(f"{number.name} cannot be received: {exc}") from None
            _previous[number] = previous
        receivers.append(self)
        self._listening.append(number)

    def _stop_listening(self) -> None:
        while self._listening:
            number = self._listening.pop()
            receivers = _receivers[number]
            receivers.remove(self)
            if not receivers:
                _signal.signal(number, _previous.pop(number))

    def __exit__(self, *exc_info: object) -> None:
        assert self._loop is not None
        self._loop.outside_wakers -= 1
        self._stop_listening()
        untaken, self._pending = self._pending, {}
        for number in untaken:
            if not _receivers[number]:
                _signal.raise_signal(number)

    def wait(self, timeout: float | None = None) -> _signal.Signals:
        """The next signal, at most ``timeout`` seconds from now: then TimeoutError. A cancel takes none."""
        fiber = getcurrent()
        if type(fiber) is not Fiber or fiber.loop is not self._loop:
            raise RuntimeError("a signal receiver is used by tasks of its own runtime, inside its with block")
        loop = fiber.loop
        if loop.budget <= 0:
            loop.checkpoint(fiber)
        else:
            loop.budget -= 1
        if self._pending:
            return self.select_take()
        waiter = Waiter(fiber, self)
        if not loop.wait(waiter, timeout, self._waiters.discard, self._waiters.items):
            raise TimeoutError(f"no signal within {timeout} s")
        return waiter.value  # type: ignore[no-any-return]

    def _arrived(self, number: _signal.Signals) -> None:
        """In the signal handler, so between any two instructions: only note it, and wake the loop."""
        self._pending[number] = None
        assert self._loop is not None
        self._loop.urgent(self._hand_out)

    def _hand_out(self) -> None:
        while self._pending:
            waiter = self._waiters.pop()
            if waiter is None:
                return
            waiter.wake(self.select_take(), self)

    @property
    def select_home(self) -> Loop | None:
        return self._loop

    def select_ready(self) -> bool:
        return bool(self._pending)

    def select_take(self) -> _signal.Signals:
        number = next(iter(self._pending))
        del self._pending[number]
        return number

    def select_arm(self, waiter: Waiter) -> None:
        self._waiters.push(waiter)

    def select_disarm(self, waiter: Waiter) -> None:
        self._waiters.discard(waiter)

    def select_result(self, waiter: Waiter) -> _signal.Signals:
        return waiter.value  # type: ignore[no-any-return]

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> _signal.Signals:
        return self.wait()

    def __repr__(self) -> str:
        return f"<signals {', '.join(number.name for number in self._numbers)}>"
