"""Barrier: a number of tasks that wait for each other."""

from __future__ import annotations

from threading import BrokenBarrierError

from greenlet import getcurrent

from .._core import FAILED, TIMED_OUT, WOKEN, Cancelled, Fiber, Homed, Waiter, WaitQueue


class Barrier(Homed):
    """``wait`` returns when ``parties`` tasks or threads are in it; then the barrier is empty, for the next round.

    One that gives up, by cancel or timeout, breaks the barrier: the others can never be enough, and get
    BrokenBarrierError, as does whoever comes later, until ``reset``.
    """

    __slots__ = ("_broken", "_waiters", "parties")

    def __init__(self, parties: int) -> None:
        if not isinstance(parties, int) or parties < 1:
            raise ValueError(f"a barrier needs a number of parties from 1 up, not {parties!r}")
        super().__init__()
        self.parties = parties
        self._broken = False
        self._waiters = WaitQueue()  # a new one whenever the barrier was broken

    @property
    def broken(self) -> bool:
        """Whether somebody gave up, or ``abort`` was called."""
        return self._broken

    @property
    def n_waiting(self) -> int:
        """How many are waiting."""
        return len(self._waiters.items)

    def wait(self, timeout: float | None = None) -> int:
        """Wait for the other parties; the number of this one in the round, from 0: so one of them can be told apart.

        When ``timeout`` seconds pass, and when it is cancelled, the barrier is broken. BrokenBarrierError if it is
        or gets broken; Cancelled if it was this wait that was cancelled.
        """
        fiber = getcurrent()
        if type(fiber) is not Fiber or fiber.loop is not self._loop:
            return self._elsewhere(self.wait, timeout)  # type: ignore[no-any-return]
        loop = fiber.loop
        if loop.budget <= 0:
            loop.checkpoint(fiber)
        else:
            loop.budget -= 1
        if self._broken:
            raise BrokenBarrierError("the barrier is broken")
        waiters = self._waiters
        # The queue also has those who were cancelled and have not run since: they have arrived, and break it here.
        number = len(waiters.items)
        if number + 1 == self.parties:
            if len(waiters) < number:
                self._break()
                raise BrokenBarrierError("another party was cancelled")
            waiters.wake_all(None, self)
            return number
        waiter = Waiter(fiber, self)
        try:
            queue = waiters.items
            state = loop.park(waiter, queue) if timeout is None else loop.park_for(waiter, timeout, queue)
        except (TypeError, ValueError):  # a timeout that is no number: it has not been here
            waiters.discard(waiter)
            raise
        except BaseException as exc:
            state = loop.struck(waiter, exc)
        if state == WOKEN:
            return number
        if self._waiters is waiters:
            self._break()
        if state == FAILED:
            raise waiter.take()
        if state == TIMED_OUT and not fiber.cancelled:
            raise BrokenBarrierError(f"the other parties did not come within {timeout} s")
        raise Cancelled

    def abort(self) -> None:
        """Break the barrier: all who wait, and who come later, get BrokenBarrierError. Never blocks."""
        self._edit(self._break)

    def reset(self) -> None:
        """Empty and not broken, as at the beginning. Those who wait get BrokenBarrierError. Never blocks."""
        self._edit(self._reset)

    def _reset(self) -> None:
        self._break()
        self._broken = False

    def _break(self) -> None:
        self._broken = True
        waiters, self._waiters = self._waiters, WaitQueue()
        waiters.fail_all(lambda: BrokenBarrierError("the barrier was broken"))

    def __repr__(self) -> str:
        state = "broken" if self._broken else f"{self.n_waiting} of {self.parties}"
        return f"<Barrier {state} at {id(self):#x}>"
