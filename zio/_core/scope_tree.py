"""The tree of what can be cancelled: scopes and tasks, and the threads that have scopes. See cancel.py."""

from __future__ import annotations


class ScopeNode:
    """A place in the cancel tree: a scope, a task, or the base of a group."""

    # No more than a task needs: with 100,000 tasks each slot is 15 of the 1,300 ns that one takes.
    __slots__ = ("__weakref__", "cancelled", "kids", "parent")

    parent: ScopeNode | None
    kids: dict[ScopeNode, None] | None  # insertion-ordered, for reproducible runs

    def __init__(self) -> None:
        self.parent = None
        self.kids = None
        self.cancelled = False

    @property
    def shielded(self) -> bool:
        """Whether a cancel of what is above stops here."""
        return False

    @property
    def holder(self) -> Holder | None:
        """The task or thread on whose stack this scope lies."""
        return None


class Holder(ScopeNode):
    """A node with a stack of scopes: a task, or a plain thread."""

    __slots__ = ("scope",)

    scope: ScopeNode  # the innermost scope; the holder itself if it has entered none

    @property
    def holder(self) -> Holder:
        return self

    def cancel_arrived(self) -> None:
        """The innermost scope has become cancelled: end the wait this holder is in, if any."""
        raise NotImplementedError

    def scope_changed(self) -> None:
        """Another scope is now the innermost one."""


def spread_cancel(node: ScopeNode) -> None:
    """Mark ``node`` and all below it, shields excepted, as cancelled, and tell the holders."""
    reached = []
    stack = [node]
    while stack:
        current = stack.pop()
        if current.cancelled:
            continue
        current.cancelled = True
        holder = current.holder
        if holder is not None and holder.scope is current:
            reached.append(holder)
        if current.kids:
            # A copy: a plain thread may enter or leave a scope while another thread cancels it.
            stack.extend(kid for kid in reversed(list(current.kids)) if not kid.shielded)
    for holder in reached:
        holder.cancel_arrived()
