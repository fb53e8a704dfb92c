"""What is run is a plain function: a call of a coroutine or generator function would run nothing, so it is refused."""

from __future__ import annotations

import inspect
import re
import sys
import types
from collections.abc import AsyncIterator, Callable, Iterator
from functools import partial
from typing import Any

import pytest

import zio
from zio.testing import run_virtual


async def coroutine(*args: Any, started: Any = None) -> None:
    raise AssertionError("nobody runs it")


def generator(*args: Any, started: Any = None) -> Iterator[None]:
    yield


@types.coroutine
def old_coroutine(*args: Any, started: Any = None) -> Iterator[None]:
    yield


async def async_generator(*args: Any, started: Any = None) -> AsyncIterator[None]:
    yield


class Handler:
    async def __call__(self, *args: Any, started: Any = None) -> None:
        """Of an object that is called."""

    async def handle(self, *args: Any, started: Any = None) -> None:
        """Of a method."""

    @staticmethod
    def steps(*args: Any, started: Any = None) -> Iterator[None]:
        yield


UNFIT: dict[str, tuple[Any, str]] = {
    "coroutine": (coroutine, "=coroutine is async def"),
    "generator": (generator, "=generator is a generator function"),
    "old coroutine": (old_coroutine, "=old_coroutine is async def"),
    "async generator": (async_generator, "=async_generator is a generator function"),
    "method": (Handler().handle, "=Handler.handle is async def"),
    "static method": (Handler.steps, "=Handler.steps is a generator function"),
    "object": (Handler(), "=Handler is async def"),
    "partial": (partial(partial(coroutine, 1), 2), "=coroutine is async def"),
    "partial of a method": (partial(Handler().handle, 1), "=Handler.handle is async def"),
    "number": (5, "=5 must be callable"),
    "nothing": (None, "=None must be callable"),
}


def within_a_group(use: Callable[[zio.TaskGroup], object]) -> None:
    with zio.TaskGroup() as group:
        use(group)


def serve(handler: Any) -> None:
    with zio.net.listen("127.0.0.1", 0) as listener, zio.timeout(10):
        listener.serve(handler)


def call(fn: Any) -> None:
    zio.lowlevel.here().loop.runtime.call(fn)


TAKERS: dict[str, Callable[[Any], object]] = {
    "zio.spawn": zio.spawn,
    "TaskGroup.spawn": lambda fn: within_a_group(lambda group: group.spawn(fn)),
    "TaskGroup.start": lambda fn: within_a_group(lambda group: group.start(fn)),
    "zio.map": lambda fn: zio.map(fn, [1]),
    "zio.to_thread": zio.to_thread,
    "zio.from_thread": lambda fn: zio.to_thread(zio.from_thread, fn),
    "Runtime.call": call,
    "serve": serve,
    "Runtime": lambda fn: zio.Runtime(on_unhandled=fn),
}


def raised_by(taker: Callable[[Any], object], fn: Any) -> BaseException:
    with pytest.raises((TypeError, ExceptionGroup)) as caught:
        taker(fn)
    error: BaseException = caught.value
    while isinstance(error, ExceptionGroup):
        (error,) = error.exceptions
    return error


@pytest.mark.parametrize("taker", TAKERS)
@pytest.mark.parametrize("kind", UNFIT)
def test_it_is_refused_where_it_is_given(taker: str, kind: str) -> None:
    fn, told = UNFIT[kind]
    if taker == "Runtime" and fn is None:
        pytest.skip("that is its default")

    def main() -> None:
        error = raised_by(TAKERS[taker], fn)
        assert type(error) is TypeError
        assert str(error).startswith(taker + ": ")
        assert told in str(error)
        if "must be callable" not in told:
            assert "must be a plain function" in str(error)

    zio.run(main)


@pytest.mark.parametrize("run", [zio.run, run_virtual])
@pytest.mark.parametrize("kind", UNFIT)
def test_no_run_begins_with_it(run: Callable[[Any], object], kind: str) -> None:
    fn, told = UNFIT[kind]
    with pytest.raises(TypeError, match=re.escape(told)):
        run(fn)


def test_a_runtime_that_was_given_one_may_run_another() -> None:
    runtime = zio.Runtime()
    with pytest.raises(TypeError, match=r"Runtime.run: fn=coroutine is async def"):
        runtime.run(UNFIT["coroutine"][0])
    assert runtime.run(str, "run") == "run"


@pytest.mark.parametrize("spawn", [zio.spawn, lambda fn: zio.map(fn, [1]), zio.to_thread])
def test_a_plain_thread_is_told_at_once_too(spawn: Callable[[Any], object]) -> None:
    with pytest.raises(TypeError, match="=coroutine is async def"):
        spawn(coroutine)


def test_a_coroutine_object_is_named_by_its_function() -> None:
    called = coroutine()
    with pytest.raises(TypeError, match=r"a coroutine object of coroutine.*give the function itself"):
        zio.run(called)  # type: ignore[arg-type]
    called.close()


@pytest.mark.skipif(sys.version_info < (3, 12), reason="functions cannot be marked")
def test_what_is_marked_as_a_coroutine_function_is_one() -> None:
    marked = inspect.markcoroutinefunction(lambda: None)  # type: ignore[attr-defined, unused-ignore]
    with pytest.raises(TypeError, match="is async def"):
        zio.run(marked)


def test_all_else_that_can_be_called_is_run() -> None:
    class Calls:
        def __call__(self) -> str:
            return "object"

        def method(self) -> str:
            return "method"

        @classmethod
        def of_class(cls) -> str:
            return "class method"

    def wraps_a_coroutine() -> str:
        return "wrapper"

    wraps_a_coroutine.__wrapped__ = coroutine  # type: ignore[attr-defined]
    calls: list[Any] = [
        Calls(),
        Calls().method,
        Calls.of_class,
        partial(str, "partial"),
        lambda: "lambda",
        str,
        wraps_a_coroutine,
    ]

    def main() -> list[str]:
        return [zio.spawn(fn).join() for fn in calls]

    assert zio.run(main) == ["object", "method", "class method", "partial", "lambda", "", "wrapper"]
