"""One way of a simulated connection: from the sender's buffer over the link to the receiver's."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from math import inf
from typing import TYPE_CHECKING
from zlib import crc32

if TYPE_CHECKING:
    import random
    from collections.abc import Callable

    from ..._core import Waiter
    from .connection import Connection
    from .stream import SimStream


@dataclass(slots=True)
class Link:
    """What one way between two hosts is like; may be changed at any time. Seconds and bytes."""

    latency: float = 0.001
    jitter: float = 0.0  # up to so much is added to the latency; bytes of a stream never overtake each other
    bandwidth: float | None = None  # bytes a second, for each connection or socket for datagrams
    buffer: int = 65536  # bytes sent and not read yet, at most; datagrams that it has no room for are dropped
    split_reads: float = 0.0  # the probability that a read gives only a part of what is there
    split_writes: float = 0.0  # the probability that a write takes only a part of what there is room for
    reset_every: float | None = None  # connections are reset after so many bytes on average
    cut: bool = False  # nothing gets through; it is sent again when the link is whole again, but for datagrams
    # Of datagrams alone, which overtake each other where there is jitter:
    loss: float = 0.0  # the probability that one is lost
    duplicates: float = 0.0  # the probability that one arrives twice

    def __post_init__(self) -> None:
        """TypeError or ValueError, which names the field, if this is no link that could be."""
        for name in ("latency", "jitter"):
            _check(name, getattr(self, name), 0.0)
        for name in ("split_reads", "split_writes", "loss", "duplicates"):
            _check(name, getattr(self, name), 0.0, 1.0)
        if not isinstance(self.buffer, int):
            raise TypeError(f"buffer={self.buffer!r} must be a whole number of bytes")
        _check("buffer", self.buffer, 1)
        for name in ("bandwidth", "reset_every"):
            value = getattr(self, name)
            if value is not None:
                _check(name, value, 0.0)
                if not value:
                    raise ValueError(f"{name}={value!r} must be more than 0, or None")


def _check(name: str, value: object, least: float, most: float = inf) -> None:
    if not isinstance(value, (int, float)):
        raise TypeError(f"{name}={value!r} must be a number")
    if not least <= value <= most:
        raise ValueError(f"{name}={value!r} must be {f'from {least} to {most}' if most < inf else f'{least} or more'}")


class At:
    """An entry in the loop's heap of timers that calls a function of no task."""

    sleeping = True

    def __init__(self, call: Callable[..., object], *args: object) -> None:
        self._call = call
        self._args = args

    def expire(self) -> None:
        self._call(*self._args)

    def alive(self, _deadline: float) -> bool:
        return True


