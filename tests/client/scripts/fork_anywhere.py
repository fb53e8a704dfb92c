"""Fork at any moment while a client is in use: `fork_anywhere.py URL SEED`.

A timer's signal forks, in the middle of whatever the main thread does just then, which publishes, flushes and asks all
the time, as other threads do. What the child does is chosen by the seed. Nothing that the parent has published is lost
or comes twice, its connection lasts, and no word of a child arrives by it.
"""

from __future__ import annotations

import os
import random
import signal
import sys
import threading
import traceback
from types import FrameType

import nats_zio
import zio

URL, SEED = sys.argv[1], int(sys.argv[2])
FORKS = 10
THREADS = 3
CHOICE = random.Random(SEED)


def uses(nc: nats_zio.Client) -> None:
    """Every call says at once that the client is the parent's."""
    for call in (lambda: nc.publish("child", b"stray"), nc.flush, lambda: nc.request("echo", b"stray", timeout=5)):
        try:
            call()
        except zio.ForkedError:
            continue
        raise AssertionError("a call of a child did not raise ForkedError")


def connects(nc: nats_zio.Client) -> None:
    """By a connection of its own it may say what it likes; the client of the parent is left to itself."""
    with nats_zio.connect(URL) as own:
        own.publish("own", b"hello")
        own.flush(timeout=20)
    uses(nc)


def leaves(nc: nats_zio.Client) -> None:
    pass


class Forks:
    """The handler of the timer, and the children."""

    def __init__(self, nc: nats_zio.Client) -> None:
        self._nc = nc
        self.children: list[int] = []
        self.connected = 0

    def next(self) -> None:
        """A child, in a moment."""
        signal.setitimer(signal.ITIMER_REAL, CHOICE.uniform(0.0005, 0.02))

    def fork(self, number: int, frame: FrameType | None) -> None:
        act = CHOICE.choice([uses, connects, leaves])
        pid = os.fork()
        if pid == 0:
            status = 1
            try:
                act(self._nc)
                status = 0
            except BaseException:
                traceback.print_exc()
            finally:
                os._exit(status)
        self.connected += act is connects
        self.children.append(pid)
        if len(self.children) < FORKS:
            self.next()


def main() -> None:
    nc = nats_zio.connect(URL)
    listener = nats_zio.connect(URL)
    listener.subscribe("echo", cb=lambda message: message.respond(message.data))
    heard = listener.subscribe("numbers.*", pending_msgs=None, pending_bytes=None)
    strays = listener.subscribe("child")
    own = listener.subscribe("own")
    listener.flush()
    events = nc.events()
    stop = threading.Event()
    sent = [0] * (THREADS + 1)

    def publish(number: int) -> None:
        nc.publish(f"numbers.{number}", b"%d" % sent[number])
        sent[number] += 1

    def work(number: int) -> None:
        while not stop.is_set():
            publish(number)
            if sent[number] % 5 == 0:
                stop.wait(0.001)

    threads = [threading.Thread(target=work, args=(number,), daemon=True) for number in range(THREADS)]
    for thread in threads:
        thread.start()
    forks = Forks(nc)
    signal.signal(signal.SIGALRM, forks.fork)
    forks.next()
    while len(forks.children) < FORKS:
        publish(THREADS)
        CHOSEN[sent[THREADS] % len(CHOSEN)](nc)
    for pid in forks.children:
        status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        assert status == 0, f"a child ended with {status}"
    stop.set()
    for thread in threads:
        thread.join()
    nc.flush()
    listener.flush()
    got: dict[str, list[int]] = {}
    for _ in range(sum(sent)):
        message = heard.next(timeout=20)
        got.setdefault(message.subject, []).append(int(message.data))
    for number, count in enumerate(sent):
        assert got[f"numbers.{number}"] == list(range(count)), f"thread {number}: not what was sent"
    assert len(heard) == len(strays) == 0
    assert len(own) == forks.connected
    assert len(events) == 0, f"something happened: {events.recv()}"
    assert nc.stats.reconnects == 0
    nc.drain()
    listener.drain()
    print("the parent is well")


def asks(nc: nats_zio.Client) -> None:
    assert nc.request("echo", b"well?", timeout=20).data == b"well?"


CHOSEN = [asks, lambda nc: nc.flush(timeout=20), leaves, leaves]

if __name__ == "__main__":
    main()
