"""plain and plain_bytes: what a str and a bytes are."""

from __future__ import annotations

from enum import Enum, StrEnum

import pytest

from nats_zio.protocol import BadSubjectError, Headers, checked_text, encode_headers, plain, plain_bytes


class Mixed(str, Enum):  # noqa: UP042  (it is another thing)
    ONE = "one"


class Strict(StrEnum):
    ONE = "one"


class Shy(str):
    __slots__ = ()

    def __str__(self) -> str:
        return "shown"


@pytest.mark.parametrize("text", ["one", Mixed.ONE, Strict.ONE, Shy("one")])
def test_plain_text_is_an_exact_str(text: str) -> None:
    assert plain(text) == "one"
    assert type(plain(text)) is str
    assert type(checked_text("subject", text)) is str


def test_what_is_no_text_stays_as_it_is() -> None:
    for value in (None, 5, b"one", ["one"]):
        assert plain(value) is value


@pytest.mark.parametrize("value", [None, 5, b"one", ["one"]])
def test_what_must_be_text_is_refused_with_its_name_and_value(value: object) -> None:
    with pytest.raises(BadSubjectError) as caught:
        checked_text("reply", value)  # type: ignore[arg-type]
    assert str(caught.value) == f"reply must be a str, not {type(value).__name__}: {value!r}"


class Loud(bytes):
    def __bytes__(self) -> bytes:
        return b"other"


@pytest.mark.parametrize("data", [Loud(b"ace"), bytearray(b"ace"), memoryview(b"abcdef")[::2]])
def test_plain_bytes_are_exact_bytes(data: bytes | bytearray | memoryview) -> None:
    assert plain_bytes(data) == b"ace"
    assert type(plain_bytes(data)) is bytes


def test_headers_hold_exact_text() -> None:
    headers = Headers([(Mixed.ONE, "0")])
    headers[Mixed.ONE] = [Mixed.ONE, Strict.ONE]
    headers.add(Strict.ONE, Shy("three"))
    headers[Shy("two")] = Shy("value")
    assert headers.pairs() == [("one", "one"), ("one", "one"), ("one", "three"), ("two", "value")]
    assert {type(text) for pair in headers.pairs() for text in pair} == {str}
    assert encode_headers(headers) == b"NATS/1.0\r\none: one\r\none: one\r\none: three\r\ntwo: value\r\n\r\n"


def test_headers_are_found_by_what_the_text_is() -> None:
    headers = Headers({"one": "1"})
    assert (headers[Mixed.ONE], headers.get(Shy("one")), headers.get_all(Mixed.ONE)) == ("1", "1", ["1"])
    assert headers.get(Shy("ONE"), ignore_case=True) == "1"
    assert Mixed.ONE in headers
    del headers[Shy("one")]
    assert not headers
