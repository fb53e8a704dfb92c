"""Fibers: the greenlets that tasks run on, one task after another.

Making a greenlet costs 8-10 µs, running a task on a parked one 0.6 µs; so a fiber whose task has ended
takes the next task, or waits in the loop's pool. ``type(getcurrent()) is Fiber and g.loop is self.loop`` is
the whole test of rule 0: this code runs in a task of that loop. The hottest calls save the test of the type (17 of
150 ns)::

    try:
        loop = (fiber := current_fiber()).loop
    except AttributeError:  # not in a task
        loop = NO_LOOP
    if loop is not self._loop:
        return self._elsewhere(self.recv, timeout)
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from greenlet import _greenlet, getcurrent, greenlet

if TYPE_CHECKING:
    from collections.abc import Callable

    from .scheduler import Loop
    from .task import Task
    from .waiter import Waiter

# When a thread has ended and its main greenlet is held by one reference more, greenlet searches the heap for the
# holder; if that is another thread, and it lets go in that moment, greenlet (3.5.6) crashes the process. A thread that
# ends with an error that another one gave it is enough: the frames of its calls hold the greenlet. Without the search
# nothing piles up.
_greenlet.enable_optional_cleanup(False)


class Fiber(greenlet):
    """A greenlet of one loop, with the task it runs now and the wait that task is parked in."""

    __slots__ = ("cancelled", "loop", "spare", "task", "waiter")

    def __init__(self, loop: Loop) -> None:
        greenlet.__init__(self, loop.fiber_main, loop.hub)
        self.loop = loop
        self.task: Task[Any] | None = None
        self.waiter: Waiter | None = None
        self.spare: Waiter | None = None  # for its next wait: see waiter.py
        # Whether the task's innermost scope is cancelled; while it is, the loop's budget is zero when the task runs.
        self.cancelled = False


# Outside of tasks it gives some other greenlet, whose ``loop`` is an AttributeError (or, gevent's, no loop of ours; one
# that has None there must not be the first to use an object without a home).
current_fiber = cast("Callable[[], Fiber]", getcurrent)
NO_LOOP: Any = object()
