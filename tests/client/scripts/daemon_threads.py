"""A daemon thread that is in a call of ours when the program ends: `daemon_threads.py URL CALL`."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable

import nats_zio
import zio

url, call = sys.argv[1:3]
nc = nats_zio.connect(url)
sub = nc.subscribe("x", overflow="drop_old")
channel: zio.Channel[int] = zio.Channel(0)
begun = threading.Event()


def again_and_again(fn: Callable[[], object]) -> None:
    while True:
        fn()
        begun.set()


def once(fn: Callable[[], object]) -> None:
    begun.set()
    fn()


def in_a_loop() -> None:
    for _message in sub:
        pass


CALLS: dict[str, Callable[[], object]] = {
    "publish": lambda: again_and_again(lambda: nc.publish("y")),
    "flush": lambda: again_and_again(nc.flush),
    "subscribe": lambda: again_and_again(lambda: nc.subscribe("z").unsubscribe()),
    "next": lambda: once(lambda: sub.next(timeout=None)),
    "next_batch": lambda: once(lambda: sub.next_batch(3, timeout=None)),
    "loop": lambda: once(in_a_loop),
    "request": lambda: once(lambda: nc.request("x", timeout=None)),
    "request_many": lambda: once(lambda: list(nc.request_many("x", timeout=None))),
    "events": lambda: once(lambda: list(nc.events())),
    "recv": lambda: once(channel.recv),
    "send": lambda: once(lambda: channel.send(1)),
    "select": lambda: once(lambda: zio.select(channel, sub)),
    "event": lambda: once(lambda: zio.Event().wait()),
    "join": lambda: once(lambda: zio.spawn(zio.sleep, 1000).join()),
    "sleep": lambda: once(lambda: zio.sleep(1000)),
    "call": lambda: once(lambda: zio.background().call(zio.sleep, 1000)),
}

threading.Thread(target=CALLS[call], daemon=True).start()
begun.wait()
nc.flush()
