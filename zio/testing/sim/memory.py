"""Streams in memory, without delays and faults."""

from __future__ import annotations

from .connection import Connection
from .network import ANY_HOST, SimListener, SimNetwork
from .stream import SimStream


class MemoryNetwork(SimNetwork):
    """A network without delays and faults, where every host is here: ports are numbers."""

    def __init__(self, limit: int = 65536) -> None:
        super().__init__(0, journal=False, latency=0.0, buffer=limit)

    def listen(self, host: str, port: int, backlog: int = 128, reuse_port: bool = False) -> SimListener:
        return super().listen(ANY_HOST, port, backlog, reuse_port)


def memory_stream_pair(limit: int = 65536) -> tuple[SimStream, SimStream]:
    """Two connected streams; at most ``limit`` bytes are in flight each way. Only inside a zio runtime.

    ValueError for a limit below 1, through which nothing could pass, TypeError for one that is no whole number.
    """
    if not isinstance(limit, int):
        raise TypeError(f"limit={limit!r} must be a whole number of bytes")
    if limit < 1:
        raise ValueError(f"limit={limit!r} must be 1 or more: nothing could pass")
    connection = Connection(MemoryNetwork(limit), 1, "one", "other", 0)
    return connection.client, connection.server
