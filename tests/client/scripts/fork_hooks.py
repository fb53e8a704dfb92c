"""Publish from hooks around a fork that were registered before our import: `fork_hooks.py URL WHERE HOW LAZY`.

WHERE the fork is made: `thread` (the main thread of a plain script), `task` (the main task of zio.run), `handler` (of a
subscription, so on a worker thread), `job` (of zio.to_thread). HOW: `fork`, `process` (multiprocessing), `preexec` (of
subprocess), `C` (the C function, of which Python knows nothing: no hooks). LAZY: `lazy` or `plain`.

The child's hook, or with `C` the child itself, says what became of its publish; the parent says it in a line of JSON.
"""

from __future__ import annotations

import ctypes
import json
import multiprocessing
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from typing import Any

URL, WHERE, HOW, LAZY = sys.argv[1:5]
nc: Any = None
read_end, write_end = os.pipe()


def publish(data: str) -> str:
    """What came of it, in a word."""
    if nc is None:
        return "too early"
    try:
        nc.publish("hook", data)
        if data == "child":
            nc.flush(timeout=5)
    except BaseException as exc:
        return type(exc).__name__
    return f"sent by {nc.server_info.client_id}" if data == "child" else "sent"


def in_child() -> None:
    os.write(write_end, publish("child").encode())


os.register_at_fork(
    before=lambda: publish("before"), after_in_parent=lambda: publish("parent"), after_in_child=in_child
)

import nats_zio  # noqa: E402
import zio  # noqa: E402


def fork() -> int:
    """The child's exit status."""
    if HOW == "process":
        process = multiprocessing.get_context("fork").Process(target=os.getpid)
        process.start()
        process.join()
        return process.exitcode or 0
    if HOW == "preexec":
        return subprocess.run([sys.executable, "-c", ""], preexec_fn=lambda: None, check=False).returncode
    pid = os.fork() if HOW == "fork" else ctypes.PyDLL(None).fork()
    if pid == 0:
        if HOW == "C":
            in_child()
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def in_place(fn: Callable[[], int]) -> int:
    if WHERE == "job":
        return zio.to_thread(fn)
    if WHERE == "handler":
        found: zio.Channel[int] = zio.Channel(1)
        with nats_zio.connect(URL) as other, other.subscribe("go", cb=lambda message: found.send(fn())):
            other.publish("go")
            return found.recv(timeout=20)
    return fn()


def main() -> None:
    global nc
    client = nats_zio.connect(URL, lazy=LAZY == "lazy")
    client.flush()
    stop = threading.Event()

    def publish_on() -> None:
        while not stop.is_set():
            client.publish("noise", b"x")
            stop.wait(0.0001)

    # C code that forks beside other threads leaves Python's own locks in whatever state they are in.
    threads = [threading.Thread(target=publish_on) for _ in range(0 if HOW == "C" else 3)]
    for thread in threads:
        thread.start()
    nc = client
    status = in_place(fork)
    stop.set()
    for thread in threads:
        thread.join()
    client.flush(timeout=5)
    said = {
        "child": os.read(read_end, 1000).decode(),
        "parent": f"sent by {client.server_info.client_id}",
        "status": status,
        "reconnects": client.stats.reconnects,
    }
    nc = None
    client.close()
    print(json.dumps(said))


if WHERE in ("task", "job"):
    zio.run(main)
else:
    main()
