"""The standard streams of a child that are pipes: its ends and ours."""

from __future__ import annotations

import os
from subprocess import PIPE
from typing import IO, TYPE_CHECKING, Any

from ..fs.pipes import PipeStream

if TYPE_CHECKING:
    from .._core import Loop

Redirect = int | IO[Any] | None


class Pipes:
    """The three standard streams of a child, and our ends of those that are pipes."""

    def __init__(self, *wanted: Redirect) -> None:
        self._wanted = wanted
        self._ours: list[int | None] = [None, None, None]

    def for_child(self) -> ChildEnds:
        """``with`` this: what ``subprocess.Popen`` is given."""
        return ChildEnds(self._wanted, self._ours)

    def streams(self, loop: Loop) -> list[PipeStream | None]:
        made: list[PipeStream | None] = []
        try:
            for number in range(3):
                fd, self._ours[number] = self._ours[number], None
                made.append(None if fd is None else PipeStream(fd, loop))
        except BaseException:
            for stream in made:
                if stream is not None:
                    stream.close()
            raise
        return made

    def close(self) -> None:
        for number, fd in enumerate(self._ours):
            if fd is not None:
                self._ours[number] = None
                os.close(fd)


class ChildEnds:
    """The child's ends, closed when the child has them."""

    def __init__(self, wanted: tuple[Redirect, ...], ours: list[int | None]) -> None:
        self._wanted = wanted
        self._ours = ours
        self._theirs: list[int] = []

    def __enter__(self) -> list[Redirect]:
        given: list[Redirect] = []
        for number, wanted in enumerate(self._wanted):
            if wanted != PIPE:
                given.append(wanted)
                continue
            reading, writing = os.pipe()
            theirs, self._ours[number] = (reading, writing) if number == 0 else (writing, reading)
            self._theirs.append(theirs)
            given.append(theirs)
        return given

    def __exit__(self, *exc_info: object) -> None:
        for fd in self._theirs:
            os.close(fd)
