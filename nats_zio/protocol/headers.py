"""Message headers and status lines (`NATS/1.0`).

Invariants: keys keep their case and are compared with it; the values of one key keep their order, keys stand in
the order of their first value. Strict in what is sent (`encode_headers`), lenient in what is read
(`decode_headers`): whatever can be given a meaning is read, since one odd header of a peer must not hide the rest.

Source: ADR-4.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, MutableMapping, Sequence
from typing import NamedTuple, TypeAlias, TypeVar, overload

from .errors import HeaderError, shorten
from .text import plain

__all__ = ["Headers", "HeadersInput", "Status", "decode_headers", "decode_status", "encode_headers"]

_T = TypeVar("_T")

_VERSION = b"NATS/1.0"
_KEY = re.compile(r"[!-9;-~]+")
_STATUS = re.compile(rb"NATS/1\.0(?:[ \t]+([0-9]{3})(?:[ \t]+(.*?))?)?[ \t]*", re.DOTALL)


class Status(NamedTuple):
    """The status of a message that the server made itself, such as 503 for "no responders"."""

    code: int
    description: str = ""


class Headers(MutableMapping[str, str]):
    """Headers of one message: a mapping from key to *first* value that also knows all values of a key.

    Made from a mapping (a value may be a sequence of values), pairs, or other headers. `h[key] = value`
    replaces all values of the key, `add` appends one. Compares equal to any mapping that would make the same headers.
    """

    __slots__ = ("_values",)
    __hash__ = None  # type: ignore[assignment]

    def __init__(self, source: HeadersInput | None = None) -> None:
        self._values: dict[str, list[str]] = {}
        if source is None:
            return
        if isinstance(source, Headers):
            self._values = {key: values[:] for key, values in source._values.items()}
        elif isinstance(source, Mapping):
            for key, values in source.items():
                self[key] = values
        elif isinstance(source, (str, bytes, bytearray)) or not isinstance(source, Iterable):
            raise HeaderError(f"headers must be a mapping or pairs, not {type(source).__name__}: {shorten(source)}")
        else:
            for pair in source:
                try:
                    key, value = () if isinstance(pair, (str, bytes)) else pair  # no letters of a text of two
                except (TypeError, ValueError):
                    raise HeaderError(f"headers must be pairs of key and value, not {shorten(pair)}") from None
                self.add(key, value)

    def __getitem__(self, key: str) -> str:
        return self._values[plain(key)][0]

    def __setitem__(self, key: str, value: str | Sequence[str]) -> None:
        given: object = value  # whatever it is typed as
        if isinstance(given, (bytes, bytearray)) or not isinstance(given, Sequence):
            raise HeaderError(f"value of header {shorten(key)} is {shorten(given)}: must be a str or a sequence of str")
        values = [value] if isinstance(value, str) else list(value)
        _check_types(key, values)
        if values:
            self._values[plain(key)] = list(map(plain, values))
        else:
            self._values.pop(plain(key), None)

    def __delitem__(self, key: str) -> None:
        del self._values[plain(key)]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __contains__(self, key: object) -> bool:
        return plain(key) in self._values

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Headers):
            if not isinstance(other, Mapping):
                return NotImplemented
            try:
                other = Headers(other)
            except HeaderError:
                return False
        return self._values == other._values

    def __repr__(self) -> str:
        shown = {key: values[0] if len(values) == 1 else values for key, values in self._values.items()}
        return f"Headers({shown!r})"

    @overload
    def get(self, key: str, default: None = None, ignore_case: bool = False) -> str | None: ...
    @overload
    def get(self, key: str, default: str, ignore_case: bool = False) -> str: ...
    @overload
    def get(self, key: str, default: _T, ignore_case: bool = False) -> str | _T: ...
    def get(self, key: str, default: object = None, ignore_case: bool = False) -> object:
        """Return the first value of `key`, or `default`."""
        key = plain(key)
        values = self._values.get(key)
        if values is None and ignore_case:
            values = self.get_all(key, ignore_case=True)
        return values[0] if values else default

    def get_all(self, key: str, ignore_case: bool = False) -> list[str]:
        """Return all values of `key`, an empty list if there are none."""
        key = plain(key)
        if not ignore_case:
            return self._values.get(key, [])[:]
        wanted = key.lower()
        return [value for known, values in self._values.items() if known.lower() == wanted for value in values]

    def add(self, key: str, value: str) -> None:
        """Append one value to those of `key`."""
        _check_types(key, (value,))
        self._values.setdefault(plain(key), []).append(plain(value))

    def pairs(self) -> list[tuple[str, str]]:
        """Return every key with every value."""
        return [(key, value) for key, values in self._values.items() for value in values]

    def copy(self) -> Headers:
        """Return headers that can be changed without changing these."""
        return Headers(self)

    __copy__ = copy

    def __reduce__(self) -> tuple[type[Headers], tuple[list[tuple[str, str]]]]:
        return Headers, (self.pairs(),)


HeadersInput: TypeAlias = Headers | Mapping[str, str | Sequence[str]] | Iterable[tuple[str, str]]


def _check_types(key: object, values: Iterable[object]) -> None:
    if not isinstance(key, str):
        raise HeaderError(f"header key {shorten(key)} is not a str")
    for value in values:
        if not isinstance(value, str):
            raise HeaderError(f"value of header {shorten(key)} is {shorten(value)}: must be a str")


def encode_headers(headers: HeadersInput) -> bytes:
    """Return the header block for HPUB; empty bytes if there are no headers (which is sent as PUB).

    Raises HeaderError for a key that is empty or has anything but printable ASCII without `:`, and for a value that
    is not a str, has CR or LF, begins or ends with a space or tab (receivers strip those) or is not encodable as
    UTF-8. Bytes that were not UTF-8 when the headers came in are written as they came.
    """
    values_of = headers._values if isinstance(headers, Headers) else Headers(headers)._values
    if not values_of:
        return b""
    lines = ["NATS/1.0"]
    for key, values in values_of.items():
        if _KEY.fullmatch(key) is None:
            raise HeaderError(f"header key {shorten(key)} must be printable ASCII without space and ':', and not empty")
        for value in values:
            if "\r" in value or "\n" in value:
                raise HeaderError(f"value of header {shorten(key)} is {shorten(value)}: must not have CR or LF")
            if value.strip(" \t") != value:
                raise HeaderError(
                    f"value of header {shorten(key)} is {shorten(value)}: must not begin or end with space or tab"
                )
            lines.append(f"{key}: {value}")
    lines.append("\r\n")
    try:
        return "\r\n".join(lines).encode("utf-8", "surrogateescape")
    except UnicodeEncodeError as error:
        bad = error.object[error.start : error.end]
        raise HeaderError(f"a header value has {shorten(bad)}: not encodable as UTF-8") from None


def decode_status(raw: bytes) -> Status | None:
    """Return the status in the first line of a header block, None if it has none; raises like `decode_headers`."""
    line = raw[: raw.find(b"\n") + 1 or None].rstrip(b"\r\n")
    if line == _VERSION:
        return None
    found = _STATUS.fullmatch(line)
    if found is None:
        raise HeaderError(f"header block begins with {shorten(line)}: must be 'NATS/1.0' and an optional status")
    if found[1] is None:
        return None
    return Status(int(found[1]), (found[2] or b"").decode("utf-8", "surrogateescape"))


def decode_headers(raw: bytes) -> tuple[Headers, Status | None]:
    """Read a header block. Raises HeaderError if it does not begin with `NATS/1.0` or a line has no `:`.

    Lenient: bare LF ends a line too, space and tab around a value are dropped, a line without key is skipped, bytes
    that are not UTF-8 become surrogate escapes, the empty line at the end may be missing.
    """
    status = decode_status(raw)
    headers = Headers()
    values_of = headers._values
    for line in raw.decode("utf-8", "surrogateescape").split("\n")[1:]:
        if line in {"", "\r"}:
            break
        key, colon, value = line.partition(":")
        if not colon:
            raise HeaderError(f"header line {shorten(line)} has no ':'")
        if key:
            values_of.setdefault(key, []).append(value.removesuffix("\r").strip(" \t"))
    return headers, status
