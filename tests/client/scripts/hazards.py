"""Calls from where code runs that nobody has called: `hazards.py URL PLACE`.

At that place all that never waits is called, and then what waits. Prints what became of each as JSON: "done", or the
name of the error.
"""

from __future__ import annotations

import asyncio
import atexit
import ctypes
import gc
import json
import logging
import os
import signal
import sys
import threading
import warnings
from collections.abc import Callable
from typing import Any

import greenlet

warnings.simplefilter("ignore")
URL, PLACE = sys.argv[1:3]
said: dict[str, Any] = {}
begun = threading.Event()
fork_hook: Callable[[], None] | None = None
if PLACE == "early child":
    os.register_at_fork(after_in_child=lambda: fork_hook and fork_hook())

import nats_zio  # noqa: E402
import zio  # noqa: E402


class Things:
    """What the calls are made on."""

    def __init__(self, lazy: bool = False) -> None:
        self.nc = nats_zio.connect(URL, lazy=lazy)
        self.echo = self.nc.subscribe("echo", cb=lambda message: message.respond(message.data))
        self.sub = self.nc.subscribe("x.*")
        self.event = zio.Event()
        self.channel: zio.Channel[int] = zio.Channel(10)
        self.task = zio.spawn(zio.sleep, 1000)
        self.nc.flush()

    def act(self) -> None:
        """Call everything."""
        said["never"] = {name: outcome(call) for name, call in self.never().items()}
        said["waits"] = {name: outcome(call) for name, call in self.waits().items()}
        begun.set()

    def never(self) -> dict[str, Callable[[], object]]:
        return {
            "publish": lambda: self.nc.publish("y", b"1"),
            "subscribe": lambda: self.nc.subscribe("z").unsubscribe(),
            "try_next": self.sub.try_next,
            "set": self.event.set,
            "try_send": lambda: self.channel.try_send(1),
            "cancel": self.task.cancel,
        }

    def waits(self) -> dict[str, Callable[[], object]]:
        return {
            "flush": lambda: self.nc.flush(timeout=5),
            "request": lambda: self.nc.request("echo", timeout=5),
            "next": lambda: self.sub.next(timeout=0.01),
            "wait": lambda: zio.Event().wait(timeout=0.01),
            "sleep": lambda: zio.sleep(0.001),
        }


def outcome(call: Callable[[], object]) -> str:
    try:
        call()
    except TimeoutError:
        return "done"
    except BaseException as exc:
        return type(exc).__name__
    return "done"


class Finalized:
    def __init__(self, act: Callable[[], None]) -> None:
        self.me: Finalized | None = self  # so that the collector of garbage finds it
        self.act = act

    def __del__(self) -> None:
        self.act()


class Handler(logging.Handler):
    """Publishes and waits for each record of one logger."""

    def __init__(self, name: str, act: Callable[[], None]) -> None:
        super().__init__()
        self.addFilter(logging.Filter(name))
        self.act = act

    def emit(self, record: logging.LogRecord) -> None:
        if not begun.is_set():
            self.act()


def plain(things: Things, where: str) -> None:
    act = things.act
    match where:
        case "signal":
            signal.signal(signal.SIGUSR1, lambda number, frame: act())
            signal.raise_signal(signal.SIGUSR1)
        case "signal in a call":
            signal.signal(signal.SIGUSR1, lambda number, frame: act())
            threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGUSR1)).start()
            said["interrupted"] = {
                "next": outcome(lambda: things.sub.next(timeout=0.5)),
                "flush": outcome(things.nc.flush),
            }
        case "finalizer":
            Finalized(act)
            gc.collect()
        case "finalizer in the loop":
            held = [Finalized(act)]
            held[0].me = None
            things.nc.runtime.loop.post(held.clear)
            begun.wait(5)
        case "log handler":
            logging.getLogger().addHandler(Handler("app", act))
            logging.getLogger("app").warning("a line")
        case "handler of our lines":
            logging.getLogger().addHandler(Handler("nats_zio", act))
            slow = things.nc.subscribe("flood", pending_msgs=1)
            for _ in range(3):
                things.nc.publish("flood")
            things.nc.flush()
            begun.wait(5)
            slow.unsubscribe()
        case "before a fork" | "parent after a fork":
            os.register_at_fork(**{"before" if where == "before a fork" else "after_in_parent": act})
            pid = os.fork()
            if pid == 0:
                os._exit(0)
            os.waitpid(pid, 0)
        case "daemon thread":

            def again_and_again() -> None:
                while outcome(lambda: things.nc.flush(timeout=5)) == "done":
                    begun.set()
                print("came back", flush=True)

            threading.Thread(target=again_and_again, daemon=True).start()
            begun.wait(5)
        case "exit handler":
            atexit.register(lambda: (act(), print(json.dumps(said), flush=True)))
        case "profile function":

            def profile(frame: Any, event: str, arg: object) -> None:
                if event == "call" and frame.f_code.co_name == "send_elsewhere":
                    sys.setprofile(None)
                    act()

            sys.setprofile(profile)
            things.nc.publish("y", "text", headers={"a": "b"})
        case "asyncio":

            async def main() -> None:
                asyncio.get_running_loop().call_soon(act)
                await asyncio.sleep(0)

            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always", RuntimeWarning)
                asyncio.run(main())
            said["warnings"] = len(caught)
        case "greenlet":
            greenlet.greenlet(act).switch()
        case "C thread":
            ident = ctypes.c_ulong()
            start = ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.c_void_p)(lambda _: act())
            libc = ctypes.CDLL(None)
            assert libc.pthread_create(ctypes.byref(ident), None, start, None) == 0
            libc.pthread_join(ident, None)


def in_child(lazy: bool) -> None:
    """In the child all is refused that is of the parent's; a lazy client begins anew."""
    global fork_hook
    things = Things(lazy)
    read_end, write_end = os.pipe()

    def act() -> None:
        things.act()
        os.write(write_end, json.dumps(said).encode())

    fork_hook = act
    if PLACE != "early child":
        os.register_at_fork(after_in_child=act)
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    os.waitpid(pid, 0)
    said.update(json.loads(os.read(read_end, 10000)))
    things.nc.flush()


def in_run(where: str) -> None:
    things = Things()
    act = things.act
    signal.signal(signal.SIGUSR1, lambda number, frame: act())
    match where:
        case "signal in a task":
            signal.raise_signal(signal.SIGUSR1)
        case "signal in the hub":
            threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGUSR1)).start()
            zio.sleep(0.4)
        case "finalizer in a task":
            Finalized(act)
            gc.collect()
        case "finalizer in the hub":
            held = [Finalized(act)]
            held[0].me = None
            zio.lowlevel.here().loop.post(held.clear)
            zio.sleep(0.01)
        case "greenlet in a run":
            greenlet.greenlet(act).switch()
    assert begun.is_set()
    zio.sleep(0.001)  # the run goes on
    things.nc.flush()


def first_client() -> None:
    print(json.dumps({"connect": outcome(lambda: nats_zio.connect(URL).flush())}), flush=True)


if PLACE == "first client at the exit":
    atexit.register(first_client)
elif PLACE.startswith("run: "):
    zio.run(in_run, PLACE.removeprefix("run: "))
elif PLACE in ("child", "early child", "lazy child"):
    in_child(PLACE == "lazy child")
else:
    things = Things()
    plain(things, PLACE)
    things.nc.flush()
if PLACE not in ("exit handler", "first client at the exit"):
    print(json.dumps(said))
