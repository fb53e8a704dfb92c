"""Single rules of the parser: what it accepts, what it refuses, what it holds, and that its work is linear."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nats_zio.protocol import Err, Info, Ok, Parser, Ping, Pong, ProtocolError, RawMessage
from nats_zio.protocol import parser as parser_module
from tests.protocol.reference import Got
from tests.protocol.streams import Collector, read


def messages_of(stream: bytes, **limits: int) -> dict[int, list[Got]]:
    return read([stream], **limits).groups


# --- what comes out ---


def test_messages_are_of_the_class_given_and_carry_the_owner() -> None:
    class Message(RawMessage):
        __slots__ = ("extra",)

    owner = object()
    groups, events = Parser(Message, owner).feed(b"MSG a.b 7 3\r\nxyz\r\nHMSG a 7 r 12 14\r\nNATS/1.0\r\n\r\nhi\r\n")
    assert events == []
    first, second = groups[7]
    assert type(first) is Message
    assert (first.subject, first.reply, first.data, first.raw_headers) == ("a.b", None, b"xyz", None)
    assert (second.subject, second.reply, second.data, second.raw_headers) == ("a", "r", b"hi", b"NATS/1.0\r\n\r\n")
    assert first.owner is second.owner is owner
    assert not hasattr(first, "extra")


def test_a_header_block_of_length_zero_is_no_header_block() -> None:
    assert messages_of(b"HMSG a 1 0 2\r\nhi\r\n") == {1: [Got("a", None, None, b"hi")]}


def test_events_come_in_order() -> None:
    _, events = Parser(RawMessage).feed(b"PING\r\n+OK\r\nPONG\r\n-ERR 'Bad Thing'\r\nINFO {\"port\":1}\r\nPING\r\n")
    assert events == [Ping(), Ok(), Pong(), Err("Bad Thing"), Info({"port": 1}), Ping()]
    assert events[0] is events[-1]


@pytest.mark.parametrize(
    ("line", "text"),
    [
        (b"-ERR 'Stale Connection'\r\n", "Stale Connection"),
        (b"-err\t  'Stale Connection'  \n", "Stale Connection"),
        (b"-ERR no quotes\r\n", "no quotes"),
        (b"-ERR\r\n", ""),
        (b"-ERR '\r\n", "'"),
        (b"-ERR 'it's 'quoted''\r\n", "it's 'quoted'"),
        (b"-ERR 'caf\xc3\xa9 \xff'\r\n", "café \\xff"),
    ],
)
def test_the_text_of_err_is_stripped_of_its_quotes(line: bytes, text: str) -> None:
    assert read([line]).events == [("-ERR", text)]


def test_a_subject_that_is_not_utf8_can_be_encoded_back() -> None:
    stream = b"MSG a.\xff\xfe 1 b\xff 2\r\nhi\r\n"
    for _ in range(2):
        [got] = messages_of(stream * 1)[1]
        assert got.subject.encode("utf-8", "surrogateescape") == b"a.\xff\xfe"
        assert got.reply is not None
        assert got.reply.encode("utf-8", "surrogateescape") == b"b\xff"


def test_a_bytearray_that_is_changed_later_does_not_change_messages() -> None:
    data = bytearray(b"MSG a 1 3\r\nxyz\r\n")
    groups, _ = Parser(RawMessage).feed(bytes(data))
    data[:] = b"?" * len(data)
    assert groups[1][0].data == b"xyz"


# --- lenient in form ---


@pytest.mark.parametrize(
    "line",
    [
        b"MSG a 1 2\r\n",
        b"msg a 1 2\r\n",
        b"mSg a 1 2\n",
        b"MSG  a \t 1\t2\r\n",
        b"MSG\ta\t1\t2 \t\r\n",
        b"MSG a 1  2\r\n",
        b"MSG a 01 002\r\n",
    ],
)
def test_message_lines_may_be_written_in_other_ways(line: bytes) -> None:
    """Before and after the tables know the parts of the line."""
    usual = b"MSG a 1 2\r\nhi\r\n"
    want = Got("a", None, None, b"hi")
    assert messages_of(line + b"hi\r\n") == {1: [want]}
    assert messages_of(usual * 20 + (line + b"hi\r\n") * 3 + usual) == {1: [want] * 24}
    replied = b"MSG a 1 r 2\r\nhi\r\n" * 20
    assert messages_of(replied + line + b"hi\r\n")[1][20:] == [want]


@pytest.mark.parametrize(
    "line", [b"PING\r\n", b"PING\n", b"ping\r\n", b"PiNg all is well\r\n", b"PING \t\r\n", b"PINGS\n"]
)
def test_text_after_ping_is_skipped(line: bytes) -> None:
    assert read([line + b"PONG\r\n"]).events == [("PING", None), ("PONG", None)]


@pytest.mark.parametrize(
    "lines",
    [
        [b"MSG a 1\t2\r\n", b"MSG a 1 1\t2\r\n"],
        [b"MSG a 1 2 \r\n", b"MSG a 1  \r\n"],
        [b"MSG a 1 r\t2\r\n", b"MSG a 1 r\t2\r\n"],
        [b"MSG a 1\tr 2\r\n", b"MSG a 1\tr 2\r\n", b"MSG a 7 2\r\n"],
        [b"MSG a 1 r 2\n", b"MSG a 1 r 2\r\n"],
        [b"MSG a 0000000001 r 2\r\n", b"HMSG a 1 0000000001 2\r\n"],
    ],
)
def test_odd_lines_do_not_teach_the_tables_anything_wrong(lines: list[bytes]) -> None:
    """Each line means the same at its first and at any later sight, and to a parser that has not seen the others."""
    expected: dict[int, list[Got]] = {}
    for line in lines * 2:
        try:
            groups = messages_of(line + b"hi\r\n")
        except ProtocolError:
            break
        for sid, messages in groups.items():
            expected.setdefault(sid, []).extend(messages)
    collector = Collector()
    collector.feed(USUAL * 20)
    collector.groups.clear()
    try:
        collector.feed(b"".join(line + b"hi\r\n" for line in lines * 2))
    except ProtocolError as error:
        collector.take(error.messages, error.events)
    assert collector.groups == expected


def test_control_characters_that_are_no_separators_belong_to_the_subject() -> None:
    """Another client may publish them, and a wildcard subscription must survive that."""
    usual = b"MSG a 1 b 2\r\nhi\r\n" * 20
    odd = b"MSG a\x0b\x0cb\x85 1 \x0bre\x0c 2\r\nhi\r\n" * 3
    assert messages_of(usual + odd)[1][20:] == [Got("a\x0b\x0cb\udc85", "\x0bre\x0c", None, b"hi")] * 3


def test_sids_may_be_longer_than_sizes() -> None:
    assert messages_of(b"MSG a 123456789012345678 2\r\nhi\r\n" * 2).keys() == {123456789012345678}


# --- strict in everything that decides where the next frame begins ---

REPLIES = b"MSG a 1 r 2\r\nhi\r\n" * 20
REPLIES_WITH_HEADERS = b"HMSG a 1 r 12 14\r\nNATS/1.0\r\n\r\nhi\r\n" * 20
USUAL = b"".join(
    line + body + b"\r\n"
    for line, body in [
        (b"MSG a 1 2\r\n", b"hi"),
        (b"HMSG a 1 12 14\r\n", b"NATS/1.0\r\n\r\nhi"),
        (b"HMSG a 1 r 12 14\r\n", b"NATS/1.0\r\n\r\nhi"),
        (b"MSG a 1 14\r\n", b"NATS/1.0\r\n\r\nhi"),
        (b"MSG b 14 2\r\n", b"hi"),
        (b"MSG b 15 2\r\n", b"hi"),
        (b"MSG a 1 r 2\r\n", b"hi"),
        (b"MSG a 1 r 2\r\n", b"hi"),
    ]
)


@pytest.mark.parametrize(
    ("stream", "says"),
    [
        (b"\r\n", "unknown protocol operation: b'\\r\\n'"),
        (b"HTTP/1.1 400 Bad Request\r\n", "unknown protocol operation: b'HTTP/"),
        (b" PING\r\n", "unknown"),
        (b"MESSAGE a 1 2\r\n", "unknown"),
        (b"MSG\r\n", "unknown"),
        (b"MSG \r\n", "malformed"),
        (b"MSG a 1\r\n", "malformed"),
        (b"MSG a 2\r\nhi\r\n", "malformed"),
        (b"MSG  1 2\r\nhi\r\n", "malformed"),
        (b"MSG  1 r 2\r\nhi\r\n", "malformed"),
        (b"MSG a 1 r x 2\r\nhi\r\n", "malformed"),
        (b"MSG a b 2\r\nhi\r\n", "malformed"),
        (b"MSG a -1 2\r\nhi\r\n", "malformed"),
        (b"MSG a +1 2\r\nhi\r\n", "malformed"),
        (b"MSG a 1 -2\r\nhi\r\n", "malformed"),
        (b"MSG a 1 +2\r\nhi\r\n", "malformed"),
        (b"MSG a 1 1_0\r\n", "malformed"),
        (b"MSG a 1 0x2\r\nhi\r\n", "malformed"),
        (b"MSG a 1 2.0\r\nhi\r\n", "malformed"),
        (b"MSG a 1 \xd9\xa2\r\nhi\r\n", "malformed"),
        (b"MSG a 1 1234567890\r\n", "malformed"),
        (b"MSG a 1 0000000002\r\nhi\r\n", "malformed"),
        (b"MSG a 1234567890123456789 2\r\nhi\r\n", "malformed"),
        (b"MSG a\rb 1 2\r\nhi\r\n", "malformed"),
        (b"MSG a 1 r\rs 2\r\nhi\r\n", "malformed"),
        (b"MSG a 1 r\ts 2\r\nhi\r\n", "malformed"),
        (b"MSG a 1 2\r\r\nhi\r\n", "malformed"),
        (b"MSG a 1 999999999\r\n", "exceeds 134217728"),
        (b"HMSG a 1 2\r\n", "malformed"),
        (b"HMSG a 1 r s 12 14\r\n", "malformed"),
        (b"HMSG a 1 15 14\r\n", "header length 15 exceeds total length 14"),
        (b"HMSG a 1 14 12\r\n", "header length 14 exceeds total length 12"),
        (b"HMSG a 1 -1 14\r\n", "malformed"),
        (b"HMSG a 1 0000000012 14\r\n", "malformed"),
        (b"MSG a 1 r 2\r\nhi!\r\n", "not followed by CRLF"),
        (b"HMSG a 1 r 15 14\r\n", "header length 15 exceeds total length 14"),
        (b"HMSG a 1 r 14 2\r\nNATS/1.0\r\n\r\nhi\r\n", "header length 14 exceeds total length 2"),
        (b"HMSG a 1 r 14 2\r\nhi\r\n", "header length 14 exceeds total length 2"),
        (b"HMSG a 1 14 2\r\nNATS/1.0\r\n\r\nhi\r\n", "header length 14 exceeds total length 2"),
        (b"MSG a 1 2\r\nhi!\r\n", "not followed by CRLF but by b'!\\r'"),
        (b"MSG a 1 2\r\nhi\n\n", "not followed by CRLF"),
        (b"MSG a 1 2\r\nh\r\nPING\r\n", "not followed by CRLF but by b'\\nP'"),
        (b"HMSG a 1 12 14\r\nNATS/1.0\r\n\r\nhi\n\r", "not followed by CRLF"),
        (b"INFO\r\n", "unknown"),
        (b"INFO {\r\n", "not JSON"),
        (b"INFO \r\n", "not JSON"),
        (b"INFO []\r\n", "not a JSON object"),
        (b'INFO {"a":"\xff"}\r\n', "not JSON"),
        (b"INFO " + b"[" * 100_000 + b"\r\n", "not JSON"),
        (b'INFO {"a":' + b"1" * 5000 + b"}\r\n", "not JSON"),
    ],
)
def test_illegal_bytes_are_refused_with_their_reason(stream: bytes, says: str) -> None:
    """By a fresh parser, by one whose tables are full of valid lines, and byte by byte."""
    for before in b"", USUAL * 20, USUAL * 20 + REPLIES, USUAL * 20 + REPLIES_WITH_HEADERS:
        with pytest.raises(ProtocolError) as caught:
            Parser(RawMessage).feed(before + stream)
        assert says in str(caught.value)
        assert len(str(caught.value)) < 500
    with pytest.raises(ProtocolError):
        read(bytes([byte]) for byte in stream)


def test_what_was_complete_before_the_illegal_bytes_is_not_lost() -> None:
    collector = Collector()
    with pytest.raises(ProtocolError) as caught:
        collector.feed(b"PING\r\nMSG a 1 2\r\nhi\r\nMSG a 1 2\r\nho\r\nMSG a x 2\r\nhi\r\nMSG a 1 2\r\nno\r\n")
    collector.take(caught.value.messages, caught.value.events)
    assert collector.groups == {1: [Got("a", None, None, b"hi"), Got("a", None, None, b"ho")]}
    assert collector.events == [("PING", None)]
    assert collector.parser.messages == 2
    assert collector.parser.payload_bytes == 4


def test_a_frame_completed_by_the_feed_that_fails_is_not_lost() -> None:
    collector = Collector()
    collector.feed(b"MSG a 1 5\r\nhel")
    with pytest.raises(ProtocolError) as caught:
        collector.feed(b"lo\r\nwhat?\r\n")
    collector.take(caught.value.messages, caught.value.events)
    assert collector.groups == {1: [Got("a", None, None, b"hello")]}


def test_a_parser_that_has_failed_fails_for_ever_and_gives_nothing_twice() -> None:
    parser = Parser(RawMessage)
    with pytest.raises(ProtocolError, match="what"):
        parser.feed(b"MSG a 1 2\r\nhi\r\nwhat?\r\n")
    assert parser.buffered == 0
    for data in b"PING\r\n", b"":
        with pytest.raises(ProtocolError, match="what") as caught:
            parser.feed(data)
        assert not caught.value.messages
        assert not caught.value.events


def test_a_parser_that_was_interrupted_does_not_go_on() -> None:
    """A KeyboardInterrupt may strike anywhere; the bytes of that feed are gone, so the stream is."""

    class Interrupted(RawMessage):
        __slots__ = ()

        def __init__(self) -> None:
            raise KeyboardInterrupt

    parser = Parser(Interrupted)
    with pytest.raises(KeyboardInterrupt):
        parser.feed(b"MSG a 1 2\r\nhi\r\n")
    with pytest.raises(ProtocolError, match="KeyboardInterrupt"):
        parser.feed(b"PING\r\n")


# --- bounds ---


def test_another_protocol_is_recognised_before_its_line_ends() -> None:
    """A MySQL or TLS server never sends a line end; waiting for it would end in a timeout without a reason."""
    with pytest.raises(ProtocolError, match="unknown protocol operation"):
        Parser(RawMessage).feed(b"\x16\x03\x01\x02\x00")


@pytest.mark.parametrize("start", [b"MSG a", b"HMSG ", b"-ERR ", b"PING ", b"+OK", b"msg "])
@pytest.mark.parametrize("size", [1, 7, 5000])
def test_a_line_without_end_is_refused_at_the_limit(start: bytes, size: int) -> None:
    collector = Collector(max_line=1000)
    collector.feed(start)
    for _ in range((999 - len(start)) // size):
        collector.feed(b"x" * size)
        assert collector.parser.buffered < 1000
    with pytest.raises(ProtocolError, match="control line of more than 1000 bytes"):
        collector.feed(b"x" * size)


@pytest.mark.parametrize("line", [b"MSG a 1 %s 2\r\n", b"HMSG a 1 %s 2 2\r\n", b"PING %s\r\n", b"-ERR '%s'\r\n"])
def test_a_line_of_the_limit_is_read_and_one_byte_more_refused(line: bytes) -> None:
    fits = line % (b"x" * (200 - len(line % b"")))
    assert len(fits) == 200
    for chunks in [fits], [fits[:-1], fits[-1:]], [fits[:100], fits[100:]]:
        read(chunks, max_line=200)
        with pytest.raises(ProtocolError, match="more than 199 bytes"):
            read(chunks, max_line=199)
    for usual in REPLIES, REPLIES_WITH_HEADERS, USUAL:
        with pytest.raises(ProtocolError, match="more than 199 bytes"):
            read([USUAL * 20 + usual + fits + b"12\r\n"], max_line=199)


def test_info_may_be_longer_than_other_lines() -> None:
    line = b"INFO " + json.dumps({"connect_urls": ["127.0.0.1:4222"] * 20_000}).encode() + b"\r\n"
    assert len(line) > 5 * 65536
    assert read([line[:100_000], line[100_000:]]).events[0][0] == "INFO"
    with pytest.raises(ProtocolError, match="more than 1048576 bytes"):
        read([b"INFO ", *[b"x" * 65536] * 20])


def test_a_payload_larger_than_max_payload_is_refused_by_its_line() -> None:
    assert messages_of(b"MSG a 1 10\r\n0123456789\r\n", max_payload=10)
    with pytest.raises(ProtocolError, match="message of 11 bytes exceeds 10"):
        read([b"MSG a 1 11\r\n"], max_payload=10)


def test_what_is_held_is_counted() -> None:
    parser = Parser(RawMessage)
    assert parser.buffered == 0
    for data, held, last in [
        (b"MSG a", 5, 0),
        (b" 1 5\r\n", 11, 0),
        (b"he", 13, 0),
        (b"llo\r", 17, 0),
        (b"\n", 0, 18),
        (b"PING\r\nPON", 3, 6),
        (b"", 3, 0),
        (b"G\r\n", 0, 6),
    ]:
        parser.feed(data)
        assert (parser.buffered, parser.last_bytes) == (held, last), data


@given(st.lists(st.binary(max_size=300), max_size=20))
def test_garbage_is_refused_or_held_within_the_limits(chunks: list[bytes]) -> None:
    parser = Parser(RawMessage, max_line=64, max_info=128, max_payload=100)
    for chunk in chunks:
        try:
            parser.feed(chunk)
        except ProtocolError:
            assert parser.buffered == 0
            return
        assert parser.buffered <= 128 + 100 + 2


@given(st.lists(st.sampled_from([b"MSG ", b"HMSG", b" ", b"a", b"1", b"5", b"12", b"\r\n", b"\n", b"\r", b"PING", b"\t",
                                 b"INFO {", b"}", b"-ERR ", b"hello", b"NATS/1.0\r\n\r\n", b"999999999", b"-"]),
                max_size=40), st.integers(1, 5))  # fmt: skip
def test_shuffled_pieces_of_frames_have_one_meaning_however_cut(pieces: list[bytes], size: int) -> None:
    """The same messages and the same verdict, in one feed and in small chunks, with tables empty and filled."""
    stream = b"".join(pieces)

    def run(chunks: list[bytes], before: bytes = b"") -> tuple[object, bool]:
        collector = Collector(max_payload=1000)
        collector.feed(before)
        collector.groups.clear()
        for chunk in chunks:
            try:
                collector.feed(chunk)
            except ProtocolError as error:
                collector.take(error.messages, error.events)
                return collector.result, True
        return collector.result, False

    verdict = run([stream])
    assert verdict == run([stream[pos : pos + size] for pos in range(0, len(stream), size)])
    assert verdict == run([stream], USUAL * 20)


def test_the_tables_do_not_grow_without_bound() -> None:
    parser = Parser(RawMessage)
    for number in range(60_000):
        parser.feed(b"MSG s.%d %d 2\r\nhi\r\nMSG s.%d %d r 2\r\nhi\r\n" % ((number, number) * 2))
    lines = parser._lines
    for table in lines.heads, lines.routes, lines.numbers, lines.sizes:
        assert len(table) <= 4096


# --- work ---


class Work:
    """How many calls the parser makes on the bytes it holds, and how many bytes these look at or copy."""

    def __init__(self) -> None:
        self.units = 0

    def counting(self, kind: type) -> Any:
        """A subclass of bytes or bytearray that counts here."""
        work = self

        def counted(name: str) -> Any:
            plain = getattr(kind, name)

            def call(this: Any, *args: Any) -> Any:
                result = plain(this, *args)
                work.units += 1 + cost(this, name, args, result)
                return type(this)(result) if type(result) is bytearray else result

            return call

        def cost(this: Any, name: str, args: tuple[Any, ...], result: Any) -> int:
            if name in {"find", "index", "rfind"}:
                begin = args[1] if len(args) > 1 else 0
                return int(result if result >= 0 else len(this)) - begin
            if name in {"startswith", "endswith", "__iadd__"}:
                return len(args[0])
            return len(result) if isinstance(result, (bytes, bytearray)) else 0

        names = ["find", "rfind", "index", "startswith", "endswith", "__getitem__", "__add__"]
        names += ["__iadd__"] if kind is bytearray else []
        return type(f"counting_{kind.__name__}", (kind,), {name: counted(name) for name in names})


def work_of(chunks: list[bytes], monkeypatch: pytest.MonkeyPatch) -> int:
    work = Work()
    chunk_type = work.counting(bytes)

    def copied(source: Any) -> bytes:
        work.units += 1 + len(source)
        return bytes(source)

    with monkeypatch.context() as patch:
        patch.setattr(parser_module, "bytearray", work.counting(bytearray), raising=False)
        patch.setattr(parser_module, "bytes", copied, raising=False)
        parser = Parser(RawMessage, max_line=1 << 22)
        for chunk in chunks:
            groups, _ = parser.feed(chunk_type(chunk))
            work.units += sum(map(len, groups.values()))
    return work.units


@pytest.mark.parametrize(
    "make",
    [
        pytest.param(lambda n: [b"MSG a 1 r"] + [b"x"] * 4 * n, id="a long line, byte by byte"),
        pytest.param(lambda n: [b"MSG a 1 90000000\r\n"] + [b"x" * 256] * n, id="a large payload in chunks"),
        pytest.param(lambda n: [b"MSG a 1 90000000\r\n"] + [b"\n"] * n, id="a payload of line ends, byte by byte"),
        pytest.param(lambda n: [b"MSG a 1 1\r\nx\r\n" * n], id="many messages in one chunk"),
        pytest.param(lambda n: [b"MSG a 1 1\r\nx\r\nMSG b 1 1\r\nx\r\n" * n], id="alternating messages in one chunk"),
        pytest.param(lambda n: [b"MSG a 1 r 1\r\nx\r\n" * n + b"MSG a 1 90000000\r\n"], id="a run, then a large frame"),
    ],
)
def test_work_is_linear(make, monkeypatch: pytest.MonkeyPatch) -> None:
    """Eight times the input takes eight times the work: counted, in calls and in bytes looked at or copied."""
    small, large = work_of(make(500), monkeypatch), work_of(make(4_000), monkeypatch)
    assert small >= 500
    assert large <= 8 * small + 1000
