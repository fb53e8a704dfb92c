"""The main thread reads while it is interrupted again and again: `interrupted_reader.py URL COUNT`.

Every message must be read in the end, whatever moment a KeyboardInterrupt has come at.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from types import FrameType

import nats_zio

count = int(sys.argv[2])
nc = nats_zio.connect(sys.argv[1])
sub = nc.subscribe("numbers")
nc.flush()
stop = threading.Event()
armed = False  # elsewhere an interrupt would hit this script itself


def interrupted(signum: int, frame: FrameType | None) -> None:
    # Between two instructions that take a message and return it, no Python code could be safe.
    if armed and frame is not None and frame.f_code.co_name in {"wait", "wait_in_thread"}:
        raise KeyboardInterrupt


signal.signal(signal.SIGINT, interrupted)


def publish() -> None:
    for number in range(count):
        nc.publish("numbers", b"%d" % number)
        if number % 3 == 0:
            nc.flush()


def interrupt() -> None:
    while not stop.wait(0.0007):
        os.kill(os.getpid(), signal.SIGINT)


threads = [threading.Thread(target=publish, daemon=True), threading.Thread(target=interrupt, daemon=True)]
for thread in threads:
    thread.start()
seen: list[int] = []
interrupts = 0
while len(seen) < count:
    before = sub.delivered
    try:
        armed = True
        message = sub.next(timeout=30)
        armed = False
    except KeyboardInterrupt:
        armed = False
        interrupts += 1
        continue
    seen.append(int(message.data))
stop.set()
for thread in threads:
    thread.join()
assert seen == list(range(count)), "out of order"
print(f"all {len(seen)} in order, {interrupts} interrupts")
