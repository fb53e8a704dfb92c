"""A plain script that publishes and ends without flush or close: `publish_and_end.py URL HOW COUNT SIZE [CLIENTS]`.

HOW: `normal`, `exception`, `sys.exit`; with `wait:` before it, it waits for a line of input before it ends.
`atexit:` before it: it publishes in an exit handler, and has a handler of its own for these messages.
"""

from __future__ import annotations

import atexit
import sys

import nats_zio

url, how, count, size = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
clients = [nats_zio.connect(url) for _ in range(int(sys.argv[5]) if len(sys.argv) > 5 else 1)]


def publish() -> None:
    for nc in clients:
        for number in range(count):
            nc.publish("numbers", (b"%010d" % number).ljust(size, b"."))


if how.startswith("atexit:"):
    how = how.removeprefix("atexit:")
    for nc in clients:
        nc.subscribe("numbers", cb=lambda message: None)
        nc.flush()
    atexit.register(publish)
else:
    publish()
if how.startswith("wait:"):
    how = how.removeprefix("wait:")
    print("published", flush=True)
    sys.stdin.readline()
if how == "exception":
    raise RuntimeError("the end")
if how == "sys.exit":
    sys.exit(3)
