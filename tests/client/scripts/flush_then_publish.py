"""A plain script that flushes a first part and publishes a second: `flush_then_publish.py URL FIRST SECOND`."""

from __future__ import annotations

import sys

import nats_zio

nc = nats_zio.connect(sys.argv[1])
for _ in range(int(sys.argv[2])):
    nc.publish("numbers", b"0123456789")
nc.flush()
for _ in range(int(sys.argv[3])):
    nc.publish("numbers", b"0123456789")
print("published", flush=True)
sys.stdin.readline()
