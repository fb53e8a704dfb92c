"""Tools for tests of programs on zio: a virtual clock, waiting for quiet, an in-memory network."""

from .._core import VirtualClock
from .memory import MemoryNetwork, MemoryStream, memory_stream_pair
from .virtual import run_virtual, wait_all_parked

__all__ = [
    "MemoryNetwork",
    "MemoryStream",
    "VirtualClock",
    "memory_stream_pair",
    "run_virtual",
    "wait_all_parked",
]
