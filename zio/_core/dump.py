"""A readable picture of a loop: the tree of its tasks, what each waits on, where."""

from __future__ import annotations

import sys
import traceback
from typing import TYPE_CHECKING

from greenlet import getcurrent

if TYPE_CHECKING:
    from types import FrameType

    from .scheduler import Loop
    from .scope_tree import ScopeNode
    from .task import Task

MOST_TASKS = 1000  # described one by one; of more there is the number
MOST_FRAMES = 8  # of a stack, the innermost

_CORE = __file__.rpartition("/")[0] + "/"
_PACKAGE = _CORE[:-1].rpartition("/")[0] + "/"


def tasks_below(node: ScopeNode) -> list[Task[object]]:
    """The live tasks in the tree under ``node``, parents before children."""
    from .task import Task

    found: list[Task[object]] = []
    stack = list(reversed(node.kids or ()))
    while stack:
        kid = stack.pop()
        if isinstance(kid, Task):
            found.append(kid)
        stack.extend(reversed(kid.kids or ()))
    return found


def dump_loop(loop: Loop) -> str:
    """All tasks of ``loop`` as text, as a tree, with their waits and stacks."""
    pool = loop.runtime.pool
    lines = [
        f"{len(loop.ready)} ready, {loop.io_waiting} wait for I/O, {len(loop.timers.heap)} timers, {loop.jobs} jobs"
    ]
    left = MOST_TASKS
    for title, node in (("tasks", loop.root), ("system tasks", loop.system), ("calls from other threads", loop.calls)):
        count = len(tasks_below(node))
        if count:
            lines.append(f"{title}:")
            lines.extend(_tree(node, left))
            if count > left:
                lines.append(f"and {count - left} more")
            left = max(0, left - count)
    jobs = pool.working()
    if jobs:
        lines.append("threads:")
        lines.extend(f"   {name}: {job!r}" for name, job in jobs)
    return "\n".join(lines)


def _tree(root: ScopeNode, most: int) -> list[str]:
    """The lines of the first ``most`` tasks. Not recursive, since tasks may be nested ten thousand deep."""
    from .task import Task

    lines: list[str] = []
    stack = [(node, "", last) for node, last in _children(root)]
    while stack and most > 0:
        node, prefix, last = stack.pop()
        below = prefix + ("   " if last else "│  ")
        children = _children(node)
        if isinstance(node, Task):
            most -= 1
            title, frames = _describe(node)
            mark = below + ("│    " if children else "     ")
            frames = [mark + line for line in frames]
        else:
            tasks = sum(isinstance(kid, Task) for kid in node.kids or ())
            title = f"group of {tasks} task{'s' if tasks != 1 else ''}{', cancelled' if node.cancelled else ''}"
            frames = []
        lines.append(f"{prefix}{'└─' if last else '├─'} {title}")
        lines.extend(frames)
        stack.extend((child, below, is_last) for child, is_last in children)
    return lines


def _children(node: ScopeNode) -> list[tuple[ScopeNode, bool]]:
    """What is shown below ``node``, last one first: tasks, and the scopes that have tasks, in place of other scopes."""
    from .task import Task

    found: list[ScopeNode] = []
    stack = list(reversed(node.kids or ()))
    while stack:
        kid = stack.pop()
        if isinstance(kid, Task) or any(isinstance(task, Task) for task in kid.kids or ()):
            found.append(kid)
        else:
            stack.extend(reversed(kid.kids or ()))
    return [(kid, at == 0) for at, kid in enumerate(reversed(found))]


def _describe(task: Task[object]) -> tuple[str, list[str]]:
    fiber = task.fiber
    cancelled = ", cancelled" if task.cancelled or (fiber is not None and fiber.cancelled) else ""
    if fiber is None:
        return f"{task!r}: not started{cancelled}", []
    waiter = fiber.waiter
    if waiter is not None and not waiter.state:
        state = f"waits on {waiter.what!r}"
    else:
        state = "running" if fiber is getcurrent() else "ready"
    frame = fiber.gr_frame if fiber is not getcurrent() else sys._getframe()
    return f"{task!r}: {state}{cancelled}", [] if frame is None else stack_lines(frame)


def stack_lines(frame: FrameType) -> list[str]:
    """The innermost of the user's frames, innermost last: without the runtime's own at both ends."""
    entries: list[traceback.FrameSummary] = list(traceback.extract_stack(frame))
    while entries and entries[0].filename.startswith(_CORE):
        entries.pop(0)
    while entries and entries[-1].filename.startswith(_CORE):
        entries.pop()
    users = len(entries)
    while users and entries[users - 1].filename.startswith(_PACKAGE):
        users -= 1
    entries = entries[: users or None]  # a task of the runtime's own has no others
    hidden = len(entries) - MOST_FRAMES
    shown = [f"{entry.filename}:{entry.lineno} in {entry.name}: {entry.line}" for entry in entries[-MOST_FRAMES:]]
    return shown if hidden <= 0 else [f"{hidden} calls above", *shown]


def running_now(loop: Loop) -> tuple[Task[object] | None, list[str]]:
    """What runs in the thread of ``loop``, seen from another thread: the task, None for the hub, and its stack."""
    frame = sys._current_frames().get(loop.thread_id or 0)
    if frame is None:
        return None, []
    task = None
    outer: FrameType | None = frame
    while outer is not None:
        if outer.f_code is type(loop).fiber_main.__code__:
            task = outer.f_locals.get("task")
        outer = outer.f_back
    return task, stack_lines(frame)
