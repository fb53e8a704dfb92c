"""An order for what several tasks do."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..sync import Event

if TYPE_CHECKING:
    from types import TracebackType


class Sequencer:
    """Runs blocks of several tasks in the order of their numbers: ``with seq(2): ...`` waits until block 1 has ended.

    Each number, from 0 on, is for one block. A block that raises has ended as well. A wait that is cancelled gives its
    number back, so the block may be tried again; those behind it go on waiting.
    """

    def __init__(self) -> None:
        self._taken: set[int] = set()
        self._begun: dict[int, Event] = {}  # the event of a number: its block may begin
        self._may_begin(0).set()

    def __call__(self, number: int) -> Turn:
        """The block with this number. TypeError or ValueError if it is none; ValueError in ``with`` if it is in use."""
        if isinstance(number, bool) or not isinstance(number, int):
            raise TypeError(f"the number of a block must be an int, not {type(number).__name__}")
        if number < 0:
            raise ValueError(f"the number of a block must be 0 or more, not {number}")
        return Turn(self, number)

    def _may_begin(self, number: int) -> Event:
        return self._begun.setdefault(number, Event())

    def __repr__(self) -> str:
        return f"<Sequencer, begun or waited for: {sorted(self._taken)}>"


class Turn:
    """One block of a `Sequencer`, to be entered once."""

    def __init__(self, sequencer: Sequencer, number: int) -> None:
        self._sequencer = sequencer
        self._number = number

    def __enter__(self) -> None:
        """Wait until the block before has ended."""
        taken = self._sequencer._taken
        if self._number in taken:
            raise ValueError(f"block {self._number} of the sequencer has been entered already")
        taken.add(self._number)
        try:
            self._sequencer._may_begin(self._number).wait()
        except BaseException:
            taken.discard(self._number)
            raise

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._sequencer._may_begin(self._number + 1).set()
