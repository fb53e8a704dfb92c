"""Clients that nobody holds any more, and nobody has closed: they are drained and closed, with a ResourceWarning.

All of this runs wherever the last reference was dropped, so in any thread at any moment: it only takes note, and has
the client's home loop do the rest.
"""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

from .draining import DRAIN_TIMEOUT
from .errors import Error
from .subscriptions import hold_no_more, in_use

if TYPE_CHECKING:
    from .core import Core


class _Warning:
    """Warns as it goes: what a filter makes an error is raised here, as in any finalizer, and not in a caller."""

    def __init__(self, text: str) -> None:
        self._text = text

    def forgo(self) -> None:
        """Say nothing."""
        self._text = ""

    def __del__(self) -> None:
        if self._text:
            warnings.warn(self._text, ResourceWarning, stacklevel=2)


class Forgotten:
    """What becomes of one client after its user has let go of it."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._turn = [None]  # for the one look that finds nobody

    def begin(self) -> None:
        """The user's last reference to the client is gone."""
        core = self._core
        core.table.on_less = self.look
        hold_no_more(core.table, self.look)
        self.look()

    def look(self) -> None:
        """End the client unless somebody holds one of its subscriptions."""
        core = self._core
        if core.closing or core.loop.forked or in_use(core.table):
            return
        try:
            self._turn.pop()
        except IndexError:
            return
        warning = _Warning(f"{core!r} was never closed, and nobody holds it any more")
        if core.runtime.is_background:
            core.loop.urgent(self._drain_at_home)
        else:
            core.loop.urgent(lambda: self._end_in_run(warning))

    def _end_in_run(self, warning: _Warning) -> None:
        """In the hub."""
        loop = self._core.loop
        if loop.main is None or loop.main.done:
            warning.forgo()  # the run ends, and closes what it finds open: that may be relied on
        self._drain_at_home()

    def _drain_at_home(self) -> None:
        """In the hub."""
        self._core.loop.spawn_system(self._drain, name="a forgotten client")

    def _drain(self) -> None:
        try:
            self._core.draining.drain(DRAIN_TIMEOUT)
        except Error:
            return  # it is closed by something else
