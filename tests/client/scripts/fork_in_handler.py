"""A handler forks, and the child returns from it like the parent: `fork_in_handler.py URL`.

Prints a line for each message that is handled, by whom.
"""

from __future__ import annotations

import os
import sys
import threading

import nats_zio

PARENT = os.getpid()
all_published, child = threading.Event(), 0
nc = nats_zio.connect(sys.argv[1])


def handle(message: nats_zio.Message) -> None:
    global child
    all_published.wait()
    number = message.data.decode()
    if number == "0":
        child = os.fork()
    who = "parent" if os.getpid() == PARENT else "child"
    os.write(1, f"{who} {number}\n".encode())


nc.subscribe("work", cb=handle)
for number in range(5):
    nc.publish("work", str(number))
nc.flush()
all_published.set()
nc.drain()
os.write(1, f"the child's status: {os.waitpid(child, 0)[1]}\n".encode())
