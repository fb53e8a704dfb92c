"""Fork while a client is in use: `forker.py URL WHERE WHAT`.

WHERE is `thread` (a plain script) or `task` (inside zio.run). WHAT the child does is a function below. The parent
has a subscription, a handler and eight threads that publish all the time; it goes on for a while after each child
has ended, and checks that everything still works and nothing came twice.
"""

from __future__ import annotations

import multiprocessing
import os
import sys
import threading
import traceback
from collections.abc import Callable
from typing import NoReturn

import nats_zio
import zio

URL, WHERE, WHAT = sys.argv[1:4]
FORKS = 3
FAREWELLS = 2000
THREADS = 8


# What a child does.


def uses(nc: nats_zio.Client, sub: nats_zio.Subscription) -> None:
    """Every call says at once that the client is the parent's."""
    calls: dict[str, Callable[[], object]] = {
        "publish": lambda: nc.publish("child", b"from the child"),
        "request": lambda: nc.request("echo", b"from the child"),
        "subscribe": lambda: nc.subscribe("child"),
        "flush": nc.flush,
        "rtt": nc.rtt,
        "drain": nc.drain,
        "events": nc.events,
        "force_reconnect": nc.force_reconnect,
        "next": sub.next,
        "try_next": sub.try_next,
        "next_batch": lambda: sub.next_batch(3),
        "for": lambda: next(iter(sub)),
        "unsubscribe": sub.unsubscribe,
        "sub.drain": sub.drain,
        "select": lambda: zio.select(sub, timeout=1),
        "set_pending_limits": lambda: sub.set_pending_limits(1, 1),
    }
    for name, call in calls.items():
        try:
            call()
        except zio.ForkedError:
            continue
        raise AssertionError(f"{name} did not raise ForkedError")
    nc.close()  # nothing to close here
    os._exit(0)


def ends(nc: nats_zio.Client, sub: nats_zio.Subscription) -> None:
    """Go out through the blocks and off the end of the script."""
    with nc, sub:
        return


def exits(nc: nats_zio.Client, sub: nats_zio.Subscription) -> NoReturn:
    with nc, sub:
        sys.exit(0)


def raises(nc: nats_zio.Client, sub: nats_zio.Subscription) -> NoReturn:
    with nc, sub:
        raise RuntimeError("the child's own error")


def leaves(nc: nats_zio.Client, sub: nats_zio.Subscription) -> NoReturn:
    os._exit(0)


def connects(nc: nats_zio.Client, sub: nats_zio.Subscription) -> None:
    """A client of the child's own, left open at the end."""
    if WHERE == "task":
        zio.run(talk)
    else:
        talk()


def talk() -> None:
    own = nats_zio.connect(URL)
    with own.subscribe("own") as sub:
        own.publish("own", b"to myself")
        assert sub.next().data == b"to myself"
    assert own.request("echo", b"own").data == b"own"
    for number in range(FAREWELLS):
        own.publish("farewell", b"%d" % number)


DO = {fn.__name__: fn for fn in (uses, ends, exits, raises, leaves, connects)}


class Child:
    """A child process; `multiprocessing` if WHAT begins with `mp-`."""

    def __init__(self, nc: nats_zio.Client, sub: nats_zio.Subscription) -> None:
        self._pid = 0
        what = DO[WHAT.removeprefix("mp-")]
        if WHAT.startswith("mp-"):
            self._process = multiprocessing.get_context("fork").Process(target=what, args=(nc, sub))
            self._process.start()
            return
        self._pid = os.fork()
        if self._pid == 0:
            what(nc, sub)
            raise ChildEndsError

    def wait(self) -> int:
        if self._pid:
            return os.waitstatus_to_exitcode(os.waitpid(self._pid, 0)[1])
        self._process.join()
        return int(self._process.exitcode or 0)


class ChildEndsError(BaseException):
    """Takes the child out of the script, to its normal end."""


def main() -> None:
    nc = nats_zio.connect(URL)
    echoes = nats_zio.connect(URL)
    echoes.subscribe("echo", cb=lambda message: message.respond(message.data))
    echoes.flush()
    farewells = nc.subscribe("farewell")
    intruders = nc.subscribe("child")
    sub = nc.subscribe("numbers.*", pending_msgs=None)
    events = nc.events()
    stop = threading.Event()
    sent = [0] * THREADS

    def publish(number: int) -> None:
        while not stop.is_set():
            nc.publish(f"numbers.{number}", b"%d" % sent[number])
            sent[number] += 1
            if sent[number] % 5 == 0:
                stop.wait(0.001)

    threads = [threading.Thread(target=publish, args=(number,), daemon=True) for number in range(THREADS)]
    for thread in threads:
        thread.start()
    for _ in range(FORKS):
        sub.next()
        child = Child(nc, sub)
        status = zio.to_thread(child.wait) if WHERE == "task" else child.wait()
        assert status == (1 if WHAT.endswith("raises") else 0), f"a child ended with {status}"
        assert nc.request("echo", b"still here").data == b"still here"
        if WHAT.endswith("connects"):
            assert [int(farewells.next().data) for _ in range(FAREWELLS)] == list(range(FAREWELLS))
    stop.set()
    for thread in threads:
        thread.join()
    nc.flush()
    got: dict[str, list[int]] = {}
    while (message := sub.try_next()) is not None:
        got.setdefault(message.subject, []).append(int(message.data))
    # The first of each thread may have been among those taken above.
    for number in range(THREADS):
        numbers = got[f"numbers.{number}"]
        assert numbers == list(range(numbers[0], sent[number])), f"thread {number}: not what was sent"
    assert sum(map(len, got.values())) == sum(sent) - FORKS
    assert len(intruders) == 0
    assert len(events) == 0, f"something happened: {events.recv()}"
    assert nc.stats.reconnects == 0
    nc.drain()
    echoes.drain()
    print("the parent is well")


if __name__ == "__main__":
    try:
        if WHERE == "task":
            zio.run(main)
        else:
            main()
    except ChildEndsError:
        pass
    except RuntimeError as exc:
        if "own error" not in str(exc):
            traceback.print_exc()
            sys.exit(2)
        sys.exit(1)
