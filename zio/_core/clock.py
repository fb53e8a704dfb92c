"""The runtime's clock: monotonic seconds, or virtual ones that jump when nothing else can happen."""

from __future__ import annotations

from time import monotonic
from typing import Protocol


class Clock(Protocol):
    """``now`` in seconds; ``virtual`` clocks are moved by the hub with ``jump`` when every task waits."""

    virtual: bool

    def now(self) -> float: ...

    def jump(self, deadline: float) -> None: ...


class MonotonicClock:
    """Real time."""

    virtual = False
    now = staticmethod(monotonic)

    def jump(self, deadline: float) -> None:
        raise RuntimeError("real time cannot jump")


class VirtualClock:
    """A clock that stands still while tasks run and jumps to the next deadline when all of them wait."""

    virtual = True

    def __init__(self, start: float = 0.0) -> None:
        self._now = start

    def now(self) -> float:
        return self._now

    def jump(self, deadline: float) -> None:
        """Move on to ``deadline`` (seconds on this clock); never back."""
        self._now = max(self._now, deadline)
