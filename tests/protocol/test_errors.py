"""The exceptions: what they are, carry and say."""

from __future__ import annotations

import copy
import pickle

import pytest

from nats_zio.protocol import BadSubjectError, Error, HeaderError, MaxPayloadError, ProtocolError
from nats_zio.protocol.errors import shorten


@pytest.mark.parametrize("kind", [BadSubjectError, HeaderError, MaxPayloadError])
def test_refusals_of_arguments_are_value_errors(kind: type[Error]) -> None:
    assert issubclass(kind, Error)
    assert issubclass(kind, ValueError)


def test_protocol_errors_are_not_value_errors() -> None:
    assert issubclass(ProtocolError, Error)
    assert not issubclass(ProtocolError, ValueError)
    assert not ProtocolError("x").messages
    assert not ProtocolError("x").events


def test_max_payload_error_has_both_sizes() -> None:
    error = MaxPayloadError(11, 10)
    assert (error.size, error.limit) == (11, 10)
    assert "11" in str(error)
    assert "10" in str(error)


def test_errors_can_be_copied_and_pickled() -> None:
    for error in MaxPayloadError(11, 10), ProtocolError("x"), HeaderError("y"):
        for again in copy.copy(error), pickle.loads(pickle.dumps(error)):
            assert type(again) is type(error)
            assert str(again) == str(error)
            assert vars(again) == vars(error)


@pytest.mark.parametrize("value", [b"x" * 10**6, "x" * 10**6, bytearray(10**6), list(range(10**5))])
def test_long_values_are_shortened(value: object) -> None:
    assert len(shorten(value)) < 350


def test_short_values_are_shown_whole() -> None:
    assert shorten(b"a\r\n") == "b'a\\r\\n'"
    assert shorten("a" * 64) == repr("a" * 64)
    assert shorten("é" * 65).endswith("... (65 characters)")
