"""What the server says besides messages: one small immutable object per control line.

Invariants: events without content are singletons in what the parser returns, all compare by value.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeAlias

__all__ = ["Err", "Event", "Info", "Ok", "Ping", "Pong"]


@dataclass(frozen=True, slots=True)
class Ping:
    """`PING`: has to be answered with PONG."""


@dataclass(frozen=True, slots=True)
class Pong:
    """`PONG`: answers the oldest PING not answered yet."""


@dataclass(frozen=True, slots=True)
class Ok:
    """`+OK`: sent only in verbose mode."""


@dataclass(frozen=True, slots=True)
class Err:
    """`-ERR`: `text` is without the quotes around it; bytes that are not UTF-8 appear as backslash escapes."""

    text: str


@dataclass(frozen=True, slots=True)
class Info:
    """`INFO`: `fields` is the JSON object as the server sent it."""

    fields: dict[str, Any]

    def __repr__(self) -> str:
        return f"Info({', '.join(self.fields)})"


Event: TypeAlias = Ping | Pong | Ok | Err | Info
