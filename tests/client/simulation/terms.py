"""What the clients of a simulated run have in common: where they connect, how long things may take, what they say."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import nats_zio
import zio

HOSTS = ("s1", "s2")  # one server, reached in two ways
PORT = 4222
CONNECT_TIMEOUT = 1.0
REQUEST_TIMEOUT = 1.0
FLUSH_TIMEOUT = 0.7
NEXT_TIMEOUT = 0.3
PUBLISH_TIMEOUT = 20.0  # publish has none of its own; but a writer is not stuck for longer than it takes to find out
DRAIN_TIMEOUT = 10.0
CLOSE_TIMEOUT = 2.0
MOST = 30  # messages that a subscription with a limit waits for
FEW = 12  # of those that come slowly
SLACK = 1e-6  # rounding: nothing may end later than its timeout

OPTIONS: dict[str, Any] = {
    "ping_interval": 0.5,
    "max_outstanding_pings": 2,
    "connect_timeout": CONNECT_TIMEOUT,
    "reconnect_wait": 0.02,
    "reconnect_max_wait": 0.3,
    "reconnect_buffer_size": 200_000,
}
OUTCOMES = (
    nats_zio.TimeoutError,
    nats_zio.DisconnectedError,
    nats_zio.NoRespondersError,
    nats_zio.ReconnectBufferFullError,
)


class HandlerError(Exception):
    """What a handler raises."""


class HandlerEnd(BaseException):
    """The same, of no common kind."""


HANDLER_ERRORS = HandlerError, HandlerEnd


def urls(name: str) -> list[str]:
    return [f"nats://{name}.{host}:{PORT}" for host in HOSTS]


def body(name: str, number: int) -> bytes:
    """What a client says in its message of this number: by it alone one can tell that it came whole."""
    size = (0, 0, 0, 10, 100, 1500)[number * 7919 % 6]
    return b"%s %d " % (name.encode(), number) + (b"%d," % number * size)[:size]


def read_body(data: bytes) -> tuple[str, int]:
    name, number = data.split(b" ")[:2]
    found = name.decode(), int(number)
    assert data == body(*found), f"not as it was published: {data!r}"
    return found


def within(seconds: float, call: Callable[[], Any]) -> Any:
    """What `call()` returns or raises; no later than that."""
    start = zio.now()
    try:
        return call()
    finally:
        took = zio.now() - start
        assert took <= seconds + SLACK, f"{took} s instead of at most {seconds} s"
