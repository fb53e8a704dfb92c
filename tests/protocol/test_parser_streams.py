"""Valid streams, recorded from a real server and generated: the result is that of a plain reference reader, however
the stream is cut."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nats_zio.protocol import decode_headers, decode_status
from tests.protocol.reference import Got, read_from_server
from tests.protocol.streams import cut, read, streams

RECORDINGS = {path.stem: path.read_bytes() for path in sorted((Path(__file__).parent / "recordings").glob("*.bin"))}
SMALL = sorted(name for name, stream in RECORDINGS.items() if len(stream) < 8192)


def test_the_recordings_are_there() -> None:
    assert set(RECORDINGS) == {"authorization", "core", "jetstream", "large", "permissions", "stream"}
    assert len(SMALL) == 4


@pytest.mark.parametrize("name", RECORDINGS)
def test_one_feed_of_recorded_traffic_reads_as_the_reference(name: str) -> None:
    stream = RECORDINGS[name]
    collector = read([stream])
    assert collector.result == read_from_server(stream)
    assert collector.parser.buffered == 0
    assert collector.parser.last_bytes == len(stream)


@pytest.mark.parametrize("name", SMALL)
def test_every_split_of_recorded_traffic_reads_the_same(name: str) -> None:
    stream = RECORDINGS[name]
    expected = read_from_server(stream)
    for place in range(len(stream) + 1):
        assert read([stream[:place], stream[place:]]).result == expected, place


def test_every_place_of_the_stream_recording_is_cut_once() -> None:
    """With many cuts at a time, since so many two-way splits would take long."""
    stream = RECORDINGS["stream"]
    expected = read_from_server(stream)
    for offset in range(97):
        assert read(cut(stream, range(offset, len(stream), 97))).result == expected, offset


def test_splits_of_large_payloads_read_the_same() -> None:
    """All places in and near control lines, and a sample of those within payloads."""
    stream = RECORDINGS["large"]
    expected = read_from_server(stream)
    start = stream.index(b"MSG big 1 100000")
    places = [*range(start + 40), *range(start + 100_000, start + 100_120), *range(len(stream) - 60, len(stream))]
    for place in [*places, *random.Random(1).sample(range(start, len(stream)), 100)]:
        assert read([stream[:place], stream[place:]]).result == expected, place


@pytest.mark.parametrize("name", RECORDINGS)
@pytest.mark.parametrize("size", [1, 2, 3, 7, 1000])
def test_recorded_traffic_in_small_chunks_reads_the_same(name: str, size: int) -> None:
    stream = RECORDINGS[name]
    collector = read(stream[pos : pos + size] for pos in range(0, len(stream), size))
    assert collector.result == read_from_server(stream)
    assert collector.parser.buffered == 0


def test_the_core_recording_covers_what_it_was_made_for() -> None:
    groups, events = read([RECORDINGS["core"]]).result
    verbs = [verb for verb, _ in events]
    assert verbs[0] == "INFO"
    assert verbs[1:4] == ["+OK", "PONG", "INFO"], "the second INFO comes after the first PONG"
    assert "PING" in verbs
    assert events[-1] == ("-ERR", "Unknown Protocol Operation")
    assert (
        Got("greet.tricky", None, None, b"one\r\nMSG greet.joe 1 5\r\nhello\r\nPING\r\n-ERR 'no'\r\n\r\n") in groups[1]
    )
    assert Got("grüße.wörld.✓", "antwort.ü", None, "schön\u2028".encode()) in groups[22]
    assert Got("greet.empty", None, None, b"") in groups[1]
    [no_responders] = groups[333]
    assert no_responders.raw_headers is not None
    assert decode_status(no_responders.raw_headers) == (503, "")


def test_the_jetstream_recording_has_acks_and_statuses() -> None:
    groups, _ = read([RECORDINGS["jetstream"]]).result
    stored = [got for got in groups[7] if got.reply and got.reply.startswith("$JS.ACK.S.C.1.")]
    assert [got.data for got in stored] == [b"%d" % number for number in range(30)]
    statuses = [decode_headers(got.raw_headers)[1] for got in groups[7] if got.raw_headers]
    assert [status for status in statuses if status][-2:] == [(408, "Request Timeout"), (404, "No Messages")]


@given(streams, st.data())
def test_generated_streams_read_as_the_reference_however_cut(stream: bytes, data: st.DataObject) -> None:
    places = data.draw(st.lists(st.integers(0, len(stream)), max_size=8))
    collector = read(cut(stream, places))
    assert collector.result == read_from_server(stream)
    assert collector.parser.buffered == 0


@given(streams)
@settings(max_examples=30)
def test_generated_streams_read_the_same_byte_by_byte(stream: bytes) -> None:
    assert read(bytes([byte]) for byte in stream).result == read_from_server(stream)


@given(streams, st.data())
def test_an_unfinished_stream_gives_a_beginning_of_the_result(stream: bytes, data: st.DataObject) -> None:
    end = data.draw(st.integers(0, len(stream)))
    collector = read([stream[:end]])
    groups, events = read_from_server(stream)
    assert collector.events == events[: len(collector.events)]
    for sid, messages in collector.groups.items():
        assert messages == groups[sid][: len(messages)]
    collector.feed(stream[end:])
    assert collector.result == (groups, events)


@given(streams, st.data())
def test_the_counters_add_up(stream: bytes, data: st.DataObject) -> None:
    places = data.draw(st.lists(st.integers(0, len(stream)), max_size=5))
    collector = read([])
    fed = taken = 0
    for chunk in cut(stream, places):
        collector.feed(chunk)
        fed += len(chunk)
        taken += collector.parser.last_bytes
        assert taken + collector.parser.buffered == fed
    messages = [got for group in collector.groups.values() for got in group]
    assert collector.parser.messages == len(messages)
    assert collector.parser.payload_bytes == sum(len(got.data) + len(got.raw_headers or b"") for got in messages)


@pytest.mark.parametrize("size", [0, 5])
@pytest.mark.parametrize(
    "line", [b"MSG a 1 %d\r\n", b"MSG a 1 r 0%d\r\n", b"HMSG a 1 0 %d\r\n", b"HMSG a 1 r 0 %d\r\n"]
)
@pytest.mark.parametrize("count", [9, 20, 200])
def test_long_runs_of_one_form_are_counted(line: bytes, size: int, count: int) -> None:
    stream = (line % size + b"x" * size + b"\r\n") * count
    collector = read([stream])
    assert collector.result == read_from_server(stream)
    assert collector.parser.messages == count
    assert collector.parser.payload_bytes == size * count


@pytest.mark.parametrize("headers", [b"", b"NATS/1.0\r\n\r\n"])
@pytest.mark.parametrize("reply", [b"", b"r.%d "])
@pytest.mark.parametrize("count", [20, 60])
def test_long_runs_are_read_however_cut(headers: bytes, reply: bytes, count: int) -> None:
    lengths = b"%d %d" % (len(headers), len(headers) + 4) if headers else b"4"
    stream = b"".join(
        b"%bMSG a.b 1 %b%b\r\n%b%04d\r\n" % (b"H" * bool(headers), reply and reply % i, lengths, headers, i)
        for i in range(count)
    )
    expected = read_from_server(stream)
    for place in range(len(stream)):
        assert read([stream[:place], stream[place:]]).result == expected, place


@pytest.mark.parametrize("count", [2, 9, 200])
def test_replies_of_many_sizes_are_counted_and_read_however_cut(count: int) -> None:
    sizes = [number % 7 for number in range(count)]
    stream = b"".join(
        b"MSG _INBOX.x.%d 3 %d\r\n%b\r\n" % (number, size, b"r" * size) for number, size in enumerate(sizes)
    )
    expected = read_from_server(stream)
    collector = read([stream])
    assert collector.result == expected
    assert collector.parser.messages == count
    assert collector.parser.payload_bytes == sum(sizes)
    for place in range(len(stream)):
        assert read([stream[:place], stream[place:]]).result == expected, place
