"""A simulated connection: two flows and the two ends between which they run."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..._core import Loop, here
from .flow import Flow
from .stream import SimStream

if TYPE_CHECKING:
    from .network import SimNetwork


class Connection:
    """A connection between two hosts: ``up`` is what the one that connected sends, ``down`` what the other sends."""

    def __init__(
        self,
        network: SimNetwork,
        number: int,
        source: str,
        target: str,
        port: int,
    ) -> None:
        self.network = network
        self.number = number
        self.source = source
        self.target = target
        self.port = port
        self.loop: Loop = here().loop
        self.random = network.random
        self.open = True
        self.up = Flow(self, network.link(source, target), f"#{number} {source}>{target}")
        self.down = Flow(self, network.link(target, source), f"#{number} {target}>{source}")
        self.client = SimStream(self, f"#{number} {source}", self.down, self.up)
        self.server = SimStream(self, f"#{number} {target}", self.up, self.down)
        for flow in (self.up, self.down):
            if flow.link.reset_every is not None:
                flow.reset_at(1 + int(self.random.expovariate(1 / flow.link.reset_every)))

    def reset(self) -> None:
        """Reset it, for both sides at once."""
        self.note(f"#{self.number}", "reset")
        self.client.fail()
        self.server.fail()

    def vanish(self) -> None:
        """Make it half-open: what either side sends is lost, and neither is told."""
        self.up.vanish()
        self.down.vanish()

    def note(self, where: str, what: str, size: int = 0, mark: int = 0) -> None:
        self.network.note(where, what, size, mark)

    def settled(self) -> None:
        """One side is done with it."""
        if self.open and all(stream.closed or stream.failed for stream in (self.client, self.server)):
            self.open = False
            self.network.forget(self)

    def __repr__(self) -> str:
        return f"<Connection #{self.number} {self.source}>{self.target}:{self.port}{'' if self.open else ' over'}>"
