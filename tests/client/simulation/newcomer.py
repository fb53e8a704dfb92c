"""A client that comes to a simulated run when something goes wrong."""

from __future__ import annotations

from typing import TYPE_CHECKING

import nats_zio
import zio
from tests.client.simulation.signals import Strike
from tests.client.simulation.terms import (
    CLOSE_TIMEOUT,
    CONNECT_TIMEOUT,
    HOSTS,
    OPTIONS,
    OUTCOMES,
    REQUEST_TIMEOUT,
    urls,
    within,
)

if TYPE_CHECKING:
    from tests.client.simulation.run import Run
    from zio.testing.sim import Connection


class Newcomer:
    """A client that is connecting for the first time while something goes wrong."""

    name = "c"

    def __init__(self, run: Run) -> None:
        self.run = run
        self.done = False
        self.task = zio.spawn(self.live)

    @property
    def connections(self) -> list[Connection]:
        return [c for c in self.run.network.connections if c.source == self.name and not c.client.closed]

    def state(self) -> str:
        return "connecting"

    def live(self) -> None:
        """Connect, or learn within its time that it cannot be; use it, and close it."""
        try:
            nc = within(len(HOSTS) * CONNECT_TIMEOUT, lambda: nats_zio.connect(urls(self.name), name="c", **OPTIONS))
        except (nats_zio.Error, Strike) as exc:
            self.run.note(f"newcomer: {type(exc).__name__}")
            return
        try:
            reply = within(REQUEST_TIMEOUT, lambda: nc.request("svc", b"new", timeout=REQUEST_TIMEOUT))
            assert reply.data == b"new"
        except (*OUTCOMES, Strike) as exc:
            self.run.note(f"newcomer's request: {type(exc).__name__}")
        except nats_zio.ServerError as exc:  # the inbox was taken for the subscription that it is about
            self.run.check_told(exc.text)
        finally:
            within(CLOSE_TIMEOUT, nc.close)
