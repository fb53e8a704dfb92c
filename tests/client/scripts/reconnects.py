"""Reconnects COUNT times, by turns of its own will and because the server kicks it out; prints what was left behind.

Arguments: the server's URL, the password of its system account, COUNT, "task" or "thread", and the file of an authority
for TLS, or nothing. Prints two lines of JSON, from before and after: objects by type, descriptors, threads,
kilobytes of memory.
"""

from __future__ import annotations

import gc
import json
import os
import sys
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

import nats_zio
import zio
from nats_zio.events import Disconnected, Event, Reconnected

# So many that what OpenSSL and the allocator keep has reached its size; it does not grow with the connections (20,000
# more: 4 %).
WARM_UP = 400
# Short, so that what waits for its time to be up has it soon.
TIMES: dict[str, Any] = {"ping_interval": 0.5, "connect_timeout": 1.0, "request_timeout": 1.0}
SETTLE = 1.5
PAUSE = 0.17  # between two looks; no divisor of the interval between pings


def main() -> None:
    url, password, count, where, authority = sys.argv[1:]
    tls = nats_zio.TLS(ca=authority) if authority else None
    run = zio.run if where == "task" else lambda fn: fn()
    run(lambda: reconnect(url, password, int(count), tls))


def reconnect(url: str, password: str, count: int, tls: nats_zio.TLS | None) -> None:
    with (
        nats_zio.connect(url, user="sys", password=password, **TIMES) as system,
        nats_zio.connect(url, reconnect_wait=0.001, reconnect_max_wait=0.01, tls=tls, **TIMES) as nc,
    ):
        seen = nc.events()
        sub = nc.subscribe("data")
        nc.subscribe("echo", cb=lambda message: message.respond(message.data))
        nc.subscribe("idle", queue="group")  # nothing is sent to it: until the server has noticed that the last
        # connection is gone, it may choose the member there

        def times(number: int) -> None:
            for turn in range(number):
                if turn % 2:
                    nc.force_reconnect()
                else:
                    kick = f"$SYS.REQ.SERVER.{nc.server_info.server_id}.KICK"
                    system.request(kick, json.dumps({"cid": nc.server_info.client_id}))
                expect(seen, Disconnected)
                expect(seen, Reconnected)
                nc.publish("data", b"%d" % turn)
                assert sub.next(timeout=1).data == b"%d" % turn
                assert nc.request("echo", b"%d" % turn, timeout=1).data == b"%d" % turn

        times(WARM_UP)
        look()  # looking itself leaves something the first time
        times(2)
        before = settled()
        times(count)
        after = settled()
        print(before)
        print(after)
        assert nc.stats.reconnects == WARM_UP + 2 + count
        assert len(seen) == 0


def expect(seen: Any, kind: type[Event]) -> None:
    event = seen.recv(timeout=1)
    while isinstance(event, nats_zio.events.ReconnectFailed):
        event = seen.recv(timeout=1)
    assert isinstance(event, kind), event


def settled() -> str:
    """What there is when two looks find the same objects: a ping may be on its way at one of them."""
    found = look()
    while True:
        last, found = found, look(PAUSE)
        # What is kept of a look is text, which no count of objects shows.
        if json.loads(found)["objects"] == json.loads(last)["objects"]:
            return found


def look(wait: float = SETTLE) -> str:
    """What there is, once things have settled, as JSON."""
    deadline = time.monotonic() + wait
    while time.monotonic() < deadline:
        zio.sleep(0.01)
    gc.collect()
    objects = Counter(f"{type(thing).__module__}.{type(thing).__qualname__}" for thing in gc.get_objects())
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    found = {
        "objects": objects,
        "fds": sorted(os.listdir("/proc/self/fd")),  # noqa: PTH208
        "threads": sorted(thread.name for thread in threading.enumerate()),
        "frames": len(sys._current_frames()),
        "kilobytes": pages * os.sysconf("SC_PAGE_SIZE") // 1024,
    }
    return json.dumps(found)


if __name__ == "__main__":
    main()
