"""ServerInfo: tolerant of what it does not need, merging what comes later."""

from __future__ import annotations

import dataclasses

import pytest

from nats_zio.protocol import ServerInfo
from tests.protocol.reference import read_from_server
from tests.protocol.test_parser_streams import RECORDINGS


def test_what_a_real_server_says() -> None:
    _, events = read_from_server(RECORDINGS["core"])
    first, second = (fields for verb, fields in events if verb == "INFO")
    info = ServerInfo.from_json(first)
    assert (info.server_name, info.proto, info.headers, info.host) == ("recorded", 1, True, "127.0.0.1")
    assert (info.port, info.max_payload, info.api_lvl) == (first["port"], 1 << 20, 5)
    assert info.version.startswith("2.")
    assert info.client_id > 0
    assert not info.extra, "a field of the server is not known"
    assert not info.connect_info
    later = info.merged(second)
    assert (later.connect_info, later.remote_account) == (True, "$G")
    assert later.server_id == info.server_id


def test_defaults_of_an_empty_info() -> None:
    info = ServerInfo.from_json({})
    assert info == ServerInfo()
    assert (info.max_payload, info.headers, info.connect_urls, info.nonce, info.extra) == (1 << 20, False, (), "", {})


def test_missing_and_null_fields_are_unchanged() -> None:
    info = ServerInfo.from_json({"port": 1, "nonce": "n", "connect_urls": ["a:1"], "ldm": True, "new": 1})
    later = info.merged({"port": 2, "nonce": None, "newer": 2})
    assert (later.port, later.nonce, later.connect_urls, later.ldm) == (2, "n", ("a:1",), True)
    assert later.extra == {"new": 1, "newer": 2}
    assert (info.port, dict(info.extra)) == (1, {"new": 1}), "the former object has not changed"
    assert info.merged({"connect_urls": []}).connect_urls == ()


@pytest.mark.parametrize(
    "fields",
    [
        {"port": "4222"},
        {"port": True},
        {"port": 1.5},
        {"port": float("nan")},
        {"headers": 1},
        {"headers": "true"},
        {"version": 2},
        {"nonce": ["x"]},
        {"connect_urls": "a:1"},
        {"connect_urls": {"a": 1}},
        {"max_payload": 0},
        {"max_payload": -1},
        {"max_payload": float("inf")},
    ],
)
def test_wrong_types_are_as_if_missing(fields: dict[str, object]) -> None:
    known = ServerInfo(port=9, headers=True, version="v", nonce="n", connect_urls=("b:2",), max_payload=5)
    assert known.merged(fields) == known


def test_odd_but_usable_values_are_used() -> None:
    info = ServerInfo.from_json({"max_payload": 1e6, "connect_urls": ["a:1", 5, None, "b:2"]})
    assert (info.max_payload, info.connect_urls) == (1_000_000, ("a:1", "b:2"))
    assert type(info.max_payload) is int


def test_unknown_fields_are_kept_and_cannot_be_changed() -> None:
    info = ServerInfo.from_json({"future": {"a": 1}, "extra": 5})
    assert info.extra == {"future": {"a": 1}, "extra": 5}
    with pytest.raises(TypeError):
        info.extra["x"] = 1  # type: ignore[index]
    with pytest.raises(dataclasses.FrozenInstanceError):
        info.port = 1  # type: ignore[misc]


def test_the_nonce_is_not_shown() -> None:
    assert "s3cret" not in repr(ServerInfo.from_json({"nonce": "s3cret"}))
    assert "client_id=7" in repr(ServerInfo.from_json({"client_id": 7}))
