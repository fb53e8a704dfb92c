"""Functions that users give us: what they must be, calling them, and whose the errors are that come out.

What such a function raises is its own affair and must end nothing of the client, be it SystemExit, or the Cancelled of
a helper task that it has joined. What comes through it from outside must go on instead: the cancel of the very task
that calls it, say.
"""

from __future__ import annotations

import functools
from types import AsyncGeneratorType, CoroutineType, GeneratorType
from typing import TYPE_CHECKING, Any

from greenlet import GreenletExit, getcurrent

import zio
from zio.lowlevel import Fiber, kind_of_unrun

from .errors import OptionError

if TYPE_CHECKING:
    from collections.abc import Callable

    from zio import Runtime

# What a call returns instead of running the function's body.
_UNRUN = (CoroutineType, GeneratorType, AsyncGeneratorType)
_RULE = "it must be a plain function, which may block where handlers run"


def check_plain(name: str, fn: object) -> None:
    """OptionError if calling ``fn``, given as ``name``, would run nothing: of a coroutine or generator function."""
    if fn is None:
        return
    kind = kind_of_unrun(fn)
    if kind is not None:
        while isinstance(fn, functools.partial):
            fn = fn.func
        # No repr: that of an object may show what it holds.
        told = getattr(fn, "__qualname__", None) or type(fn).__qualname__
        raise OptionError(f"{name}={told} is {kind}, of which a call would run nothing: {_RULE}")


def refuse_unrun(name: str, result: object) -> None:
    """TypeError if a function given as ``name`` has returned its body, not run: ``check_plain`` cannot see it all."""
    if close_unrun(result):
        raise TypeError(f"{name}= returned a {type(result).__name__}, so nothing of it was run: {_RULE}")


def close_unrun(result: object) -> bool:
    """Whether this is the body of a function, not run. It never will be, and Python need not warn of it."""
    if not isinstance(result, _UNRUN):
        return False
    if not isinstance(result, AsyncGeneratorType):  # which nothing warns of
        result.close()
    return True


class Raised(Exception):
    """A function of the user's has raised ``error``."""

    def __init__(self, error: BaseException) -> None:
        super().__init__(error)
        self.error = error


class UserFunctions:
    """Calls functions of the user's, for one client."""

    def __init__(self, runtime: Runtime, *, in_threads: bool) -> None:
        self.in_threads = in_threads
        self._exits_pass = not runtime.is_background

    def call(self, fn: Callable[..., Any], *args: Any) -> Any:
        """What ``fn(*args)`` returns, called where handlers run: in this task, or on a worker thread. Raised.

        It may block.
        """
        if self.in_threads:
            return self.call_here(_call_in_thread, fn, args)
        return self.call_here(fn, *args)

    def call_here(self, fn: Callable[..., Any], *args: Any) -> Any:
        """The same in this task, wherever handlers run."""
        try:
            result = fn(*args)
        except Raised:
            raise
        except BaseException as exc:
            if not self.is_users(exc):
                raise
            raise Raised(exc) from None
        if result is not None:
            close_unrun(result)  # the caller refuses it, as it does all that is of the wrong type
        return result

    def is_users(self, error: BaseException) -> bool:
        """Whether ``error``, which came out of a function of the user's in this task, is the function's own.

        It is not if it was thrown in, by the collector of garbage or by a cancel of this task; nor is an exit, which
        ends the run in ``zio.run``. The background runtime has no run to end.
        """
        if isinstance(error, Exception):
            return True
        if isinstance(error, zio.Cancelled):
            fiber = getcurrent()
            return type(fiber) is not Fiber or not fiber.cancelled
        if isinstance(error, (SystemExit, KeyboardInterrupt)):
            return not self._exits_pass
        return not isinstance(error, GreenletExit)


def _call_in_thread(fn: Callable[..., Any], args: tuple[Any, ...]) -> Any:
    return zio.to_thread(_raising_raised, fn, args, abandon_on_cancel=True)


def _raising_raised(fn: Callable[..., Any], args: tuple[Any, ...]) -> Any:
    """All that ends a call in a thread is its own, and must be told from what ends the wait for it."""
    try:
        return fn(*args)
    except BaseException as exc:
        raise Raised(exc) from None
