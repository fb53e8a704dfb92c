"""A daemon thread waits in a call of zio when the program ends."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable

import zio
import zio.lowlevel

taken = zio.Lock()
CALLS: dict[str, Callable[[], object]] = {
    "event": lambda: zio.Event().wait(),
    "sleep": lambda: zio.sleep(1000),
    "channel": lambda: zio.Channel[int](0).recv(),
    "lock": lambda: taken.acquire(),
}


def wait() -> None:
    holders.append(zio.lowlevel.thread_holder())
    began.set()
    while True:
        CALLS[sys.argv[1]]()


began = threading.Event()
holders: list[zio.lowlevel.ThreadHolder] = []
taken.acquire()
thread = threading.Thread(target=wait, daemon=True)
thread.start()
began.wait()
while zio.lowlevel.waits_on(holders[0]) is None:
    time.sleep(0.001)
