"""Publish, lose the server, end: `exit_and_log.py URL FILE`. The log keeps its lines until it is shut down."""

from __future__ import annotations

import logging
import logging.handlers
import sys
import threading

import nats_zio
from nats_zio.events import Disconnected, Event

url, file = sys.argv[1:]
target = logging.FileHandler(file, mode="w", delay=True)
logging.getLogger().addHandler(logging.handlers.MemoryHandler(1000, logging.CRITICAL, target))

lost = threading.Event()


def look(event: Event) -> None:
    if isinstance(event, Disconnected):
        lost.set()


nc = nats_zio.connect(url, on_event=look)
nc.flush()
print("published", flush=True)
sys.stdin.readline()
lost.wait()
for _ in range(3):
    nc.publish("x", b"1")
