"""Control lines: the grammar of what the server sends, and the tables that make the usual lines cheap.

Invariants: the tables never change what a line means, they only save reading it again: `read` uses and fills them for
lines as the server writes them (single spaces, CRLF), everything else goes through the exact grammar (`_MSG`,
`_HMSG`). Each holds at most `_TABLE_SIZE` entries, made from lines of at most `_SHORT` bytes.
"""

from __future__ import annotations

import json
import re
from typing import Any, TypeAlias, TypeVar

from .errors import ProtocolError, shorten
from .events import Err, Event, Info, Ok, Ping, Pong

__all__ = ["Head", "LineReader"]

_T = TypeVar("_T")

# What a MSG or HMSG line says: subject, sid, reply, header length, total length.
Head: TypeAlias = tuple[str, int, str | None, int, int]

_TABLE_SIZE = 4096
_SHORT = 512
_SAMPLE = 8  # one unknown line of so many is remembered: where all differ, remembering costs more than reading
_DIGITS = 9  # of lengths; sids may be longer

_VERB = re.compile(rb"(?i:PING|PONG|\+OK|-ERR|(?:INFO|H?MSG)[ \t])")
_VERB_BYTES = 5  # enough to tell whether any verb can match
_MSG = re.compile(
    rb"(?i:MSG)[ \t]++([^ \t\r\n]++)[ \t]++([0-9]{1,18}+)(?:[ \t]++([^ \t\r\n]++))??()[ \t]++([0-9]{1,9}+)[ \t]*+\r?\n"
)
_HMSG = re.compile(
    rb"(?i:HMSG)[ \t]++([^ \t\r\n]++)[ \t]++([0-9]{1,18}+)(?:[ \t]++([^ \t\r\n]++))??"
    rb"[ \t]++([0-9]{1,9}+)[ \t]++([0-9]{1,9}+)[ \t]*+\r?\n"
)
_TAB, _CR, _SPACE = b"\t\r "
_PING, _PONG, _OK = Ping(), Pong(), Ok()


