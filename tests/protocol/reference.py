"""Slow, plain readers of the protocol in both directions, to compare the real ones with.

They share nothing with the package: whole streams only, one regular expression per line, no tables, no state.
"""

from __future__ import annotations

import json
import re
from typing import Any, NamedTuple

NAME = rb"([^ \t\r\n]+)"
FROM_SERVER = re.compile(
    rb"(?P<msg>MSG)[ \t]+" + NAME + rb"[ \t]+(\d+)(?:[ \t]+" + NAME + rb")?[ \t]+(\d+)[ \t]*\r?\n"
    rb"|(?P<hmsg>HMSG)[ \t]+" + NAME + rb"[ \t]+(\d+)(?:[ \t]+" + NAME + rb")?[ \t]+(\d+)[ \t]+(\d+)[ \t]*\r?\n"
    rb"|(?P<other>PING|PONG|\+OK|-ERR|INFO)([^\n]*)\n",
    re.IGNORECASE,
)
COMMAND = re.compile(
    rb"PUB " + NAME + rb"(?: " + NAME + rb")? (\d+)\r\n"
    rb"|HPUB " + NAME + rb"(?: " + NAME + rb")? (\d+) (\d+)\r\n"
    rb"|(SUB|UNSUB|CONNECT|PING|PONG)([^\r\n]*)\r\n"
)


class Got(NamedTuple):
    """One message as the tests compare it."""

    subject: str
    reply: str | None
    raw_headers: bytes | None
    data: bytes


Read = tuple[dict[int, list[Got]], list[tuple[str, Any]]]


def text(raw: bytes) -> str:
    return raw.decode("utf-8", "surrogateescape")


def read_from_server(stream: bytes) -> Read:
    """Every frame of a valid and complete stream: messages by sid, and events as (verb, content)."""
    groups: dict[int, list[Got]] = {}
    events: list[tuple[str, Any]] = []
    pos = 0
    while pos < len(stream):
        found = FROM_SERVER.match(stream, pos)
        assert found is not None, stream[pos : pos + 80]
        pos = found.end()
        if found["other"]:
            verb = found["other"].decode().upper()
            content = found[13].strip()
            if verb == "-ERR":
                events.append((verb, content.decode()[1:-1]))
            elif verb == "INFO":
                events.append((verb, json.loads(content)))
            else:
                events.append((verb, None))
            continue
        if found["msg"]:
            subject, sid, reply, size = found.groups()[1:5]
            header = b"0"
        else:
            subject, sid, reply, header, size = found.groups()[6:11]
        body, pos = stream[pos : pos + int(size)], pos + int(size)
        assert stream[pos : pos + 2] == b"\r\n", stream[pos : pos + 80]
        pos += 2
        raw = body[: int(header)] if int(header) else None
        got = Got(text(subject), None if reply is None else text(reply), raw, body[int(header) :])
        groups.setdefault(int(sid), []).append(got)
    return groups, events


def read_command(frame: bytes) -> tuple[Any, ...]:
    """One complete command of a client, strictly as the grammar has it."""
    found = COMMAND.match(frame)
    assert found is not None, frame
    if found[8]:
        assert found.end() == len(frame), frame
        return (found[8].decode(), *text(found[9]).split())
    if found[3]:
        subject, reply, header, size = found[1], found[2], 0, int(found[3])
    else:
        subject, reply, header, size = found[4], found[5], int(found[6]), int(found[7])
    body = frame[found.end() : -2]
    assert frame.endswith(b"\r\n")
    assert len(body) == size
    return ("PUB", text(subject), None if reply is None else text(reply), body[:header], body[header:])
