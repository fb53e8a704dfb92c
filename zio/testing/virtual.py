"""Time that passes only when nothing else can happen."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

from .._core import Runtime, VirtualClock, Waiter, check_function, here

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")


def run_virtual(fn: Callable[..., T], *args: Any, seed: int | None = None, network: Any = None) -> T:
    """Run ``fn(*args)`` under a virtual clock: an hour of sleeping takes no time.

    ``seed`` makes the order of ready tasks random and repeatable. The clock stands still while a thread works
    for the runtime. Real sockets work, but what another process does takes real time, which this clock skips.
    """
    check_function("run_virtual", "fn", fn)  # before a runtime with its descriptors is made for nothing
    return Runtime(clock=VirtualClock(), seed=seed, network=network).run(fn, *args)


def wait_all_parked() -> None:
    """Wait until every other task waits for something, and nothing has arrived for any of them.

    A thread job under way counts as not parked. Time does not move on meanwhile under a virtual clock.
    """
    fiber = here()
    loop = fiber.loop
    if loop.budget <= 0:
        loop.checkpoint(fiber)
    waiter = Waiter(fiber, "all other tasks to park")
    loop.idle_waiters.append(waiter)
    loop.wait(waiter, None, loop.idle_waiters.remove)
