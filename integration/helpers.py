"""What the tests share: blocking work beside the loop, and waiting for what must happen."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import nats_zio
import zio
from nats_zio.events import Disconnected, Reconnected

if TYPE_CHECKING:
    from integration.containers import NatsContainer

LIMIT = 15.0  # seconds that a test waits for what must happen


def away(fn: Callable[..., Any], *args: Any) -> Any:
    """Do what blocks (stopping a container, say) without holding up the loop, if this is a task."""
    if zio.lowlevel.runtime_here() is None:
        return fn(*args)
    return zio.to_thread(fn, *args)


def eventually(condition: Callable[[], object], what: str = "", limit: float = LIMIT) -> Any:
    """What `condition` returns once it is true; only for what no event or flush can witness."""
    deadline = time.monotonic() + limit
    delay = 0.002
    while not (value := condition()):
        assert time.monotonic() < deadline, f"never came true: {what or condition}"
        zio.sleep(delay)
        delay = min(delay * 1.5, 0.1)
    return value


def next_event(events: Any, kind: type, limit: float = LIMIT) -> Any:
    """The next event of this kind; others are skipped."""
    deadline = time.monotonic() + limit
    while True:
        event = events.recv(timeout=max(deadline - time.monotonic(), 0.001))
        if isinstance(event, kind):
            return event


def read_all(events: Any) -> list[Any]:
    """The events so far."""
    found = []
    while True:
        try:
            found.append(events.try_recv())
        except (zio.WouldBlock, zio.ChannelClosed):
            return found


def text_of(error: BaseException | None) -> str:
    """All that is said by an error, what it came from, and what it gathered."""
    parts: list[str] = []
    seen: set[int] = set()
    queue = [error]
    while queue:
        exc = queue.pop()
        if exc is None or id(exc) in seen:
            continue
        seen.add(id(exc))
        parts.append(f"{type(exc).__name__}: {exc}")
        queue += [exc.__cause__, exc.__context__, *getattr(exc, "errors", {}).values()]
    return "\n".join(parts)


def works(nc: nats_zio.Client, subject: str) -> None:
    """Messages go out and come back."""
    sub = nc.subscribe(subject)
    nc.publish(subject, b"there and back")
    assert sub.next().data == b"there and back"
    sub.unsubscribe()


def survives_a_restart(nc: nats_zio.Client, server: NatsContainer, subject: str) -> None:
    """Also a reconnect is let in."""
    events = nc.events()
    away(server.kill)
    next_event(events, Disconnected)
    away(server.start_again)
    next_event(events, Reconnected)
    works(nc, subject)
