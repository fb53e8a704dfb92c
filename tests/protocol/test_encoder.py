"""What the encoder writes, read back by the strict reference reader of commands."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nats_zio.protocol import PING, PONG, encode_headers, encoder
from tests.protocol.reference import read_command

TOKENS = st.text(
    st.characters(exclude_categories=["Cs", "Cc", "Z"], exclude_characters=".\x7f"), min_size=1, max_size=8
)
SUBJECTS = st.lists(TOKENS, min_size=1, max_size=3).map(".".join)


@given(SUBJECTS, st.none() | SUBJECTS, st.binary(max_size=200), st.none() | st.just({"A": "b", "C": ["d", "é"]}))
def test_messages_read_back(subject: str, reply: str | None, data: bytes, headers: dict[str, str] | None) -> None:
    raw = None if headers is None else encode_headers(headers)
    line, body = encoder.pub(subject, reply, data, raw)
    assert read_command(line + b"\r\n" + body + b"\r\n") == ("PUB", subject, reply, raw or b"", data)
    assert line.startswith(b"PUB " if raw is None else b"HPUB ")


@given(SUBJECTS, st.integers(0, encoder.MAX_KNOWN_SIZE))
def test_the_prefix_and_the_size_make_the_same_line(subject: str, size: int) -> None:
    assert encoder.pub_prefix(subject) + encoder.SIZES[size] == encoder.pub(subject, None, bytes(size))[0]


@given(SUBJECTS, st.none() | TOKENS, st.integers(1, 10**18))
def test_subscriptions_read_back(subject: str, queue: str | None, sid: int) -> None:
    expected = ("SUB", subject, str(sid)) if queue is None else ("SUB", subject, queue, str(sid))
    assert read_command(encoder.sub(subject, queue, sid)) == expected


def test_an_empty_header_block_makes_a_pub() -> None:
    assert encoder.pub("a", "b", b"xy", b"") == (b"PUB a b 2", b"xy")
    assert encoder.pub("a", None, b"", b"NATS/1.0\r\n\r\n") == (b"HPUB a 12 12", b"NATS/1.0\r\n\r\n")


def test_unsub_with_and_without_a_limit() -> None:
    assert encoder.unsub(7) == b"UNSUB 7\r\n"
    assert encoder.unsub(7, 3) == b"UNSUB 7 3\r\n"
    assert encoder.unsub(7, 0) == b"UNSUB 7 0\r\n"


def test_ping_and_pong() -> None:
    assert read_command(PING) == ("PING",)
    assert read_command(PONG) == ("PONG",)


def connect_fields(frame: bytes) -> object:
    assert frame.startswith(b"CONNECT {")
    assert frame.endswith(b"}\r\n")
    assert frame.count(b"\n") == 1
    return json.loads(frame[8:])


@pytest.mark.parametrize("field", ["verbose", "pedantic", "echo"])
def test_connect_always_says_what_the_server_would_take_for_true(field: str) -> None:
    defaults = {"verbose": False, "pedantic": False, "echo": True}
    assert connect_fields(encoder.connect({})) == defaults
    assert connect_fields(encoder.connect({field: None})) == defaults
    changed = not defaults[field]
    assert connect_fields(encoder.connect({field: changed})) == {**defaults, field: changed}


def test_connect_is_one_line_whatever_is_in_it_and_leaves_none_out() -> None:
    fields = {"name": 'zoë\r\n\u2028"', "user": None, "protocol": 1, "echo": False}
    given = connect_fields(encoder.connect(fields))
    assert given == {"verbose": False, "pedantic": False, "echo": False, "name": fields["name"], "protocol": 1}
