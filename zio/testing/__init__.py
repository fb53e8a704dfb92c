"""Tools for tests of programs on zio: a virtual clock, waiting for quiet, simulated networks."""

from .._core import VirtualClock
from .conformance import check_stream
from .sequencer import Sequencer
from .sim import Link, MemoryNetwork, SimDatagramSocket, SimNetwork, SimStream, memory_stream_pair
from .virtual import run_virtual, wait_all_parked

__all__ = [
    "Link",
    "MemoryNetwork",
    "SimDatagramSocket",
    "Sequencer",
    "SimNetwork",
    "SimStream",
    "VirtualClock",
    "check_stream",
    "memory_stream_pair",
    "run_virtual",
    "wait_all_parked",
]
