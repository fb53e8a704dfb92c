"""Functions that are given to us to be called: plain ones, which may block.

A call of an ``async def`` or of a generator function runs nothing: it returns an object, that here nobody drives. It is
refused where it is given. Spawning is a hot call, so there the test for what nearly all functions and methods are is
written out (60 of 1,150 ns)::

    try:
        if fn.__code__.co_flags & UNRUN:
            check_function("zio.spawn", "fn", fn)
    except AttributeError:
        check_function("zio.spawn", "fn", fn)
"""

from __future__ import annotations

import inspect
from functools import partial
from types import BuiltinFunctionType, CoroutineType, FunctionType, MethodType
from typing import Any

_COROUTINE = inspect.CO_COROUTINE | inspect.CO_ITERABLE_COROUTINE
UNRUN = _COROUTINE | inspect.CO_GENERATOR | inspect.CO_ASYNC_GENERATOR  # in the flags of a function's code

ASYNC = "async def"
GENERATOR = "a generator function"


def kind_of_unrun(fn: Any) -> str | None:
    """What ``fn`` is, if calling it would run nothing. That of a function which returns a coroutine cannot be seen."""
    fn = _inner(fn)
    kind = type(fn)
    if kind is BuiltinFunctionType or isinstance(fn, type):
        return None
    # The method itself is looked at.
    return _kind(fn) or (None if kind is FunctionType else _kind(_inner(getattr(kind, "__call__", None))))  # noqa: B004


def _inner(fn: Any) -> Any:
    """The function that gets called in the end."""
    while True:
        if isinstance(fn, partial):
            fn = fn.func
        elif isinstance(fn, (MethodType, staticmethod)):
            fn = fn.__func__
        else:
            return fn


def _kind(fn: Any) -> str | None:
    if type(fn) is FunctionType and fn.__code__.co_flags & UNRUN == 0 and not fn.__dict__:
        return None
    if inspect.iscoroutinefunction(fn):  # also what is marked as one
        return ASYNC
    if inspect.isgeneratorfunction(fn) or inspect.isasyncgenfunction(fn):
        return ASYNC if getattr(fn.__code__, "co_flags", 0) & inspect.CO_ITERABLE_COROUTINE else GENERATOR
    return None


def title(fn: Any) -> str:
    """For an error. No repr: that of an object may show what it holds."""
    fn = _inner(fn)
    return getattr(fn, "__qualname__", None) or type(fn).__qualname__


def check_function(call: str, name: str, fn: Any) -> None:
    """TypeError if ``fn``, the argument ``name`` of ``call``, is not a function that can be run."""
    if type(fn) is BuiltinFunctionType or type(fn) is type:
        return
    if type(fn) is CoroutineType:
        raise TypeError(
            f"{call}: {name} is a coroutine object of {title(fn)}, which nothing here would run: give the function "
            "itself, which must be a plain one (def) and may block"
        ) from None
    if not callable(fn):
        raise TypeError(f"{call}: {name}={fn!r} must be callable") from None
    kind = kind_of_unrun(fn)
    if kind is not None:
        raise TypeError(
            f"{call}: {name}={title(fn)} is {kind}, of which a call would run nothing: "
            "it must be a plain function (def), which may block"
        ) from None
