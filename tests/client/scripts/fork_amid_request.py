"""A signal handler forks while the main thread waits for a reply: `fork_amid_request.py URL WHAT`.

The child either makes a client of its own in the handler (`connects`), or returns from the handler into the request
(`returns`). The parent gets its reply, which is sent when the child exists.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import traceback

import nats_zio
import zio

URL, WHAT = sys.argv[1:3]


def main() -> None:
    parent = os.getpid()
    nc = nats_zio.connect(URL)
    listener = nats_zio.connect(URL)
    forked = threading.Event()

    def answer(message: nats_zio.Message) -> None:
        os.kill(parent, signal.SIGUSR1)
        assert forked.wait(30)
        message.respond(b"for the parent")

    def fork(*_: object) -> None:
        pid = os.fork()
        if pid == 0:
            if WHAT == "connects":
                leave(talk)
            return
        forked.set()
        status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        print(f"the child's status: {status}")

    def ask() -> None:
        try:
            print(nc.request("slow", b"?", timeout=30).data.decode())
        except zio.ForkedError:
            assert os.getpid() != parent
        else:
            assert os.getpid() == parent, "the child has taken the reply"

    listener.subscribe("slow", cb=answer)
    listener.flush()
    signal.signal(signal.SIGUSR1, fork)
    try:
        ask()
    except BaseException:
        if os.getpid() == parent:
            raise
        traceback.print_exc()
        os._exit(1)
    if os.getpid() != parent:
        os._exit(0)
    nc.close()
    listener.close()


def talk() -> None:
    with nats_zio.connect(URL) as own, own.subscribe("own") as sub:
        own.publish("own", b"to myself")
        assert sub.next(timeout=20).data == b"to myself"


def leave(act: object) -> None:
    """Do it, and end at once."""
    assert callable(act)
    status = 1
    try:
        act()
        status = 0
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(status)


if __name__ == "__main__":
    main()
