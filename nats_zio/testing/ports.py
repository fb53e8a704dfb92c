"""Free ports for servers."""

from __future__ import annotations

import contextlib
import random
import socket
from pathlib import Path
from typing import Final

from .errors import NatsServerError

PORT_ATTEMPTS: Final = 20


def free_port(host: str) -> int:
    """A free port outside the range that the system gives to outgoing connections.

    A port inside that range is unsafe for a server that is restarted on it: while the server is down the number may go
    to any outgoing connection, and a client that keeps reconnecting over loopback can even connect to itself. The
    server's own bind decides in the end; the caller tries another number when it fails.
    """
    low, high = 10_240, 32_768
    with contextlib.suppress(OSError, ValueError):
        high = min(high, int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0]))
    chooser = random.SystemRandom()
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    for _ in range(PORT_ATTEMPTS):
        port = chooser.randrange(low, high) if high - low > 1000 else 0
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((host, port))
            except OSError:
                continue
            bound: int = probe.getsockname()[1]
            return bound
    raise NatsServerError(f"no free port found on {host}")
