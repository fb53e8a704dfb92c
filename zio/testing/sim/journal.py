"""What happened on a simulated network."""

from __future__ import annotations

from typing import NamedTuple


class Entry(NamedTuple):
    """Something that happened; ``size`` in bytes, ``mark`` a checksum of them."""

    time: float
    where: str
    what: str
    size: int = 0
    mark: int = 0

    def __str__(self) -> str:
        size = f" {self.size}" if self.size else ""
        mark = f" [{self.mark:08x}]" if self.mark else ""
        return f"{self.time:14.6f} {self.where}: {self.what}{size}{mark}"
