"""Headers as a mapping, what may be sent, and how much is forgiven in what is received."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nats_zio.protocol import Error, HeaderError, Headers, Status, decode_headers, decode_status, encode_headers

KEYS = st.text(st.characters(min_codepoint=33, max_codepoint=126, exclude_characters=":"), min_size=1, max_size=8)
VALUES = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\r\n"), max_size=12).map(
    lambda value: value.strip(" \t")
)
PAIRS = st.lists(st.tuples(KEYS, VALUES), max_size=6)


# --- the mapping ---


def test_the_first_value_stands_for_a_key() -> None:
    headers = Headers([("A", "1"), ("B", "2"), ("A", "3")])
    assert headers["A"] == "1"
    assert headers.get("A") == "1"
    assert headers.get_all("A") == ["1", "3"]
    assert dict(headers) == {"A": "1", "B": "2"}
    assert list(headers) == ["A", "B"]
    assert len(headers) == 2
    assert headers.pairs() == [("A", "1"), ("A", "3"), ("B", "2")]


def test_missing_keys() -> None:
    headers = Headers()
    assert headers.get("A") is None
    assert headers.get("A", "x") == "x"
    assert headers.get("A", 5, ignore_case=True) == 5
    assert headers.get_all("A") == []
    assert "A" not in headers
    with pytest.raises(KeyError):
        headers["A"]
    with pytest.raises(KeyError):
        del headers["A"]
    assert not headers


def test_case_is_kept_and_matters_unless_asked_otherwise() -> None:
    headers = Headers({"Nats-Id": "1", "nats-id": "2"})
    assert headers["Nats-Id"] == "1"
    assert headers["nats-id"] == "2"
    assert "NATS-ID" not in headers
    assert headers.get("NATS-ID") is None
    assert headers.get("NATS-ID", ignore_case=True) == "1"
    assert headers.get("nats-id", ignore_case=True) == "2", "an exact match goes first"
    assert headers.get_all("NATS-ID", ignore_case=True) == ["1", "2"]


def test_setting_replaces_all_values_and_adding_appends() -> None:
    headers = Headers({"A": ["1", "2"]})
    headers.add("A", "3")
    assert headers.get_all("A") == ["1", "2", "3"]
    headers["A"] = "4"
    assert headers.get_all("A") == ["4"]
    headers["A"] = ["5", "6"]
    assert headers.get_all("A") == ["5", "6"]
    headers["A"] = []
    assert "A" not in headers
    headers.update({"B": "1"})
    del headers["B"]
    assert headers == {}


@pytest.mark.parametrize(
    "source",
    [
        {"A": ["1", "2"], "B": "3"},
        {"A": ("1", "2"), "B": ["3"]},
        [("A", "1"), ("B", "3"), ("A", "2")],
        (pair for pair in [("A", "1"), ("A", "2"), ("B", "3")]),
        Headers({"A": ["1", "2"], "B": "3"}),
    ],
)
def test_headers_are_made_from_mappings_pairs_and_headers(source) -> None:
    assert Headers(source).pairs() == [("A", "1"), ("A", "2"), ("B", "3")]


def test_headers_share_nothing_with_what_they_were_made_of() -> None:
    values = ["1"]
    first = Headers({"A": values})
    second = first.copy()
    values.append("2")
    second.add("A", "3")
    first.get_all("A").append("4")
    assert first.pairs() == [("A", "1")]


def test_equality_is_that_of_all_values() -> None:
    assert Headers({"A": "1", "B": "2"}) == Headers([("B", "2"), ("A", "1")])
    assert Headers({"A": "1"}) == {"A": "1"} == Headers({"A": ["1"]})
    assert Headers({"A": ["1", "2"]}) != Headers({"A": ["2", "1"]})
    assert Headers({"A": ["1", "2"]}) != {"A": "1"}
    assert Headers({"A": "1"}) != Headers({"a": "1"})
    assert Headers({"A": "1"}) != {"A": 1}
    assert Headers() != "A"
    with pytest.raises(TypeError):
        hash(Headers())


def test_repr_shows_all_values() -> None:
    assert repr(Headers({"A": "1", "B": ["2", "3"]})) == "Headers({'A': '1', 'B': ['2', '3']})"


@pytest.mark.parametrize(
    "source", [{"A": 1}, {"A": None}, {"A": [1]}, {"A": b"1"}, {1: "a"}, [("A", 1)], ["A"], [1], 5]
)
def test_only_text_goes_into_headers(source) -> None:
    with pytest.raises((HeaderError, TypeError)):
        Headers(source)


# --- what is sent ---


@given(PAIRS)
def test_what_is_encoded_is_decoded(pairs: list[tuple[str, str]]) -> None:
    headers = Headers(pairs)
    raw = encode_headers(headers)
    if not pairs:
        assert raw == b""
        return
    assert raw.startswith(b"NATS/1.0\r\n")
    assert raw.endswith(b"\r\n\r\n")
    decoded, status = decode_headers(raw)
    assert decoded == headers
    assert decoded.pairs() == headers.pairs()
    assert status is None


def test_the_block_on_the_wire() -> None:
    assert encode_headers({"A": "1", "B": ["2", ""]}) == b"NATS/1.0\r\nA: 1\r\nB: 2\r\nB: \r\n\r\n"
    assert encode_headers([("A", "é")]) == "NATS/1.0\r\nA: é\r\n\r\n".encode()
    assert encode_headers({}) == encode_headers({"A": []}) == b""


@pytest.mark.parametrize("key", ["", " ", "A B", "A:", ":", "A\r\n", "A\n", "é", "A\x00", "A\x7f", "\t"])
def test_bad_keys_are_refused_by_name(key: str) -> None:
    with pytest.raises(HeaderError, match="printable ASCII") as caught:
        encode_headers({"Good": "1", key: "x"})
    assert repr(key) in str(caught.value)


@pytest.mark.parametrize("value", ["\r", "\n", "a\r\nEvil: 1", "a\nb", "\r\n\r\nMSG"])
def test_values_cannot_inject_lines(value: str) -> None:
    with pytest.raises(HeaderError, match="must not have CR or LF") as caught:
        encode_headers({"Key": ["fine", value]})
    assert "'Key'" in str(caught.value)
    assert repr(value) in str(caught.value)


@pytest.mark.parametrize("value", [" a", "a ", "\ta", "a\t", " "])
def test_values_that_would_arrive_shortened_are_refused(value: str) -> None:
    with pytest.raises(HeaderError, match="begin or end with space or tab"):
        encode_headers({"Key": value})


def test_values_that_are_no_text_are_refused() -> None:
    for value in 1, None, b"x", b"", ["a", 1], [b"x"], {"a"}:
        with pytest.raises(HeaderError, match="'Key'"):
            encode_headers({"Key": value})  # type: ignore[arg-type]
    with pytest.raises(HeaderError, match="UTF-8"):
        encode_headers({"Key": "\ud800"})


def test_header_errors_are_value_errors_of_the_package() -> None:
    assert issubclass(HeaderError, Error)
    assert issubclass(HeaderError, ValueError)


def test_long_values_are_cut_in_messages() -> None:
    with pytest.raises(HeaderError) as caught:
        encode_headers({"Key": "x" * 100_000 + "\n"})
    assert len(str(caught.value)) < 300


# --- what is received ---


@pytest.mark.parametrize(
    ("raw", "pairs"),
    [
        (b"NATS/1.0\r\n\r\n", []),
        (b"NATS/1.0\r\nA: 1\r\n\r\n", [("A", "1")]),
        (b"NATS/1.0\r\nA:1\r\n\r\n", [("A", "1")]),
        (b"NATS/1.0\r\nA: \t 1 2 \t\r\n\r\n", [("A", "1 2")]),
        (b"NATS/1.0\r\nA:\r\nB: \r\n\r\n", [("A", ""), ("B", "")]),
        (b"NATS/1.0\r\nA: b: c\r\n\r\n", [("A", "b: c")]),
        (b"NATS/1.0\r\nA: 1\r\nb: 2\r\nA: 3\r\n\r\n", [("A", "1"), ("A", "3"), ("b", "2")]),
        (b"NATS/1.0\nA: 1\nB: 2\n\n", [("A", "1"), ("B", "2")]),
        (b"NATS/1.0\r\nA: 1\r\n", [("A", "1")]),
        (b"NATS/1.0\r\nA: 1", [("A", "1")]),
        (b"NATS/1.0", []),
        (b"NATS/1.0\r\n: no key\r\nA: 1\r\n\r\n", [("A", "1")]),
        (b"NATS/1.0\r\nA: 1\r\n\r\nB: 2\r\n\r\n", [("A", "1")]),
        (b"NATS/1.0\r\nA : 1\r\nB\xc3\xa9: 2\r\n\r\n", [("A ", "1"), ("Bé", "2")]),
        ("NATS/1.0\r\nA: Zoë\u2028\x85x\r\n\r\n".encode(), [("A", "Zoë\u2028\x85x")]),
        (b"NATS/1.0\r\nA: \xff\r\n\r\n", [("A", "\udcff")]),
        (b"NATS/1.0\r\nA: a\x0bb\x0c\x1c\r\n\r\n", [("A", "a\x0bb\x0c\x1c")]),
    ],
)
def test_headers_are_read_leniently(raw: bytes, pairs: list[tuple[str, str]]) -> None:
    headers, status = decode_headers(raw)
    assert headers.pairs() == pairs
    assert status is None


@pytest.mark.parametrize(
    ("line", "status"),
    [
        (b"NATS/1.0 503", Status(503, "")),
        (b"NATS/1.0 503 No Responders", Status(503, "No Responders")),
        (b"NATS/1.0   100 \t Idle Heartbeat ", Status(100, "Idle Heartbeat")),
        (b"NATS/1.0 409 Message Size Exceeds MaxBytes", Status(409, "Message Size Exceeds MaxBytes")),
        (b"NATS/1.0 404\t", Status(404, "")),
        (b"NATS/1.0 500 caf\xc3\xa9 \xff", Status(500, "café \udcff")),
        (b"NATS/1.0 ", None),
    ],
)
def test_the_status_is_read_from_the_first_line(line: bytes, status: Status | None) -> None:
    assert decode_status(line + b"\r\n\r\n") == status
    assert decode_headers(line + b"\r\nA: 1\r\n\r\n") == (Headers({"A": "1"}), status)
    assert decode_headers(line + b"\nA: 1\n\n") == (Headers({"A": "1"}), status)


def test_bytes_that_are_not_utf8_are_passed_on_as_they_came() -> None:
    raw = b"NATS/1.0\r\nA: \xff\xfe\r\n\r\n"
    assert encode_headers(decode_headers(raw)[0]) == raw


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"\r\n",
        b"HTTP/1.0\r\n\r\n",
        b"nats/1.0\r\n\r\n",
        b"NATS/1.1\r\n\r\n",
        b"NATS/1.0503\r\n\r\n",
        b"NATS/1.0 50\r\n\r\n",
        b"NATS/1.0 5033\r\n\r\n",
        b"NATS/1.0 OK\r\n\r\n",
        b"NATS/1.0 -50\r\n\r\n",
        b"NATS/1.0\r\nno colon\r\n\r\n",
        b"NATS/1.0\r\nA: 1\r\n \r\n\r\n",
    ],
)
def test_what_is_no_header_block_is_refused(raw: bytes) -> None:
    with pytest.raises(HeaderError):
        decode_headers(raw)


@given(st.binary(max_size=60))
def test_any_bytes_are_read_or_refused(raw: bytes) -> None:
    for block in raw, b"NATS/1.0" + raw, b"NATS/1.0\r\n" + raw:
        try:
            headers, _ = decode_headers(block)
        except HeaderError:
            continue
        assert Headers(headers.pairs()) == headers
