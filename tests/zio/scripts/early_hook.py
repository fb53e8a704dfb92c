"""A hook that runs in a forked child before ours: `early_hook.py WHERE WHAT`.

WHERE the fork is made: `thread` or `task`. WHAT the hook does: a signal that the parent receives, or a call below; it
prints what came of it.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
from collections.abc import Callable
from typing import Any

where, what = sys.argv[1:]
ready = False


def say(text: str) -> None:
    os.write(1, text.encode() + b"\n")


def in_child() -> None:
    if not ready:
        return
    signal.alarm(10)
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    try:
        say(str(calls[what]()))
    except BaseException as exc:
        say(type(exc).__name__)


os.register_at_fork(after_in_child=in_child)

import zio  # noqa: E402

signal.signal(signal.SIGUSR1, lambda number, frame: say("the previous handler"))
channel: Any = None
event: Any = None
stream: Any = None


def background() -> int:
    return zio.background().call(lambda: 5)


calls: dict[str, Callable[[], object]] = {
    "signal": lambda: signal.raise_signal(signal.SIGUSR1),
    "sleep": lambda: zio.sleep(0.01),
    "recv": lambda: channel.recv(),
    "wait": lambda: event.wait(timeout=0.01),
    "join": lambda: zio.spawn(int).join(),
    "background": background,
    "close": lambda: stream.close(),
}


def main() -> None:
    global ready, channel, event, stream
    channel, event = zio.Channel(0), zio.Event()
    zio.spawn(channel.recv)
    if what == "close":
        loop = zio.lowlevel.here().loop
        left, right = socket.socketpair()
        stream, peer = zio.net.SocketStream(left, loop), zio.net.SocketStream(right, loop)
        reader = zio.spawn(stream.recv, 5)
        zio.testing.wait_all_parked()
    ready = True
    pid = os.fork()
    if pid == 0:
        say("signalled" if what == "signal" else "born")
        os._exit(0)
    assert os.waitpid(pid, 0)[1] == 0
    channel.send(1)
    if stream is not None:
        peer.send_all(b"heard")
        assert reader.join(5) == b"heard"
    say("the parent is well")


def receiving() -> None:
    with zio.signals(signal.SIGUSR1):
        main()


if what == "signal":
    zio.run(receiving)
elif where == "task":
    zio.run(main)
else:
    main()
