"""Feeding a parser and comparing what it returns with the reference reader; hypothesis strategies for streams."""

from __future__ import annotations

import json
from collections.abc import Iterable
from itertools import pairwise
from typing import Any

from hypothesis import strategies as st

from nats_zio.protocol import Err, Event, Info, Ok, Parser, Ping, Pong, RawMessage
from tests.protocol.reference import Got, Read

VERBS: dict[type, str] = {Ping: "PING", Pong: "PONG", Ok: "+OK", Err: "-ERR", Info: "INFO"}


def plain(event: Event) -> tuple[str, Any]:
    if isinstance(event, Err):
        return "-ERR", event.text
    if isinstance(event, Info):
        return "INFO", event.fields
    return VERBS[type(event)], None


class Collector:
    """A parser and everything it has returned so far."""

    def __init__(self, **limits: int) -> None:
        self.owner = object()
        self.parser = Parser(RawMessage, self.owner, **limits)
        self.groups: dict[int, list[Got]] = {}
        self.events: list[tuple[str, Any]] = []

    def feed(self, data: bytes) -> None:
        groups, events = self.parser.feed(data)
        self.take(groups, events)

    def take(self, groups: Any, events: Any) -> None:
        for sid, messages in groups.items():
            assert messages, "a group without messages"
            for message in messages:
                assert message.owner is self.owner
                got = Got(message.subject, message.reply, message.raw_headers, message.data)
                self.groups.setdefault(sid, []).append(got)
        self.events += map(plain, events)

    @property
    def result(self) -> Read:
        return self.groups, self.events


def read(chunks: Iterable[bytes], **limits: int) -> Collector:
    collector = Collector(**limits)
    for chunk in chunks:
        collector.feed(chunk)
    return collector


def cut(stream: bytes, places: Iterable[int]) -> list[bytes]:
    """`stream` in chunks that end at `places`."""
    edges = [0, *sorted(places), len(stream)]
    return [stream[start:end] for start, end in pairwise(edges)]


_TOKEN_BYTES = st.sampled_from(
    [b"a", b"foo", b"_INBOX", b"*", "ü✓".encode(), b"\xff\xfe", b"a\x0bb", b"\x01", b"x" * 40]
)
_NAMES = st.lists(_TOKEN_BYTES, min_size=1, max_size=3).map(b".".join)
_SIDS = st.sampled_from([b"1", b"2", b"33", b"007", b"123456789012345678"])
_GAPS = st.sampled_from([b" ", b" ", b" ", b"  ", b"\t", b" \t "])
_ENDS = st.sampled_from([b"\r\n", b"\r\n", b"\r\n", b"\n", b" \r\n", b"\t\n"])
_PAYLOADS = st.one_of(
    st.binary(max_size=40),
    st.sampled_from([b"", b"\r\n", b"\r", b"\n", b"MSG a 1 1\r\nx\r\n", b"PING\r\n", b"y" * 700]),
)
_BLOCKS = st.sampled_from([b"NATS/1.0\r\n\r\n", b"NATS/1.0 503\r\n\r\n", b"NATS/1.0\r\nA: b\r\n\r\n"])


@st.composite
def messages(draw: st.DrawFn) -> bytes:
    """One MSG or HMSG, in the server's form or an odd one, repeated now and then."""
    odd = draw(st.booleans())
    gap = draw(_GAPS) if odd else b" "
    end = draw(_ENDS) if odd else b"\r\n"
    parts = [draw(_NAMES), draw(_SIDS)]
    if draw(st.booleans()):
        parts.append(draw(_NAMES))
    payload = draw(_PAYLOADS)
    if draw(st.booleans()):
        block = draw(_BLOCKS)
        verb = draw(st.sampled_from([b"HMSG", b"hmsg", b"hMsg"])) if odd else b"HMSG"
        parts += [b"%d" % len(block), b"%d" % (len(block) + len(payload))]
        payload = block + payload
    else:
        verb = draw(st.sampled_from([b"MSG", b"msg", b"Msg"])) if odd else b"MSG"
        parts.append(b"%d" % len(payload))
    frame = gap.join([verb, *parts]) + end + payload + b"\r\n"
    return frame * draw(st.sampled_from([1, 1, 1, 2, 3, 20, 40]))


@st.composite
def runs(draw: st.DrawFn) -> bytes:
    """Frames on one subject that differ in their replies, and now and then in one more thing."""
    start = b" ".join([draw(_NAMES), draw(_SIDS)])
    block = draw(st.one_of(st.just(b""), _BLOCKS))
    frames = []
    for number in range(draw(st.sampled_from([3, 12, 30]))):
        payload = b"p" * (number % draw(st.integers(1, 3)))
        length = b"%d" % len(payload) if not block else b"%d %d" % (len(block), len(block + payload))
        reply = draw(
            st.sampled_from([b"_INBOX.%d ", b"_INBOX.%d ", b"_INBOX.%d ", b"\xff%d ", b"\x0b%d ", b"%d\t", b""])
        )
        line = b"%bMSG %b %b%b\r\n" % (b"H" * bool(block), start, reply and reply % number, length)
        frames.append(line + block + payload + b"\r\n")
    return b"".join(frames)


@st.composite
def replies(draw: st.DrawFn) -> bytes:
    """Frames that differ in the last token of their subject, as replies do, and now and then in one more thing."""
    stem, sid = draw(_NAMES), draw(_SIDS)
    start = draw(st.sampled_from([b"MSG ", b"MSG ", b"MSG  ", b"msg ", b"MSG\t"])) + stem + b"."
    frames = []
    for number in range(draw(st.sampled_from([3, 12, 30]))):
        payload = draw(_PAYLOADS) if draw(st.integers(0, 9)) == 0 else b"p" * (number % 3)
        token = draw(
            st.sampled_from(
                [b"%d", b"%d", b"%d", b"T%dx", b"%d.z", b"\xff%d", b"\xc3\xbc%d", b"%d\x0b", b"%d 5", b".%d"]
            )
        )
        middle = draw(st.sampled_from([b" %b ", b" %b ", b" %b ", b" 5 ", b" %b _INBOX.%b ", b" %b  ", b"\t%b\t"]))
        if b"_INBOX" in middle:
            token = b"%d"
        middle = middle.replace(b"_INBOX.%b", b"_INBOX.1").replace(b"%b", sid)
        frames.append(start + token % number + middle + b"%d\r\n" % len(payload) + payload + b"\r\n")
    return b"".join(frames)


_JSON = st.dictionaries(st.text(max_size=5), st.one_of(st.integers(), st.text(max_size=5), st.booleans()), max_size=3)
_CONTROL = st.one_of(
    st.sampled_from([
        b"PING\r\n", b"PONG\r\n", b"+OK\r\n", b"ping\n", b"PONG what ever\r\n", b"+ok go on\n", b"PINGPONG\r\n",
    ]),
    st.sampled_from([b"-ERR 'Stale Connection'\r\n", b"-err  'Permissions Violation for Publish to \"a\"' \r\n"]),
    _JSON.map(lambda fields: b"INFO " + json.dumps(fields).encode() + b"\r\n"),
    _JSON.map(lambda fields: b"info\t" + json.dumps(fields, ensure_ascii=False).encode() + b" \n"),
)  # fmt: skip

streams = st.lists(st.one_of(messages(), messages(), runs(), replies(), _CONTROL), max_size=12).map(b"".join)
