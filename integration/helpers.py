"""What the tests share."""

from __future__ import annotations

from typing import TYPE_CHECKING

import nats_zio
from nats_zio.events import Disconnected, Reconnected
from tests.client.helpers import away, next_event

if TYPE_CHECKING:
    from integration.containers import NatsContainer


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
