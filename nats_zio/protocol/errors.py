"""The exceptions of the protocol layer, and the root of all errors of the package.

Invariants: every message names the value at fault (as a `repr`, cut to a bounded length) and the rule it
breaks; nothing raised here holds credentials.
"""

from __future__ import annotations

import pickle
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

from .text import plain

__all__ = ["BadSubjectError", "Error", "HeaderError", "MaxPayloadError", "ProtocolError", "shorten"]


def shorten(value: object, limit: int = 64) -> str:
    """Return `repr(value)` for an error message; long `str` and `bytes` values are cut before they are formatted."""
    value = plain(value)
    if isinstance(value, (str, bytes, bytearray)) and len(value) > limit:
        return f"{value[:limit]!r}... ({len(value)} {'characters' if isinstance(value, str) else 'bytes'})"
    text = repr(value)
    return text if len(text) <= 2 * limit else text[: 2 * limit] + "..."


class Error(Exception):
    """Root of every error that this package raises.

    Copies and pickles have the text and all attributes. Only what pickle cannot take (a subscription, say) is left
    behind: then the attribute is that of the class.
    """

    def __reduce__(self) -> tuple[Any, ...]:
        # By default `__init__` would be called with the finished text.
        kept = {name: value for name, value in vars(self).items() if _travels(value)}
        return _rebuild, (type(self), self.args, kept)


def _rebuild(kind: type[Error], args: tuple[Any, ...], attributes: dict[str, Any]) -> Error:
    error = kind.__new__(kind, *args)
    error.args = args
    vars(error).update(attributes)
    return error


def _travels(value: object) -> bool:
    """Whether `value` survives being pickled. An error that cannot be read back hangs a pool of processes for ever."""
    try:
        pickle.loads(pickle.dumps(value))
    except Exception:
        return False
    return True


class ProtocolError(Error):
    """The server sent bytes that break the protocol.

    `messages` and `events` hold what the same `Parser.feed` call had completed before the bytes at fault,
    in the form `feed` returns it; both are empty where the error comes from elsewhere.
    """

    messages: Mapping[int, list[Any]] = MappingProxyType({})
    events: Sequence[Any] = ()

    def __init__(
        self,
        text: str,
        messages: Mapping[int, list[Any]] | None = None,
        events: Sequence[Any] = (),
    ) -> None:
        super().__init__(text)
        self.messages = {} if messages is None else messages
        self.events = events


class BadSubjectError(Error, ValueError):
    """A subject, queue name or inbox prefix that must not be sent."""


class HeaderError(Error, ValueError):
    """A header that cannot be sent, or a header block that cannot be read."""


class MaxPayloadError(Error, ValueError):
    """A message, headers included, that is larger than the server accepts."""

    def __init__(self, size: int, limit: int) -> None:
        super().__init__(f"message of {size} bytes (headers included) exceeds the server's limit of {limit} bytes")
        self.size = size
        self.limit = limit
