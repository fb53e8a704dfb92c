"""Spawning tasks, sleeping and letting others run."""

from __future__ import annotations

import threading
import time
from contextvars import copy_context
from math import inf
from typing import TYPE_CHECKING, Any, TypeVar

from greenlet import getcurrent

from ._core import (
    TIMED_OUT,
    UNRUN,
    Cancelled,
    Fiber,
    RuntimeClosed,
    Sleeper,
    Task,
    ThreadHolder,
    background,
    check_function,
    check_seconds,
    current_holder,
    here,
    monotonic,
    seconds_after,
)
from ._core.foreign import refuse_to_block_here

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")


def spawn(fn: Callable[..., T], *args: Any, name: str | None = None) -> Task[T]:
    """Start ``fn(*args)`` as a task owned by the runtime (in a plain thread: by the background runtime).

    An error that nobody joins is reported through ``on_unhandled``. The task is cancelled when the run ends.
    Prefer :class:`zio.TaskGroup`, which ends with its tasks. RuntimeClosed while the runtime is ending.
    TypeError for what cannot be run: no function, or an ``async def`` or a generator function.
    """
    try:
        if fn.__code__.co_flags & UNRUN:
            check_function("zio.spawn", "fn", fn)
    except AttributeError:
        check_function("zio.spawn", "fn", fn)
    fiber = getcurrent()
    if type(fiber) is Fiber:
        loop = fiber.loop
        root = loop.root
        if root.cancelled:
            raise RuntimeClosed("the run is ending; no new tasks")
        context = copy_context() if fiber.gr_context else None  # inherited_context, written out: 30 of 1,250 ns
        task = Task(loop, root, fn, args, name, context)
        loop.ready.append(task)
        return task
    refuse_to_block_here(spawn)
    return background().call(_spawn_here, fn, args, name)


def _spawn_here(fn: Callable[..., Any], args: tuple[Any, ...], name: str | None) -> Task[Any]:
    return spawn(fn, *args, name=name)


def sleep(seconds: float) -> None:
    """Wait for ``seconds``; only the current task (or thread) does. Zero or less lets others run."""
    fiber = getcurrent()
    if type(fiber) is not Fiber:
        _sleep_in_thread(seconds)
        return
    loop = fiber.loop
    try:
        if seconds <= 0:
            loop.pause(fiber)
            return
    except TypeError:
        check_seconds("the time to sleep", seconds)
        raise
    if loop.budget <= 0:
        loop.checkpoint(fiber)
    else:
        loop.budget -= 1
    waiter = Sleeper(fiber, _Sleep(seconds))
    try:
        if seconds != inf:
            deadline = loop.clock.now() + seconds
            if deadline != deadline:
                raise ValueError("the time to sleep must be a number of seconds, not NaN")
            loop.timers.push(deadline, waiter)
        ready = loop.ready
        if ready and loop.budget > 0 and fiber.waiter is None:
            # loop.park, written out: a call less is 100 bytes less for each of 100,000 sleepers.
            item = ready[0]
            if type(item) is Fiber:
                fiber.waiter = waiter
                del ready[0]
                item.switch()
            else:  # the hub starts tasks
                del item
                fiber.waiter = waiter
                loop.hub.switch()
            fiber.waiter = None
            if fiber.cancelled:
                loop.budget = 0
            state = waiter.state or loop.park(waiter)
        else:
            state = loop.park(waiter)
    except BaseException as exc:
        if fiber.waiter is waiter:
            fiber.waiter = None
        state = loop.struck(waiter, exc)
    if state == TIMED_OUT:
        return
    if seconds != inf:
        loop.timers.ended_early()
    raise waiter.value or Cancelled


class _Sleep(float):
    """What a sleeping task waits on, for the dump. A number, since the collector looks at no numbers."""

    __slots__ = ()

    def __repr__(self) -> str:
        return f"sleep({float(self)})"


def _sleep_in_thread(seconds: float) -> None:
    refuse_to_block_here(sleep)
    holder = current_holder()
    assert isinstance(holder, ThreadHolder)
    until = seconds_after(monotonic(), seconds, "the time to sleep")
    holder.raise_pending()
    asleep = _ThreadSleep()
    waits = holder.about_to_wait()
    waits.append(asleep)
    try:
        while True:
            left = holder.check_deadlines()
            if holder.scope.cancelled:
                raise Cancelled
            rest = min(until - monotonic(), threading.TIMEOUT_MAX)
            if rest <= 0:
                return
            asleep.wait(rest if left is None else min(rest, left))
    finally:
        if asleep in waits:
            waits.remove(asleep)


class _ThreadSleep:
    """A plain thread's sleep, which a cancel from another thread ends."""

    __slots__ = ("_woken",)

    def __init__(self) -> None:
        self._woken = threading.Lock()
        self._woken.acquire()

    def wait(self, seconds: float) -> None:
        self._woken.acquire(timeout=max(seconds, 0))

    def interrupt(self) -> None:
        try:
            self._woken.release()
        except RuntimeError:
            return  # it was told before


def pause() -> None:
    """Let other ready tasks run first. A cancel point."""
    fiber = getcurrent()
    if type(fiber) is Fiber:
        loop = fiber.loop
        ready = loop.ready
        budget = loop.budget
        if ready and budget > 0 and fiber.waiter is None and type(item := ready[0]) is Fiber:
            # loop.pause, written out
            loop.budget = budget - 1
            try:
                ready.append(fiber)
                del ready[0]
                item.switch()
            except BaseException:
                loop.unqueue(fiber)
                raise
            if fiber.cancelled:
                loop.budget = 0
                raise Cancelled
            return
        loop.pause(fiber)
    else:
        _sleep_in_thread(0)
        time.sleep(0)


def maybe_pause() -> None:
    """Let others run if this task's time slice is used up: for loops that compute. A cancel point, and cheap."""
    fiber = getcurrent()
    if type(fiber) is Fiber:
        loop = fiber.loop
        if loop.budget <= 0:
            loop.checkpoint(fiber)
        else:
            loop.budget -= 1
    elif current_holder().scope.cancelled:
        raise Cancelled


def now() -> float:
    """Seconds on the runtime's clock: monotonic, or virtual under a virtual clock."""
    return current_holder().now()  # type: ignore[no-any-return]


def current_task() -> Task[Any]:
    """The task that is running. RuntimeError outside of tasks."""
    task = here().task
    assert task is not None
    return task
