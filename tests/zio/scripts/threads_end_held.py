"""Threads end, and others let go in that moment of the greenlets that those have left: nothing must crash.

That is what a thread leaves that ends with an error: the frames of its calls hold the greenlet.
"""

import queue
import sys
import threading

from greenlet import getcurrent

import zio

ROUNDS = 500

sys.setswitchinterval(1e-6)
left: queue.SimpleQueue[object] = queue.SimpleQueue()


def ends() -> None:
    zio.sleep(0)
    left.put(getcurrent())


def drops() -> None:
    held: object = ""
    while held is not None:
        held = left.get()
        for _ in range(300):
            pass


droppers = [threading.Thread(target=drops) for _ in range(2)]
for thread in droppers:
    thread.start()
for _ in range(ROUNDS):
    threads = [threading.Thread(target=ends) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
left.put(None)
left.put(None)
for thread in droppers:
    thread.join()
print("well")
