"""The pytest plugin for programs on zio: tests marked with ``zio`` run inside a runtime.

It stands here and not in `zio.testing`, because pytest loads it at every start, in every project of an environment that
has nats-zio: the runtime is imported when the first marked test runs.
"""

from __future__ import annotations

import functools
import inspect
import unittest
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

NETWORK_FIXTURE = "zio_network"
HELP = (
    "zio(virtual=False, seed=None): run the test inside zio.run; virtual=True: under a virtual clock; "
    "seed: a number for the order of ready tasks"
)


class Wanted(NamedTuple):
    """What a mark says."""

    virtual: bool
    seed: int | None


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", HELP)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    problems = []
    for item in items:
        try:
            wanted_by(item)
        except pytest.UsageError as error:
            problems.append(f"{item.nodeid}: {error}")
    if problems:
        raise pytest.UsageError(*problems)


@pytest.hookimpl(wrapper=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> Generator[None, Any, Any]:
    wanted = wanted_by(pyfuncitem)
    if wanted is None:
        return (yield)
    test = pyfuncitem.obj
    pyfuncitem.obj = in_a_runtime(test, wanted, pyfuncitem.funcargs.get(NETWORK_FIXTURE))
    try:
        return (yield)
    finally:
        pyfuncitem.obj = test


def wanted_by(item: pytest.Item) -> Wanted | None:
    """What the test's mark asks for, None if it has none. UsageError if it cannot be had."""
    mark = item.get_closest_marker("zio")
    if mark is None:
        return None
    if mark.args:
        raise pytest.UsageError(f"pytest.mark.zio takes keyword arguments only, not {mark.args[0]!r}")
    if unknown := mark.kwargs.keys() - set(Wanted._fields):
        raise pytest.UsageError(f"pytest.mark.zio has no argument {min(unknown)!r}; it has virtual= and seed=")
    wanted = Wanted(mark.kwargs.get("virtual", False), mark.kwargs.get("seed"))
    if not isinstance(wanted.virtual, bool):
        raise pytest.UsageError(f"pytest.mark.zio(virtual={wanted.virtual!r}): it must be True or False")
    if wanted.seed is not None and (isinstance(wanted.seed, bool) or not isinstance(wanted.seed, int)):
        raise pytest.UsageError(f"pytest.mark.zio(seed={wanted.seed!r}): it must be an int or None")
    if not isinstance(item, pytest.Function) or (item.cls is not None and issubclass(item.cls, unittest.TestCase)):
        raise pytest.UsageError("pytest.mark.zio is for functions, and methods of plain classes")
    if inspect.iscoroutinefunction(item.obj) or inspect.isasyncgenfunction(item.obj):
        raise pytest.UsageError("pytest.mark.zio is for plain functions: no async is needed")
    return wanted


def in_a_runtime(test: Callable[..., Any], wanted: Wanted, network: Any) -> Callable[..., Any]:
    """The test as a main task. It fails too if a task of its own fails and nobody joins that one."""

    @functools.wraps(test)
    def run(**arguments: Any) -> Any:
        from zio import Runtime
        from zio.testing import VirtualClock

        failed: list[BaseException] = []
        runtime = Runtime(
            on_unhandled=lambda _task, error: failed.append(error),
            clock=VirtualClock() if wanted.virtual else None,
            seed=wanted.seed,
            network=network,
        )
        try:
            result = runtime.run(functools.partial(test, **arguments))
        except BaseException as error:
            for other in failed:
                error.add_note(f"Besides, a task that nobody joined has failed: {other!r}")
            raise
        if failed:
            raise BaseExceptionGroup("tasks that nobody joined have failed", failed)
        return result

    return run
