"""The main thread computes while the server pings: `computes.py URL SECONDS`."""

from __future__ import annotations

import sys
import time

import nats_zio

nc = nats_zio.connect(sys.argv[1])
events = nc.events()
end = time.monotonic() + float(sys.argv[2])
total = 0
while time.monotonic() < end:
    total += sum(range(10_000))
nc.flush()
assert nc.is_connected
assert len(events) == 0, events.recv()
assert nc.stats.reconnects == 0
print("still connected")
