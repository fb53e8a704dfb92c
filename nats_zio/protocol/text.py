"""Text is what a str is, not what it shows of itself.

Names often come from `class Topic(str, Enum)`, whose members print as `Topic.ORDERS`; and a subclass may have any
`__format__`, `__str__`, `encode` or `__hash__` of its own. So where text comes in it becomes a plain str.
"""

from __future__ import annotations

from typing import TypeVar

__all__ = ["plain", "plain_bytes"]

T = TypeVar("T")


def plain(value: T) -> T:
    """Return `value` as an exact str if it is of a subclass; anything else as it is."""
    if type(value) is not str and isinstance(value, str):
        return str.__str__(value)  # type: ignore[return-value]
    return value


def plain_bytes(value: bytes | bytearray | memoryview) -> bytes:
    """Return the bytes that `value` is, whatever a subclass would have `bytes()` make of it."""
    return bytes(memoryview(value))
