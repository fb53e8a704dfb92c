"""Rule 0: an object with state has a home loop, and only that loop's thread edits it.

A public method starts like this, and needs no lock behind it::

    fiber = getcurrent()
    if type(fiber) is not Fiber or fiber.loop is not self._loop:
        return self._elsewhere(self.recv, timeout)

``_elsewhere`` binds an object that has no home yet to the caller's loop (the background runtime's, for a
plain thread) and otherwise runs the whole operation at home.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from greenlet import getcurrent

from .background_runtime import background
from .fiber import Fiber
from .foreign import call_elsewhere, edit_elsewhere, refuse_to_block_here
from .this_process import notice_fork, renew_in_child

if TYPE_CHECKING:
    from collections.abc import Callable

    from .scheduler import Loop

# Who is about to give an object a home, by the object's id: the first one wins. (A lock might be held by whoever was
# interrupted by the handler, or finalizer, that wants it.)
_claims: dict[int, Loop] = {}
renew_in_child(_claims.clear)  # threads of the parent have made them


class Homed:
    """Base of the primitives. ``_loop`` is the home, None until the first wait if made outside any task."""

    __slots__ = ("__weakref__", "_loop")

    _loop: Loop | None

    def __init__(self) -> None:
        fiber = getcurrent()
        self._loop = fiber.loop if type(fiber) is Fiber else None

    def _bind(self) -> Loop:
        """The home, found now if there is none; one whose loop has ended, with all its waiters, gets a new one."""
        notice_fork()
        loop = self._loop
        if loop is None or (loop.closed and not loop.forked):
            fiber = getcurrent()
            if type(fiber) is Fiber:
                found = fiber.loop
            else:
                refuse_to_block_here(self)
                found = background().loop
            found = _claims.setdefault(id(self), found)
            if self._loop is loop:  # or another one was faster, and has let go of its claim
                self._loop = found
            _claims.pop(id(self), None)
            loop = self._loop
            assert loop is not None
        return loop

    def _elsewhere(self, method: Callable[..., Any], *args: Any) -> Any:
        """Run a blocking method, called outside its home, at home."""
        return call_elsewhere(self._bind(), method, *args)

    def _edit(self, method: Callable[..., Any], *args: Any) -> Any:
        """Run a method that never blocks at home, which may be here; here, too, if there is none yet."""
        fiber = getcurrent()
        loop = self._loop
        if type(fiber) is Fiber and fiber.loop is loop:
            return method(*args)
        if loop is None or (loop.closed and not loop.forked):
            result = method(*args)
            now = self._loop
            if now is not None and now is not loop:  # a home was found meanwhile, and may sleep
                now.post(_nothing, optional=True)
            return result
        return edit_elsewhere(loop, method, *args)


def _nothing() -> None:
    """The loop is awake now, and that is all."""
