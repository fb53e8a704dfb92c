"""A plain script that publishes and ends without flush or close: `publish_and_end.py URL HOW COUNT SIZE [CLIENTS]`.

HOW: `normal`, `exception`, `sys.exit`; with `wait:` before it, it waits for a line of input before it ends.
`handled:` before it: the script subscribes to its own messages with a handler first.
"""

from __future__ import annotations

import sys

import nats_zio

url, how, count, size = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
clients = [nats_zio.connect(url) for _ in range(int(sys.argv[5]) if len(sys.argv) > 5 else 1)]
if how.startswith("handled:"):
    how = how.removeprefix("handled:")
    for nc in clients:
        nc.subscribe("numbers", cb=lambda message: None)
for nc in clients:
    for number in range(count):
        nc.publish("numbers", (b"%010d" % number).ljust(size, b"."))
if how.startswith("wait:"):
    how = how.removeprefix("wait:")
    print("published", flush=True)
    sys.stdin.readline()
if how == "exception":
    raise RuntimeError("the end")
if how == "sys.exit":
    sys.exit(3)