class LineReader:
    """Reads the control lines of one connection, line end included. Limits are in bytes and count the line end.

    `heads` has whole lines without a reply, `routes` lines with a reply as far as the sid, `sizes` the last number of
    a line with its CRLF, `numbers` sids and header lengths; all to be read only.
    """

    def __init__(self, max_line: int, max_info: int, max_payload: int) -> None:
        self.heads: dict[bytes, Head] = {}
        self.routes: dict[bytes, tuple[str, int]] = {}
        self.sizes: dict[bytes, int] = {}
        self.numbers: dict[bytes, int] = {}
        self.short = min(max_line, _SHORT)
        self._unknown = 0  # lines that could have been in `heads` or `routes`
        self._max_line = max_line
        self._max_info = max_info
        self._max_payload = max_payload

    def read(self, line: bytes, events: list[Event]) -> Head | None:
        """Read a line that is not in `heads`. None: it was an event, which is now in `events`.

        A message line is read here only if it is short and as the server writes it (single spaces, CRLF);
        `_message_line` decides about all others.
        """
        if line.startswith(b"MSG "):
            parts = line.rsplit(b" ", 2)
            header = 0
            verb = 4
        elif line.startswith(b"HMSG "):
            parts = line.rsplit(b" ", 3)
            header = self._number(parts.pop(-2))
            verb = 5
        else:
            return self._control_line(line, events)
        if len(parts) != 3 or len(line) > self.short:
            return self._message_line(line)
        route, middle, raw_size = parts  # `middle` is the reply; where there is none, it is the sid
        size = self.sizes.get(raw_size)
        if size is None:
            size = self._size(raw_size)
        if not 0 <= header <= size:
            return self._message_line(line)
        try:
            target = self.routes.get(route)
            if target is None:
                # Bytes are looked for by number: `b"x" in data` takes ten times longer.
                subject = route[verb:]
                if _SPACE not in subject:
                    known = self.numbers.get(middle)
                    sid = self._number(middle) if known is None else known
                    if sid < 0 or not subject or _TAB in subject or _CR in subject:
                        return self._message_line(line)
                    head = subject.decode(), sid, None, header, size
                    self._unknown += 1
                    if not self._unknown % _SAMPLE:
                        _remember(self.heads, line, head)
                    return head
                raw_subject, _, raw_sid = subject.partition(b" ")
                sid = self._number(raw_sid)
                if sid < 0 or not raw_subject or _TAB in raw_subject or _CR in raw_subject:
                    return self._message_line(line)
                target = raw_subject.decode(), sid
                self._unknown += 1
                if not self._unknown % _SAMPLE:
                    _remember(self.routes, route, target)
            if middle and _TAB not in middle and _CR not in middle:
                return target[0], target[1], middle.decode(), header, size
        except UnicodeDecodeError:
            pass
        return self._message_line(line)

    def _message_line(self, line: bytes) -> Head:
        """Read a MSG or HMSG line by the exact grammar."""
        self._check_length(line)
        found = (_HMSG if line[:1] in b"Hh" else _MSG).fullmatch(line)
        if found is None:
            raise ProtocolError(f"malformed message line: {shorten(line)}")
        raw_subject, raw_sid, raw_reply, raw_header, raw_size = found.groups()
        sid, header, size = int(raw_sid), int(raw_header or b"0"), int(raw_size)
        if size > self._max_payload:
            raise ProtocolError(f"message of {size} bytes exceeds {self._max_payload}: {shorten(line)}")
        if header > size:
            raise ProtocolError(f"header length {header} exceeds total length {size}: {shorten(line)}")
        subject = raw_subject.decode("utf-8", "surrogateescape")
        reply = None if raw_reply is None else raw_reply.decode("utf-8", "surrogateescape")
        return subject, sid, reply, header, size

    def _number(self, raw: bytes) -> int:
        """A sid or header length; -1 if this is none, or one so long that only the grammar can tell."""
        number = self.numbers.get(raw)
        if number is None:
            if not raw.isdigit() or len(raw) > _DIGITS:
                return -1
            number = int(raw)
            _remember(self.numbers, raw, number)
        return number

    def _size(self, raw: bytes) -> int:
        """A length at the end of a line, which is not in `sizes`; -1 if this is none."""
        digits = raw[:-2]
        if not digits.isdigit() or len(digits) > _DIGITS or not raw.endswith(b"\r\n"):
            return -1
        size = int(digits)
        if size > self._max_payload:
            return -1
        _remember(self.sizes, raw, size)
        return size

    def _control_line(self, line: bytes, events: list[Event]) -> Head | None:
        """Read a line that does not begin with `MSG ` or `HMSG ` as the server writes them."""
        self._check_length(line)
        found = _VERB.match(line)
        if found is None:
            raise ProtocolError(f"unknown protocol operation: {shorten(line)}")
        verb = found[0].upper()
        if verb == b"PING":
            events.append(_PING)
        elif verb == b"PONG":
            events.append(_PONG)
        elif verb == b"+OK":
            events.append(_OK)
        elif verb == b"-ERR":
            text = line[4:].decode("utf-8", "backslashreplace").strip()
            if len(text) > 1 and text[0] == text[-1] == "'":
                text = text[1:-1]
            events.append(Err(text))
        elif verb[:4] == b"INFO":
            events.append(Info(_json_object(line[5:])))
        else:
            return self._message_line(line)
        return None

    def check_unfinished(self, line: bytearray) -> None:
        """Raise ProtocolError if no end can make this beginning of a line legal."""
        self._check_length(line, 1)
        if len(line) >= _VERB_BYTES and _VERB.match(line) is None:
            raise ProtocolError(f"unknown protocol operation: {shorten(bytes(line))}")

    def _check_length(self, line: bytes | bytearray, missing: int = 0) -> None:
        limit = self._max_info if line[:4].upper() == b"INFO" else self._max_line
        if len(line) + missing > limit:
            raise ProtocolError(f"control line of more than {limit} bytes: {shorten(bytes(line[:65]))}")


def _json_object(text: bytes) -> dict[str, Any]:
    try:
        fields = json.loads(text.decode())
    except (ValueError, RecursionError) as error:
        raise ProtocolError(f"INFO is not JSON ({error}): {shorten(text)}") from error
    if not isinstance(fields, dict):
        raise ProtocolError(f"INFO is not a JSON object: {shorten(text)}")
    return fields


def _remember(table: dict[bytes, _T], key: bytes, value: _T) -> None:
    if len(table) >= _TABLE_SIZE:
        table.clear()
    table[key] = value
