"""The exceptions that the runtime itself raises."""

from __future__ import annotations

from typing import Any


class Cancelled(BaseException):
    """The current task must stop: a scope around it, its group or the task itself was cancelled.

    Raised by every blocking call inside a cancelled scope, again and again until the scope is left
    (level-triggered). Derives from BaseException, so that ``except Exception`` does not catch it.
    """


class Closed(Exception):
    """The object was closed on this side."""


class _HasSource:
    """An error with a ``source``, which is alive and stays where it is: copies and pickles have None in its place."""

    args: tuple[Any, ...]
    source: object = None

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (
            type(self),
            self.args,
            {name: value for name, value in vars(self).items() if name != "source"},
        )


def _rebuild(kind: type[BaseException], args: tuple[Any, ...], attributes: dict[str, Any]) -> BaseException:
    error = kind.__new__(kind, *args)
    vars(error).update(attributes)
    return error


class ChannelClosed(_HasSource, Closed):
    """The channel is closed: nothing more can be sent, or nothing more will come.

    ``source`` is the channel (or what else was closed) when raised by :func:`zio.select`.
    """

    def __init__(self, *args: object, source: object = None) -> None:
        super().__init__(*args)
        self.source = source


class Lagged(_HasSource, Exception):
    """A receiver was too slow: ``skipped`` items were overwritten before it took them. It goes on with the next.

    ``source`` is the receiver.
    """

    def __init__(self, skipped: int, source: object = None) -> None:
        super().__init__(f"{skipped} items were overwritten before they were received")
        self.skipped = skipped
        self.source = source


class WouldBlock(Exception):
    """A ``try_`` call could not complete at once."""


class Deadlock(RuntimeError):
    """Every task waits and nothing can ever wake one; the text lists each task, its wait and its stack."""


class WrongLoop(RuntimeError):
    """The object belongs to another loop and cannot be used from here."""


class BrokenLock(RuntimeError):
    """The task or thread that held the lock has ended without releasing it."""


class Busy(RuntimeError):
    """Another task is already doing the same on this object (two readers of one stream, say)."""


class BlockingNotAllowed(RuntimeError):
    """A blocking call from a place that must not block: the hub, a callback, a greenlet that is no task."""


class RuntimeClosed(RuntimeError):
    """The runtime has ended or is ending."""


class ForkedError(RuntimeError):
    """The runtime lives in the parent process; this is a forked child."""
