"""Where in which frame each byte of a stream is: for cutting a stream there, and for telling where one was cut."""

from __future__ import annotations

from typing import NamedTuple

UP = {
    "CONNECT": ("start", "verb", "options", "line end"),
    "PING": ("start", "verb", "line end"),
    "PONG": ("start", "verb", "line end"),
    "SUB": ("start", "verb", "subject", "queue", "sid", "line end"),
    "UNSUB": ("start", "verb", "sid", "max", "line end"),
    "PUB": ("start", "verb", "subject", "reply", "size", "line end", "payload", "end"),
    "HPUB": ("start", "verb", "subject", "reply", "header size", "size", "line end", "headers", "payload", "end"),
}
DOWN = {
    "INFO": ("start", "verb", "fields", "line end"),
    "MSG": ("start", "verb", "subject", "sid", "reply", "size", "line end", "payload", "end"),
    "HMSG": (
        *("start", "verb", "subject", "sid", "reply", "header size", "size", "line end", "headers", "payload"),
        "end",
    ),
    "PING": ("start", "verb", "line end"),
    "PONG": ("start", "verb", "line end"),
    "+OK": ("start", "verb", "line end"),
    "-ERR": ("start", "verb", "text", "line end"),
}
# By verb and number of arguments.
_ARGUMENTS = {
    ("SUB", 2): ("subject", "sid"),
    ("SUB", 3): ("subject", "queue", "sid"),
    ("UNSUB", 1): ("sid",),
    ("UNSUB", 2): ("sid", "max"),
    ("PUB", 2): ("subject", "size"),
    ("PUB", 3): ("subject", "reply", "size"),
    ("HPUB", 3): ("subject", "header size", "size"),
    ("HPUB", 4): ("subject", "reply", "header size", "size"),
    ("MSG", 3): ("subject", "sid", "size"),
    ("MSG", 4): ("subject", "sid", "reply", "size"),
    ("HMSG", 4): ("subject", "sid", "header size", "size"),
    ("HMSG", 5): ("subject", "sid", "reply", "header size", "size"),
}
_TEXTS = {"CONNECT": "options", "INFO": "fields", "-ERR": "text"}


class Frame(NamedTuple):
    """A frame whose line is known: for each part the positions in the stream of its bytes.

    A stream that ends before a byte of a part was cut in that part; before the first byte of the frame, at its start.
    """

    verb: str
    parts: dict[str, range]


class Scanner:
    """Takes a stream in pieces and finds its frames, up to the first thing that is none."""

    def __init__(self) -> None:
        self._line = bytearray()
        self._at = 0  # where in the stream the line begins
        self._payload = 0  # bytes to skip before it does
        self._lost = False

    def feed(self, data: bytes) -> list[Frame]:
        """The frames whose line ends in these bytes."""
        frames = []
        rest = memoryview(data)
        while rest and not self._lost:
            if self._payload:
                skipped = min(self._payload, len(rest))
                self._payload -= skipped
                self._at += skipped
                rest = rest[skipped:]
                continue
            end = bytes(rest).find(b"\n") + 1
            self._line += rest[: end or len(rest)]
            if not end:
                break
            rest = rest[end:]
            try:
                frames.append(self._frame(bytes(self._line)))
            except (ValueError, IndexError):
                self._lost = True
            self._at += len(self._line)
            self._line.clear()
        return frames

    def _frame(self, line: bytes) -> Frame:
        at = self._at
        verb = line.split(maxsplit=1)[0].decode()
        parts = {"start": range(at, at + 1), "verb": range(at + 1, at + len(verb))}
        words = line[len(verb) :].removesuffix(b"\r\n")
        begin = at + len(verb)
        line_end = at + len(line) - 2
        if verb in _TEXTS:
            parts[_TEXTS[verb]] = range(begin, line_end)
        else:
            arguments = words.split()
            for name, word in zip(_ARGUMENTS.get((verb, len(arguments)), ()), arguments, strict=False):
                parts[name] = range(begin, begin + 1 + len(word))  # the blank before it included
                begin += 1 + len(word)
        parts["line end"] = range(line_end, line_end + 2)
        if "size" in parts:
            numbers = [int(word) for word in words.split()[-2 if "header size" in parts else -1 :]]
            headers, total = (numbers[0], numbers[1]) if len(numbers) == 2 else (0, numbers[0])
            body = line_end + 2
            if headers:
                parts["headers"] = range(body, body + headers)
            parts["payload"] = range(body + headers, body + total)
            parts["end"] = range(body + total, body + total + 2)
            self._payload = total + 2
        return Frame(verb, parts)
