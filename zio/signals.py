"""Operating system signals as a source to wait on."""

from __future__ import annotations

import os
import signal as _signal
import threading
from contextlib import ExitStack
from typing import TYPE_CHECKING, Self

from greenlet import getcurrent

from ._core import (
    Closed,
    Fiber,
    Waiter,
    WaitQueue,
    arrived_in_child,
    here,
    install_handler,
    is_installed,
    put_back,
)

if TYPE_CHECKING:
    from types import FrameType

    from ._core import Loop


def signals(*numbers: int) -> SignalReceiver:
    """``with zio.signals(SIGTERM, SIGINT) as sig: sig.wait()``: receive signals in a task instead of a handler.

    While the block runs, the signals come here: to every receiver that asks for them. A signal that comes
    several times before it is taken may count once. The previous handlers are back afterwards, and get what
    came and was not taken; a forked child has them from its beginning. Who still waits when the block is left gets
    zio.Closed. Only in a runtime of the main thread: RuntimeError. ValueError for what cannot be received (SIGKILL).
    Selectable and iterable.
    """
    if not numbers:
        raise ValueError("signals() needs at least one signal number")
    return SignalReceiver(tuple(dict.fromkeys(_signal.Signals(number) for number in numbers)))


_receivers: dict[_signal.Signals, list[SignalReceiver]] = {}


def _handle(number: int, frame: FrameType | None) -> None:
    if arrived_in_child(number):
        return
    for receiver in _receivers.get(_signal.Signals(number), ()):
        receiver._arrived(_signal.Signals(number))


class SignalReceiver:
    """The signals that arrive while its ``with`` block runs."""

    def __init__(self, numbers: tuple[_signal.Signals, ...]) -> None:
        self._numbers = numbers
        self._open = False
        self._pending: dict[_signal.Signals, None] = {}
        self._waiters = WaitQueue()
        self._loop: Loop | None = None

    def __enter__(self) -> Self:
        fiber = here()
        if threading.current_thread() is not threading.main_thread():
            raise RuntimeError("zio.signals works only in a runtime of the main thread: use it inside zio.run(...)")
        if self._open:
            raise RuntimeError(f"{self!r} is in use: each block needs one of its own")
        self._loop = fiber.loop
        try:
            for number in self._numbers:
                self._listen(number)
        except BaseException:
            self._stop_listening()
            raise
        self._loop.outside_wakers += 1
        self._open = True
        return self

    def _listen(self, number: _signal.Signals) -> None:
        receivers = _receivers.setdefault(number, [])
        if not is_installed(number, _handle):
            receivers.clear()  # those of the process that has forked us
            try:
                install_handler(number, _handle)
            except (OSError, ValueError) as exc:  # SIGKILL, SIGSTOP
                raise ValueError(f"{number.name} cannot be received: {exc}") from None
        receivers.append(self)

    def _stop_listening(self) -> None:
        with ExitStack() as each:  # also if a handler of the program raises meanwhile
            for number in self._numbers:
                each.callback(self._leave, number)

    def _leave(self, number: _signal.Signals) -> None:
        receivers = _receivers[number]
        if receivers == [self]:
            put_back(number, _handle)  # first: what comes now is no longer for us
        if self in receivers:
            receivers.remove(self)

    def __exit__(self, *exc_info: object) -> None:
        assert self._loop is not None
        self._open = False
        self._loop.outside_wakers -= 1
        untaken: dict[_signal.Signals, None] = {}
        try:
            self._stop_listening()
        finally:
            untaken, self._pending = self._pending, untaken
            if self._loop.pid == os.getpid():  # a child has nobody who waits, and what came was for the parent
                self._waiters.fail_all(self._closed)
                with ExitStack() as each:
                    for number in untaken:
                        if not _receivers[number]:
                            each.callback(_signal.raise_signal, number)

    def _closed(self) -> Closed:
        return Closed(f"{self!r} receives only while its with block runs, and that has been left")

    def wait(self, timeout: float | None = None) -> _signal.Signals:
        """The next signal, at most ``timeout`` seconds from now: then TimeoutError. A cancel takes none.

        zio.Closed when the block has been, or gets, left.
        """
        fiber = getcurrent()
        if type(fiber) is not Fiber or fiber.loop is not self._loop:
            raise RuntimeError("a signal receiver is used by tasks of its own runtime, inside its with block")
        loop = fiber.loop
        if loop.budget <= 0:
            loop.checkpoint(fiber)
        else:
            loop.budget -= 1
        if self.select_ready():
            return self.select_take()
        waiter = Waiter(fiber, self)
        if not loop.wait(waiter, timeout, self._waiters.discard, self._waiters.items):
            raise TimeoutError(f"no signal within {timeout} s")
        return self.select_result(waiter)

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
        if self._loop is None:
            raise RuntimeError("a signal receiver is used inside its with block")
        return bool(self._pending) or not self._open

    def select_take(self) -> _signal.Signals:
        if not self._open:
            raise self._closed()
        number = next(iter(self._pending))
        del self._pending[number]
        return number

    def select_arm(self, waiter: Waiter) -> None:
        self._waiters.push(waiter)

    def select_disarm(self, waiter: Waiter) -> None:
        self._waiters.discard(waiter)

    def select_result(self, waiter: Waiter) -> _signal.Signals:
        return waiter.take()  # type: ignore[no-any-return]

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> _signal.Signals:
        try:
            return self.wait()
        except Closed:
            raise StopIteration from None

    def __repr__(self) -> str:
        return f"<signals {', '.join(number.name for number in self._numbers)}>"
