"""Bytes from the server in, messages and events out.

Invariants:

* The result does not depend on how the stream was cut into chunks; a byte is looked at a bounded number of times, so
  that the work is linear in the bytes fed, whatever they are.
* Memory is bounded: an unfinished line by `max_line` (`max_info` for INFO), an unfinished message by `max_payload`.
* After the first illegal byte the parser is poisoned: there is no way to find the next frame. What came before
  it is not lost: the `ProtocolError` carries it in `messages` and `events`.

Frames are taken one by one in `_scan`. Where two in a row have the same control line, or the same but for the reply or
for the last token of the subject, a *run* is tried: a tighter loop that takes frames as long as they are of that
form, complete and legal, and leaves the first one that is not to `_scan`, which alone judges.
"""

from __future__ import annotations

from struct import iter_unpack
from typing import Generic, NoReturn, TypeVar

from .errors import ProtocolError, shorten
from .events import Event
from .lines import Head, LineReader
from .message import RawMessage

__all__ = ["Parser"]

M = TypeVar("M", bound=RawMessage)

_BULK = 16  # frames from which on setting up the bulk loop of a run pays
_CRLF = b"\r\n"
_TAB, _CR = b"\t\r"


class Parser(Generic[M]):
    """Turns the byte stream of one connection into messages of class `message_type` and control events.

    `message_type` is called without arguments; the five slots of `RawMessage` are then set, `owner` to the
    object given here. Limits are in bytes; `max_line` and `max_info` count the line end.

    Attributes to read: `messages` and `payload_bytes` (headers included) count since the start; `buffered` is
    what is held of an unfinished frame; `last_bytes` is the size of all frames that the last `feed` completed.
    """

    def __init__(
        self,
        message_type: type[M],
        owner: object = None,
        *,
        max_line: int = 65536,
        max_info: int = 1 << 20,
        max_payload: int = 128 << 20,
    ) -> None:
        self.messages = 0
        self.payload_bytes = 0
        self.buffered = 0
        self.last_bytes = 0
        self._message_type = message_type
        self._owner = owner
        self._lines = LineReader(max_line, max_info, max_payload)
        self._error: str | None = None
        self._line = bytearray()  # an unfinished control line
        self._frame: Head | None = None  # a message whose payload is unfinished ...
        self._frame_line = 0  # ... the size of its control line ...
        self._body = bytearray()  # ... and what is here of its headers, payload and CRLF

    def feed(self, data: bytes) -> tuple[dict[int, list[M]], list[Event]]:
        """Take the next bytes of the stream; return the messages they complete by sid, and the events.

        Messages are in order of arrival within their sid, events among each other. Raises ProtocolError at the
        first illegal frame, with what was complete before it in the exception's `messages` and `events`; every
        later call raises again, with nothing in them.
        """
        if self._error is not None:
            raise ProtocolError(self._error)
        groups: dict[int, list[M]] = {}
        events: list[Event] = []
        held = self.buffered + len(data)
        try:
            self._scan(data, self._resume(data, groups, events) if self.buffered else 0, groups, events)
        except BaseException as error:
            self._error = str(error) or repr(error)
            self._line, self._body, self._frame = bytearray(), bytearray(), None
            if isinstance(error, ProtocolError):
                error.messages, error.events = groups, events
            raise
        finally:
            self.buffered = len(self._line) if self._frame is None else self._frame_line + len(self._body)
            self.last_bytes = held - self.buffered
        return groups, events

    def _scan(self, data: bytes, pos: int, groups: dict[int, list[M]], events: list[Event]) -> None:
        """The hot loop: everything in `data` from `pos` on, which is the start of a frame."""
        find, startswith = data.find, data.startswith
        known, read = self._lines.heads.get, self._lines.read
        message_type, owner = self._message_type, self._owner
        total = len(data)
        last: Head | None = None
        last_subject: str | None = None
        group: list[M] = []
        append = group.append
        current = -1
        count = size_sum = 0
        try:
            while True:
                body = find(b"\n", pos) + 1
                if not body:
                    break
                line = data[pos:body]
                head = known(line)
                if head is None:
                    head = read(line, events)
                    if head is None:
                        pos = body
                        continue
                subject, sid, reply, header, size = head
                end = body + size
                pos = end + 2
                if pos > total:
                    self._frame, self._frame_line, self._body = head, len(line), bytearray(data[body:])
                    return
                if not startswith(_CRLF, end):
                    _bad_end(subject, size, data[end:pos])
                if sid != current:
                    current = sid
                    known_group = groups.get(sid)
                    if known_group is None:
                        known_group = groups[sid] = []
                    group = known_group
                    append = group.append
                message = message_type()
                message.subject = subject
                message.reply = reply
                if header:
                    message.data = data[body + header : end]
                    message.raw_headers = data[body : body + header]
                else:
                    message.data = data[body:end]
                    message.raw_headers = None
                message.owner = owner
                append(message)
                count += 1
                size_sum += size
                if head is last:
                    again = _CRLF + line
                    if startswith(again, end):
                        pos = self._run(data, head, again, end, group)
                elif reply is not None:
                    if subject is last_subject:
                        pos = self._reply_run(data, head, line, pos, group)
                elif last is not None and sid == last[1] and not header:
                    stem = line[: line.rfind(b".") + 1]
                    if stem and startswith(stem, pos):
                        pos = self._token_run(data, head, stem, pos, group)
                last = head
                last_subject = subject
        finally:
            self.messages += count
            self.payload_bytes += size_sum
        if pos < total:
            self._line += data[pos:]
            self._lines.check_unfinished(self._line)

    def _run(self, data: bytes, head: Head, again: bytes, end: int, group: list[M]) -> int:
        """Take frames that repeat the control line of the frame whose payload ends at `end`; return where they end.

        `again`, which is CRLF and that line, is known to be at `end`. Found at the end of the next payload too, it
        proves that frame complete; so the last frame of a run is left to the caller.
        """
        message_type, owner = self._message_type, self._owner
        append, before = group.append, len(group)
        subject, _, _, header, size = head
        period = size + len(again)
        next_end = end + period
        if data.startswith(again, end + _BULK * period):
            start = next_end - size
            frames = memoryview(data)[start : len(data) - (len(data) - start) % period]
            if header:
                for raw, payload, rest in iter_unpack(f"{header}s{size - header}s{len(again)}s", frames):
                    if rest != again:
                        break
                    message = message_type()
                    message.subject = subject
                    message.reply = None
                    message.data = payload
                    message.raw_headers = raw
                    message.owner = owner
                    append(message)
            else:
                for payload, rest in iter_unpack(f"{size}s{len(again)}s", frames):
                    if rest != again:
                        break
                    message = message_type()
                    message.subject = subject
                    message.reply = None
                    message.data = payload
                    message.raw_headers = None
                    message.owner = owner
                    append(message)
        else:
            startswith = data.startswith
            while startswith(again, next_end):
                start = next_end - size
                message = message_type()
                message.subject = subject
                message.reply = None
                message.data = data[start + header : next_end]
                message.raw_headers = data[start : start + header] if header else None
                message.owner = owner
                append(message)
                next_end += period
        count = len(group) - before
        self.messages += count
        self.payload_bytes += count * size
        return end + 2 + count * period

    def _reply_run(self, data: bytes, head: Head, line: bytes, pos: int, group: list[M]) -> int:
        """Take frames from `pos` on that differ from the last one, with `line`, in reply and size only."""
        has_headers = head[3] > 0
        route = line.rsplit(b" ", 3 if has_headers else 2)[0]
        target = self._lines.routes.get(route)
        if target is None:
            return pos
        subject = target[0]
        prefix = route + b" "
        skip = len(prefix)
        message_type, owner, longest = self._message_type, self._owner, self._lines.short
        find, startswith, append = data.find, data.startswith, group.append
        sizes, numbers = self._lines.sizes.get, self._lines.numbers.get
        header: int | None = 0
        count = size_sum = 0
        try:
            while startswith(prefix, pos):
                body = find(b"\n", pos) + 1
                raw_reply, _, raw_size = data[pos + skip : body].partition(b" ")
                if has_headers:
                    raw_header, _, raw_size = raw_size.partition(b" ")
                    header = numbers(raw_header)
                size = sizes(raw_size)
                if size is None or header is None or header > size or body - pos > longest:
                    break
                end = body + size
                if not startswith(_CRLF, end) or not raw_reply or _TAB in raw_reply or _CR in raw_reply:
                    break
                reply = raw_reply.decode()
                message = message_type()
                message.subject = subject
                message.reply = reply
                message.data = data[body + header : end]
                message.raw_headers = data[body : body + header] if header else None
                message.owner = owner
                append(message)
                count += 1
                size_sum += size
                pos = end + 2
        except UnicodeDecodeError:
            pass
        self.messages += count
        self.payload_bytes += size_sum
        return pos

    def _token_run(self, data: bytes, head: Head, stem: bytes, pos: int, group: list[M]) -> int:
        """Take frames from `pos` on that differ from the last one in size and the last token only, as replies do.

        `stem` is the last line up to the last dot of its subject.
        """
        subject = head[0]
        beginning = subject[: subject.rindex(".") + 1]
        skip = len(stem)
        sid = b" %d " % head[1]
        message_type, owner, longest = self._message_type, self._owner, self._lines.short
        find, startswith, append = data.find, data.startswith, group.append
        sizes = self._lines.sizes.get
        count = size_sum = 0
        while startswith(stem, pos):
            body = find(b"\n", pos) + 1
            token, _, raw_size = data[pos + skip : body].partition(sid)
            size = sizes(raw_size)
            # Letters and digits only: no space is in it, and it decodes.
            if size is None or not token.isalnum() or body - pos > longest:
                break
            end = body + size
            if not startswith(_CRLF, end):
                break
            message = message_type()
            message.subject = beginning + token.decode()
            message.reply = None
            message.data = data[body:end]
            message.raw_headers = None
            message.owner = owner
            append(message)
            count += 1
            size_sum += size
            pos = end + 2
        self.messages += count
        self.payload_bytes += size_sum
        return pos

    def _resume(self, data: bytes, groups: dict[int, list[M]], events: list[Event]) -> int:
        """Go on with the unfinished frame of the last feed; return how many bytes of `data` it took."""
        pos = 0
        frame = self._frame
        if frame is None:
            pos = data.find(b"\n") + 1
            if not pos:
                self._line += data
                self._lines.check_unfinished(self._line)
                return len(data)
            self._line += data[:pos]
            line = bytes(self._line)
            self._line = bytearray()
            frame = self._lines.heads.get(line) or self._lines.read(line, events)
            if frame is None:
                return pos
            self._frame, self._frame_line = frame, len(line)
        subject, sid, reply, header, size = frame
        body = self._body
        missing = size + 2 - len(body)
        body += data[pos : pos + missing]
        if len(body) < size + 2:
            return len(data)
        if not body.endswith(_CRLF):
            _bad_end(subject, size, body[size:])
        message = self._message_type()
        message.subject = subject
        message.reply = reply
        with memoryview(body) as view:
            message.data = bytes(view[header:size])
            message.raw_headers = bytes(view[:header]) if header else None
        message.owner = self._owner
        groups[sid] = [message]
        self.messages += 1
        self.payload_bytes += size
        self._frame, self._body = None, bytearray()
        return pos + missing


def _bad_end(subject: str, size: int, found: bytes | bytearray) -> NoReturn:
    raise ProtocolError(
        f"message of {size} bytes on {shorten(subject)} is not followed by CRLF but by {shorten(bytes(found))}"
    )
