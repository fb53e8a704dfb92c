"""The runtime's clock: monotonic seconds, or virtual ones that jump when nothing else can happen.

``monotonic`` is the one clock that both packages measure real time with. Test libraries replace the functions of the
module ``time``, wherever a module has them by name, or what they do in C (all but ``perf_counter``, which they leave to
those who measure). A wait that trusts such a clock never times out, so the function comes from an instance of ``time``
that is ours alone.
"""

from __future__ import annotations

import time
from importlib.machinery import BuiltinImporter
from importlib.util import module_from_spec
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable


def _real_clock() -> Callable[[], float]:
    spec = BuiltinImporter.find_spec("time")
    if spec is None or spec.loader is None:  # no part of this interpreter: what the module has now will have to do
        return time.perf_counter
    private = module_from_spec(spec)
    spec.loader.exec_module(private)
    return private.perf_counter  # type: ignore[no-any-return]


monotonic = _real_clock()


class Clock(Protocol):
    """``now`` in seconds; ``virtual`` clocks are moved by the hub with ``jump`` when every task waits."""

    virtual: bool

    def now(self) -> float: ...

    def jump(self, deadline: float) -> None: ...

    def real_wait(self, deadline: float, io: bool) -> float: ...

    def waited(self, deadline: float) -> None: ...


class MonotonicClock:
    """Real time."""

    virtual = False
    now = staticmethod(monotonic)

    def jump(self, deadline: float) -> None:
        raise RuntimeError("real time cannot jump")

    def real_wait(self, deadline: float, io: bool) -> float:
        raise RuntimeError("real time is never waited for twice")

    def waited(self, deadline: float) -> None:
        raise RuntimeError("real time passes by itself")


class VirtualClock:
    """A clock that stands still while tasks run and jumps to the next deadline when all of them wait.

    It stands still too while a thread works for the runtime. While a task waits for a real socket, pipe or process,
    which the clock cannot hurry, time passes at its real pace, so that no timeout strikes early.
    ``quiet`` puts another rule in the place of that one: the clock jumps, whatever is waited for, when there was
    nothing to do for so many real seconds; 0 jumps at once, over real I/O too.
    """

    virtual = True

    def __init__(self, start: float = 0.0, *, quiet: float | None = None) -> None:
        if quiet is not None and not 0 <= quiet < float("inf"):
            raise ValueError(f"quiet={quiet!r} must be a number of seconds, 0 or more, or None")
        self._now = start
        self.quiet = quiet
        self._wait = self._since = 0.0  # of the wait in real time

    def now(self) -> float:
        return self._now

    def jump(self, deadline: float) -> None:
        """Move on to ``deadline`` (seconds on this clock); never back."""
        self._now = max(self._now, deadline)

    def real_wait(self, deadline: float, io: bool) -> float:
        """Seconds of real time to wait before the jump to ``deadline``; ``io``: a task waits for something real."""
        if self.quiet is not None:
            self._wait = self.quiet
        else:
            self._wait = deadline - self._now if io else 0.0
        self._since = monotonic()
        return self._wait

    def waited(self, deadline: float) -> None:
        """After that wait: move on, if it was not cut short to ``deadline``."""
        took = monotonic() - self._since
        if took > self._wait - 1e-3:  # a poller may be so early
            self.jump(deadline)
        elif self.quiet is None:
            self.jump(self._now + took)
