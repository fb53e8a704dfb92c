"""A readable picture of a loop: every task, what it waits on, where."""

from __future__ import annotations

import traceback
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from types import FrameType

    from .cancel import ScopeNode
    from .scheduler import Loop
    from .task import Task


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
    """All tasks of ``loop`` as text, with their waits and stacks."""
    lines = []
    for title, node in (("tasks", loop.root), ("system tasks", loop.system), ("calls from other threads", loop.calls)):
        tasks = tasks_below(node)
        if tasks:
            lines.append(f"{title}:")
        for task in tasks:
            lines.extend(_describe(task))
    return "\n".join(lines) or "no tasks"


def _describe(task: Task[object]) -> list[str]:
    fiber = task.fiber
    if fiber is None:
        return [f"  {task!r}: not started"]
    waiter = fiber.waiter
    state = "ready or running" if waiter is None or waiter.state else f"waits on {waiter.what!r}"
    lines = [f"  {task!r}: {state}"]
    frame = fiber.gr_frame
    if frame is not None:
        lines.extend("    " + line for line in _stack_of(frame))
    return lines


def _stack_of(frame: FrameType) -> list[str]:
    """The stack below the runtime's own innermost frames, innermost last."""
    entries = traceback.extract_stack(frame)
    core = __file__.rpartition("/")[0]
    while entries and entries[-1].filename.startswith(core):
        entries.pop()
    while entries and entries[0].filename.startswith(core):
        entries.pop(0)
    return [f"{entry.filename}:{entry.lineno} in {entry.name}: {entry.line}" for entry in entries]
