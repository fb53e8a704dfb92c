"""Exit handlers that publish and ask, wherever they were registered: `exit_handlers.py URL HOW [WHAT]`.

HOW it ends: `normal`, `exception`, `sys.exit`; `fork`, `forkserver`, `spawn`: a child of multiprocessing, and then
its handlers count.
WHAT each handler does: `publish` (the default), `request`, `connect` (a client of its own), or `wait` (a line of input
before the end, then publish).
"""

from __future__ import annotations

import atexit
import functools
import sys
from typing import Any

nc: Any = None


def bye(name: str) -> None:
    if what == "connect":
        try:
            with nats_zio.connect(url) as own:
                own.publish("bye", name)
        except Exception as exc:
            print(f"{name}: {exc!r}", flush=True)
    elif what == "request":
        print(name, nc.request("echo", name, timeout=10).data.decode(), flush=True)
    else:
        nc.publish("bye", name)


def register(name: str) -> None:
    atexit.register(functools.partial(bye, name))


register("before the import")

import multiprocessing  # noqa: E402
import multiprocessing.util  # noqa: E402

import nats_zio  # noqa: E402

url, how, what = sys.argv[1], sys.argv[2], [*sys.argv, "publish"][3]


def main() -> None:
    global nc
    register("before connect")
    if what != "connect":
        nc = nats_zio.connect(url)
        nc.flush()
    register("after connect")
    if multiprocessing.parent_process() is not None:
        multiprocessing.util.Finalize(None, functools.partial(bye, "a finalizer"), exitpriority=0)
        multiprocessing.util.Finalize(None, functools.partial(bye, "a late finalizer"), exitpriority=-50)


if __name__ == "__main__":
    if how in ("fork", "spawn", "forkserver"):
        context: Any = multiprocessing.get_context(how)
        child = context.Process(target=main)
        child.start()
        child.join()
        print("the child's status:", child.exitcode)
        what = "nothing"
        atexit.unregister(bye)
        nc = nats_zio.connect(url)
    else:
        main()
        if what == "wait":
            print("published", flush=True)
            sys.stdin.readline()
        if how == "exception":
            raise RuntimeError("the end")
        if how == "sys.exit":
            sys.exit(3)
