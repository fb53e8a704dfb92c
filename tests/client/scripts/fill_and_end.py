"""A plain script whose server does not read: publish until that blocks, then end. Prints how long a timeout took."""

from __future__ import annotations

import sys
import time

import nats_zio
import zio

nc = nats_zio.connect(sys.argv[1])
with zio.move_on_after(0.3) as scope:
    while True:
        nc.publish("x", bytes(65_536))
assert scope.expired
start = time.monotonic()
with zio.move_on_after(0.1):
    nc.publish("x", bytes(65_536))
print("blocked", time.monotonic() - start)
