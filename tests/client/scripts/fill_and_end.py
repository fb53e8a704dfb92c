"""A plain script whose server does not read: publish until that blocks, then end. Says whether a timeout ended it."""

from __future__ import annotations

import sys

import nats_zio
import zio

nc = nats_zio.connect(sys.argv[1])
with zio.move_on_after(0.3) as scope:
    while True:
        nc.publish("x", bytes(65_536))
assert scope.expired
with zio.move_on_after(0.1) as scope:
    nc.publish("x", bytes(65_536))
print("blocked", scope.expired)
