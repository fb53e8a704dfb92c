"""A network that exists in memory only, with the faults of a real one, in the time of the runtime's clock.

A connection is two flows of bytes, one each way. A flow takes bytes from its sender while its buffer has room, carries
them over the link between the two hosts (latency, jitter, bandwidth; held back while the link is cut) and keeps them
until the receiver reads them. All chance comes from the network's own seeded generator, and everything that happens
goes into ``journal``; so under a virtual clock and a seeded scheduler a run repeats exactly, and the journal shows it.
"""

from .connection import Connection
from .datagrams import SimDatagramSocket
from .flow import Flow, Link
from .journal import Entry
from .memory import MemoryNetwork, memory_stream_pair
from .network import ANY_HOST, SYN_TIMEOUT, Host, SimListener, SimNetwork
from .stream import SimStream

__all__ = [
    "ANY_HOST",
    "SYN_TIMEOUT",
    "Connection",
    "Entry",
    "Flow",
    "Host",
    "Link",
    "MemoryNetwork",
    "SimDatagramSocket",
    "SimListener",
    "SimNetwork",
    "SimStream",
    "memory_stream_pair",
]
