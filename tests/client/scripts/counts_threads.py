"""Print how many threads the process has after each step, inside zio.run and then in a plain script."""

from __future__ import annotations

import sys
import threading
from pathlib import Path
from typing import Any

import nats_zio
import zio


def count(step: str) -> None:
    threads = len(list(Path("/proc/self/task").iterdir())) if sys.platform == "linux" else threading.active_count()
    print(step, threads, flush=True)


def use() -> None:
    url: Any = sys.argv[1]
    nc = nats_zio.connect(url)
    count("connect")
    sub = nc.subscribe("a")
    nc.subscribe("echo", cb=lambda message: message.respond(message.data))
    count("subscribe")
    nc.publish("a", b"x")
    nc.flush()
    count("publish")
    assert nc.request("echo", b"y").data == b"y"
    count("request")
    assert sub.next().data == b"x"
    nc.drain()
    count("drain")


def use_the_pool() -> None:
    zio.to_thread(count, "to_thread")


zio.run(use)
count("end")
zio.run(use_the_pool)
count("end")