class Flow:
    """One way of a connection. Its bytes are counted when taken from the sender (``sent``) and when delivered."""

    def __init__(self, connection: Connection, link: Link, name: str) -> None:
        self.link = link
        self.sent = 0
        self.delivered = 0
        # Sees the bytes that are taken from the sender, before they travel. What it returns is how many of them to take
        # (None: all of them); after a number there is no more room, as after ``allow``.
        self.tap: Callable[[bytes], int | None] | None = None
        self._connection = connection
        self._loop = connection.loop
        self._name = name
        self.receiver: SimStream
        self.unread: deque[bytes] = deque()
        self._size = 0  # taken from the sender and not read
        self._allowed: int | None = None
        self._stalled = False
        self._reset_at: int | None = None
        self._vanishing = False
        self._broken_off = False  # by a reset that was sent
        self.finished = False  # the sender has ended its side
        self.ended = False  # the receiver knows
        self._free_at = 0.0
        self._last_arrival = 0.0
        self._in_flight = 0
        self._held: deque[tuple[str, bytes]] = deque()
        self.reader: Waiter | None = None
        self.writer: Waiter | None = None

    # Faults.

    def allow(self, count: int | None) -> None:
        """From now on take only ``count`` more bytes from the sender, as if there were no more room; None: no limit."""
        self._allowed = None if count is None else self.sent + count
        self._note("allowed", count or 0)
        self._wake_writer()

    def reset_at(self, count: int) -> None:
        """Reset the connection when the byte number ``count`` of this flow has come to the receiver."""
        self._reset_at = count
        if self.delivered >= count:
            self._connection.reset()

    def vanish(self) -> None:
        """From now on lose everything that is sent, without a word to either side."""
        self._vanishing = True
        self._held.clear()
        self._note("vanishing")

    # The sender's side.

    def take(self, data: bytes | bytearray | memoryview) -> int:
        """Take what there is room for; how many bytes."""
        link = self.link
        with memoryview(data) as whole, whole.cast("B") as view:
            count = min(len(view), self.room)
            if count and link.split_writes and self._random.random() < link.split_writes:
                count = self._random.randrange(count)
                self._stalled = True
                self._after(self._random.random() * (link.latency + link.jitter), self._go_on)
                self._note("write split", count)
            if not count:
                return 0
            chunk = bytes(view[:count])
        if self.tap is not None:
            wanted = self.tap(chunk)
            if wanted is not None:
                self.allow(wanted)
                chunk = chunk[:wanted]
                count = len(chunk)
                if not count:
                    return 0
        self.sent += count
        self._size += count
        self._note("sent", count, crc32(chunk))
        self._transmit("data", chunk)
        return count

    @property
    def room(self) -> int:
        """How many bytes it would take now."""
        if self._stalled:
            return 0
        room = max(self.link.buffer - self._size, 0)
        return room if self._allowed is None else min(room, self._allowed - self.sent)

    def _go_on(self) -> None:
        self._stalled = False
        self._wake_writer()

    def finish(self) -> None:
        """End it behind what was sent."""
        if not self.finished:
            self.finished = True
            self._note("end sent")
            if self.writer is not None:
                self.writer.wake()
            self._transmit("end", b"")

    def send_reset(self) -> None:
        """Have the other side find the connection reset."""
        if not self._broken_off:
            self.finished = self._broken_off = True
            self._note("reset sent")
            self._transmit("reset", b"")

    # On the way.

    def _transmit(self, kind: str, data: bytes) -> None:
        if self._vanishing:
            self._note(f"{kind} vanished", len(data))
        elif self.link.cut or self._held:
            self._held.append((kind, data))
        else:
            self._depart(kind, data)

    def release(self) -> None:
        """The link may be whole again."""
        if not self.link.cut:
            while self._held:
                self._depart(*self._held.popleft())

    def _depart(self, kind: str, data: bytes) -> None:
        link = self.link
        now = self._loop.clock.now()
        depart = now
        if link.bandwidth is not None:
            depart = self._free_at = max(now, self._free_at) + len(data) / link.bandwidth
        arrival = depart + link.latency
        if link.jitter:
            arrival += link.jitter * self._random.random()
        arrival = self._last_arrival = max(arrival, self._last_arrival)
        if arrival <= now and not self._in_flight:
            self._arrive(kind, data)
        else:
            self._in_flight += 1
            self._loop.timers.push(arrival, At(self._land, kind, data))

    def _land(self, kind: str, data: bytes) -> None:
        self._in_flight -= 1
        if not self._vanishing:
            self._arrive(kind, data)
        else:
            self._note(f"{kind} vanished", len(data))

    def _arrive(self, kind: str, data: bytes) -> None:
        receiver = self.receiver
        if receiver.failed:
            return
        if kind == "reset":
            self._note("reset arrived")
            receiver.fail()
        elif receiver.closed:
            if kind == "data":
                receiver.out.send_reset()  # nobody reads that
        elif kind == "end":
            self.ended = True
            self._wake_reader()
        else:
            cut = self._reset_at
            if cut is not None and self.delivered + len(data) >= cut:
                data = data[: max(cut - self.delivered, 0)]
            self.delivered += len(data)
            self._note("arrived", len(data))
            if data:
                self.unread.append(data)
                self._wake_reader()
            if cut is not None and self.delivered >= cut:
                self._connection.reset()

    # The receiver's side.

    def read(self, n: int) -> bytes:
        """At most ``n`` of the bytes that have come, at least one."""
        link = self.link
        unread = self.unread
        if n > 1 and link.split_reads and self._random.random() < link.split_reads:
            n = 1 + self._random.randrange(min(n, sum(map(len, unread))))
            self._note("read split", n)
        chunk = unread.popleft()
        if unread and len(chunk) < n:
            parts, have = [chunk], len(chunk)
            while unread and have < n:
                parts.append(unread.popleft())
                have += len(parts[-1])
            chunk = b"".join(parts)
        if len(chunk) > n:
            unread.appendleft(chunk[n:])
            chunk = chunk[:n]
        self._size -= len(chunk)
        self._wake_writer()
        return chunk

    def discard(self) -> None:
        self.unread.clear()

    # Help.

    @property
    def _random(self) -> random.Random:
        return self._connection.random

    def _after(self, seconds: float, call: Callable[..., object], *args: object) -> None:
        self._loop.timers.push(self._loop.clock.now() + seconds, At(call, *args))

    def _note(self, what: str, size: int = 0, mark: int = 0) -> None:
        self._connection.note(self._name, what, size, mark)

    def _wake_reader(self) -> None:
        if self.reader is not None:
            self.reader.wake()

    def _wake_writer(self) -> None:
        if self.writer is not None and self.room > 0:
            self.writer.wake()
