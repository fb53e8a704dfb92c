"""Handlers of signals that are called at random moments of a simulated run: some raise, some use a client.

Two kinds of moment. While all tasks wait, the handler runs in the loop itself. And amid a call of a client, in whatever
task: there it runs where the network asks for a random number, which is in the middle of each read and write.
"""

from __future__ import annotations

import functools
import random
import signal
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Self

import zio

if TYPE_CHECKING:
    from tests.client.simulation.run import Run

NUMBER = signal.SIGUSR1


class Strike(Exception):
    """What a handler of signals raises."""


class Handler:
    """The handler: each signal does the next thing that was asked for. `with` installs it."""

    def __init__(self) -> None:
        self._due: list[Callable[[], object]] = []

    def signal(self, what: Callable[[], object]) -> None:
        """Be signalled now, and do that."""
        self._due.append(what)
        signal.raise_signal(NUMBER)

    def _handle(self, *_: object) -> None:
        if self._due:
            self._due.pop()()

    def __enter__(self) -> Self:
        self._before = signal.signal(NUMBER, self._handle)
        return self

    def __exit__(self, *_: object) -> None:
        signal.signal(NUMBER, self._before)


class Moments(random.Random):
    """The generator of the network; `strike` makes it call a function when next a client asks it for something."""

    strike: Callable[[], object] | None = None
    after = 0  # that many times it is asked first

    def random(self) -> float:
        if self.strike is not None and _a_client_asks():
            if self.after:
                self.after -= 1
            else:
                strike, self.strike = self.strike, None
                strike()
        return super().random()


def _a_client_asks() -> bool:
    """Whether it is a client, not the server, for which the network works."""
    frame = sys._getframe(2)
    while frame is not None:
        name = str(frame.f_globals.get("__name__"))
        if name.startswith("nats_zio."):
            return not name.startswith("nats_zio.testing.")
        frame = frame.f_back  # type: ignore[assignment]
    return False


def strike() -> None:
    raise Strike("by a signal handler")


def bears_strikes(call: Callable[..., None]) -> Callable[..., None]:
    """A method of a member whose call may be struck: that is no more than noted."""

    @functools.wraps(call)
    def bearing(member: Any, *args: Any, **kwargs: Any) -> None:
        try:
            call(member, *args, **kwargs)
        except Strike:
            member.run.note(f"{member.name} {call.__name__}: struck")

    return bearing


def strike_the_loop(run: Run, what: Callable[[], object]) -> None:
    """Have a signal come while the loop itself runs."""
    due = [what]

    def once() -> None:  # the loop calls again what has raised
        if due:
            run.result.signals += 1
            run.handler.signal(due.pop())

    zio.lowlevel.here().loop.post(once)


def strike_a_call(run: Run, what: Callable[[], object], after: int) -> None:
    """Have a signal come in the middle of a client's read or write."""

    def now() -> None:
        run.result.signals += 1
        run.handler.signal(what)

    run.moments.after = after
    run.moments.strike = now
