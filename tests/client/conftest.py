"""What the tests of the client share: where a test's body runs, subjects of its own, a peer of another library."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import zio
from tests.client.helpers import Peer

_numbers = itertools.count(1)

Run = Callable[..., Any]


@pytest.fixture(params=["task", "thread"])
def run(request: pytest.FixtureRequest) -> Run:
    """Run a function as the main task of a runtime, and in a plain thread with the client in the background runtime."""
    if request.param == "task":
        return zio.run
    request.getfixturevalue("background_runtime")
    return lambda fn, *args: fn(*args)


@pytest.fixture
def subject() -> str:
    """A subject that no other test uses."""
    return f"test.{os.getpid()}.{next(_numbers)}"


@pytest.fixture
def peer(nats_server: Any) -> Iterator[Peer]:
    """A client of another library (nats-py), connected to `nats_server`."""
    with Peer(nats_server.url) as connected:
        yield connected
