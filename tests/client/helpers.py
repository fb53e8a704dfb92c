"""A client of another library to talk to, and waiting for what only another process can tell."""

from __future__ import annotations

import asyncio
import queue
import threading
import time
from collections.abc import Callable, Coroutine
from typing import Any, Self

import nats as nats_py

import zio

LIMIT = 30.0  # seconds that a test waits for what must happen


def away(fn: Callable[..., Any], *args: Any) -> Any:
    """Do what blocks (stopping a server, say) without holding up the loop, if this is a task."""
    if zio.lowlevel.runtime_here() is None:
        return fn(*args)
    return zio.to_thread(fn, *args)


def eventually(condition: Callable[[], object], what: str = "", limit: float = LIMIT) -> Any:
    """What `condition` returns once it is true; only for what no event or flush can witness."""
    deadline = time.monotonic() + limit
    delay = 0.001
    while not (value := condition()):
        assert time.monotonic() < deadline, f"never came true: {what or condition}"
        zio.sleep(delay)
        delay = min(delay * 1.5, 0.05)
    return value


def next_event(events: Any, kind: type, limit: float = LIMIT) -> Any:
    """The next event of this kind; others are skipped."""
    deadline = time.monotonic() + limit
    while True:
        event = events.recv(timeout=max(deadline - time.monotonic(), 0.001))
        if isinstance(event, kind):
            return event


def read_all(events: Any) -> list[Any]:
    """The events so far."""
    found = []
    while True:
        try:
            found.append(events.try_recv())
        except (zio.WouldBlock, zio.ChannelClosed):
            return found


class Peer:
    """nats-py on an event loop of its own, in a thread."""

    def __init__(self, url: str, **options: Any) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="peer")
        self._url = url
        self._options = options

    def __enter__(self) -> Self:
        self._thread.start()
        self.nc = self.do(nats_py.connect(self._url, **self._options))
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self.do(self.nc.close())
        finally:
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
            self._loop.close()

    def do(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(2 * LIMIT)

    def subscribe(self, subject: str, reply: Callable[[Any], bytes] | None = None) -> queue.Queue[Any]:
        """Subscribe; the messages gather in the queue returned. With `reply`, each is answered with what it returns."""
        messages: queue.Queue[Any] = queue.Queue()

        async def take(message: Any) -> None:
            messages.put(message)
            if reply is not None:
                await message.respond(reply(message))

        self.do(self.nc.subscribe(subject, cb=take))
        self.do(self.nc.flush())
        return messages

    def publish(self, subject: str, *payloads: bytes, **options: Any) -> None:
        """Publish; returns when the server has it."""

        async def publish() -> None:
            for payload in payloads:
                await self.nc.publish(subject, payload, **options)
            await self.nc.flush()  # its PING may overtake what is buffered,
            await self.nc.flush()  # but the next one cannot

        self.do(publish())
