"""The one queue of everything a client sends, in the order it was accepted, and its way to the socket.

What the protocol sends are lines that end with CRLF: a message is two of them, its command and its payload, every
other command one. The queue has the lines as they came, without CRLF, and one ``join`` when they are written adds it:
formatting each message by itself copied it once more, and took more than half the time of a publish. The lines of a
message are appended in one step, so that commands keep their order whatever thread they come from, and a message
that was cut off by a broken connection can be told from one that was not begun.

Who writes: tasks of the home loop only append; what came together in one tick goes out in one write at its
end (or as soon as ``WRITE_SIZE`` has gathered). A plain thread appends under ``lock`` and, if nothing is
waiting, writes to the socket itself: that costs half the CPU of waking the loop. When the socket is full,
a task of the home loop waits for it, and whoever publishes waits for room before the message is accepted.

``limit`` is the one test on the hot path: below it a message is simply appended. It is lowered whenever
there is more to do than that: the tick's flush is not scheduled yet, too much has gathered, not connected.
``limit_of_threads`` is the same for plain threads, under the lock: up to there a flush is on its way.
"""

from __future__ import annotations

import builtins
import threading
from os import getpid
from time import perf_counter
from typing import TYPE_CHECKING, NamedTuple

import zio
from zio.lowlevel import Waiter, WaitQueue, here, notice_fork

from ..errors import DisconnectedError, MaxPayloadError, TimeoutError
from .kept import Kept, frames, payload_bytes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from zio.lowlevel import Fiber, Loop
    from zio.net import Stream

WRITE_SIZE = 512 << 10  # so much in one tick is written at once; with 128 KiB, 8 KiB messages went 1.35 times slower
ROOM = 1 << 20  # bytes accepted beyond what the socket takes; then publishers wait
LINE_SIZE = 64  # bytes beside the payload, about what a line takes in memory: small messages wait for no more than 2 ms
BUSY_WAIT = 500e-6  # seconds that messages may gather while tasks are busy
TICK = 1e-3  # seconds between two looks at what threads have appended
QUIET = 200e-6  # a plain thread writes at once if it has not for so many seconds


class Mark(NamedTuple):
    """A place in the queue: what was accepted before it, since the beginning."""

    msgs: int
    bytes: int
    lines: int


class Outbound:
    """The outbound queue of one client."""

    def __init__(self, loop: Loop, reconnect_buffer_size: int, on_write_error: Callable[[BaseException], None]) -> None:
        self.lock = threading.Lock()
        self.lines: list[bytes] = []
        # Payload bytes accepted and, of those, taken from the queue. Two counters for accepted: one that only
        # the home loop's thread adds to, one that is added to under the lock.
        self.accepted = 0
        self.accepted_by_threads = 0
        self.taken = 0
        self.limit = -1
        self.limit_of_threads = -1
        self.max_payload = 1 << 20
        self._loop = loop
        self._kept = Kept(self.lines, reconnect_buffer_size)
        self._on_write_error = on_write_error
        self._stream: Stream | None = None
        self._batch: list[bytes] = []  # lines taken from the queue, not wholly written
        self._rest: memoryview | None = None  # what is left to write of it
        self._scheduled = False
        self._scheduled_at = 0.0
        self._ticking = False  # the loop looks each millisecond whether threads have appended something
        self._ticked_at = 0
        self._ticker = _Ticker(self._tick_for_threads)
        self._last_thread_write = 0.0
        self._draining = False  # a task waits for the socket
        self._room = WaitQueue()
        self._failure: Callable[[], BaseException] | None = None  # makes the error of a closed client
        self.opener: Callable[[], None] | None = None  # makes the first connection
        self._watcher: Callable[[], None] | None = None  # is told once when messages are written
        # For the counts of what was lost: lines in all, and those of control frames to tell messages from.
        self._lines_taken = 0
        self._controls = 0
        self._proved_msgs = 0
        self._proved_bytes = 0
        self._in_doubt = 0, 0  # what the lost connection left unproved, until there is another

    # Accepting, in the home loop.

    def admit(self, size: int, deadline: float | None = None) -> None:
        """Called when ``accepted + size`` exceeds ``limit``, before the message is appended.

        Returns when it may be; raises MaxPayloadError, ReconnectBufferFullError, or what closed the client.
        TimeoutError if there is no room before ``deadline``.
        """
        if self._failure is not None:
            raise self._failure()
        if size > self.max_payload:
            raise MaxPayloadError(size, self.max_payload)
        while True:
            if self._stream is None:
                if self.opener is not None:
                    self.opener()
                    continue
                with self.lock:
                    self._kept.check(size)
                self.limit = -1
                return
            if not self._scheduled:
                self._schedule()
            elif self.pending + size > WRITE_SIZE:
                self.flush()
            if self._stream is None:
                continue
            if self._rest is None or self.pending + size <= ROOM or not self.pending:
                # Room for more than one message, so that the next ones pass the test on the hot path.
                self.limit = self.accepted + max(size, min(WRITE_SIZE, self.max_payload))
                if size > WRITE_SIZE:
                    self.limit = -1
                return
            self._wait_for_room(here(), deadline)
            if self._failure is not None:
                raise self._failure()

    def write_alone(self, line: bytes, body: bytes) -> bool:
        """Accept and write a message at once, if nothing gathers and there is room; else False, and nothing is done.

        For a task that then waits, with no other one ready: the way by the end of the tick costs it 2 µs.
        """
        stream = self._stream
        if stream is None or self._scheduled or self._rest is not None or self._failure is not None:
            return False
        if len(body) > self.max_payload:
            return False
        self.lines.extend((line, body))
        self.accepted += len(body)
        with self.lock:
            if self._stream is stream and self._rest is None:
                self._write(stream)
        return True

    def withdraw(self, line: bytes) -> None:
        """The message with this command line is not wanted any more: if it waits for a connection, it is not sent.

        From any thread, a finalizer too. A message that goes to a connection is left alone.
        """
        if self._stream is None and self._kept.withdraw(line):
            self._loop.urgent(self._make_room)

    def _make_room(self) -> None:
        """Take what was withdrawn out of a queue that waits for a connection. In the home loop."""
        with self.lock:
            if self._stream is None and self._rest is None:
                self.accepted -= self._kept.drop_withdrawn()
                self._kept.measure()

    @property
    def pending(self) -> int:
        """Bytes accepted and not written yet: payloads, and for all else a guess for each line in the queue."""
        accepted = self.accepted + self.accepted_by_threads + LINE_SIZE * len(self.lines)
        return accepted - self.taken + (0 if self._rest is None else len(self._rest))

    def control(self, frame: bytes) -> None:
        """Queue a SUB, UNSUB, PING or PONG. Dropped while disconnected: a reconnect begins from the tables."""
        if self._stream is None:
            return
        self._controls += 1
        self.lines.append(frame[:-2])
        if not self._scheduled:
            self._schedule()
            self.limit = -1

    def _wait_for_room(self, fiber: Fiber, deadline: float | None) -> None:
        waiter = Waiter(fiber, "room to publish")
        left = None if deadline is None else deadline - self._loop.clock.now()
        self._room.push(waiter)
        if not self._loop.wait(waiter, left, self._room.discard):
            raise TimeoutError("the outbound queue had no room in time")

    def wait_for_room(self, size: int, seconds: float | None = None) -> None:
        """For plain threads, as a posted call: return when a message of ``size`` bytes may be tried again."""
        deadline = None if seconds is None else self._loop.clock.now() + seconds
        while self._failure is None and self._stream is not None and self.pending and self.pending + size > ROOM:
            if self._rest is None:
                self.flush()
            else:
                self._wait_for_room(here(), deadline)

    # Accepting, in a plain thread.

    def append_from_thread(self, line: bytes, body: bytes, at_once: bool = False) -> bool:
        """Append a message and see that it goes out; False if there is no room and the caller has to wait.

        It is written here and now if nothing was for a while, if much has gathered, or with ``at_once`` (somebody
        waits for the answer). Otherwise the loop is woken to write, and then looks again each millisecond as long as
        messages come: waking it for each would cost more than all the rest.
        """
        size = len(body)
        with self.lock:
            if self._failure is not None:
                raise self._failure()
            if size > self.max_payload:
                raise MaxPayloadError(size, self.max_payload)
            stream = self._stream
            pending = self.pending
            if stream is None:
                self._kept.check(size)
            elif self._rest is not None and pending and pending + size > ROOM:
                return False
            self.lines.extend((line, body))
            self.accepted_by_threads += size
            if stream is None or self._rest is not None:
                return True
            now = perf_counter()
            if at_once or pending + size > WRITE_SIZE or now - self._last_thread_write > QUIET:
                self._last_thread_write = now
                self._write(stream)
                if self._watcher is not None:
                    watcher, self._watcher = self._watcher, None
                    self._loop.post(watcher, optional=True)
            elif not self._ticking:
                self._loop.post(self._tick_for_threads, optional=True)
                self._ticking = True  # last, or with an exception in between there would be no tick any more
            if self._ticking and self._rest is None:
                self.limit_of_threads = self.accepted_by_threads + min(WRITE_SIZE - size, self.max_payload)
            return True

    def _tick_for_threads(self) -> None:
        """Write what threads have appended since the last tick; no more ticks when that was nothing."""
        before, self._ticked_at = self._ticked_at, self.accepted_by_threads
        if before == self._ticked_at:
            with self.lock:
                self._ticking = False
                self.limit_of_threads = -1
        else:
            self._ticker.start(self._loop)
        self.flush()

    # Writing.

    def _tick_ends(self) -> None:
        """Before each poll of the loop. While tasks are busy, let small messages gather a little longer.

        A loop that only publishes polls each 200 µs, with some 10 KiB gathered; at 500 µs a write the
        same loop sends 1.5 times as much. Before the loop goes idle everything goes out, so an answer never waits.
        """
        loop = self._loop
        if (
            loop.ready
            and not loop.deterministic
            and self.pending < WRITE_SIZE
            and perf_counter() - self._scheduled_at < BUSY_WAIT
        ):
            loop.tick_end.append(self._tick_ends)
            return
        self._scheduled = False
        self.limit = -1  # the next message schedules the next flush
        self.flush()

    def _schedule(self) -> None:
        self._scheduled = True
        self._scheduled_at = perf_counter()
        self._loop.tick_end.append(self._tick_ends)

    def flush(self) -> None:
        """Write what has gathered. In the home loop; never blocks."""
        # While a task waits for a full socket, trying it again would cost a system call and an exception.
        if self._rest is None or not self._draining:
            self._flush()

    def _flush(self) -> None:
        with self.lock:
            stream, waiting = self._stream, self._room.items
            before = self.pending if waiting else 0
            if stream is not None and (self.lines or self._rest is not None):
                self._write(stream)
            if self._watcher is not None and self.unproved()[0]:
                watcher, self._watcher = self._watcher, None
                watcher()
            if self._rest is None or (waiting and self.pending <= ROOM // 2 and self.pending < before):
                self._room.wake_all()

    def _write(self, stream: Stream) -> None:
        """Write until all is out or the socket is full. Under the lock."""
        if getpid() != self._loop.pid:
            notice_fork()
            self._loop.check_usable()
        lines = self.lines
        while True:
            rest = self._rest
            if rest is None:
                if not lines:
                    return
                accepted = self.accepted + self.accepted_by_threads
                batch = lines[:]
                taken = self._lines_taken + len(batch)
                batch.append(b"")  # for the last CRLF
                data: bytes | memoryview = b"\r\n".join(batch)
                batch.pop()
            else:
                data = rest
            try:
                if rest is None:
                    self._batch = batch
                    del lines[: len(batch)]  # the loop may have appended more, while a thread writes
                    self._lines_taken = taken
                    self.taken = accepted
                sent = stream.send_some(data)
                if sent == len(data):
                    self._rest = None
                    self._batch = []
                    continue
                self._rest = memoryview(data)[sent:]
                self.limit_of_threads = -1
                if not self._draining:
                    self._loop.post(self._start_draining, optional=True)
                    self._draining = True  # last, or with an exception in between nobody would ever drain
                return
            except BaseException as exc:
                self._stream = None
                self.limit = self.limit_of_threads = -1
                if _is_of_the_link(exc):
                    self._rest = memoryview(data)
                    self._loop.post(self._on_write_error, exc, optional=True)
                    return
                # A signal handler may have raised it. How much has gone out nobody knows: so all of it may have, none
                # of it is sent again, and the connection, which may be in the middle of a frame, ends.
                if rest is None:
                    if lines and lines[0] is batch[0]:
                        del lines[: len(batch)]
                    self._lines_taken = taken
                    self.taken = accepted
                self._rest, self._batch = None, []
                if isinstance(exc, Exception) and self._loop.is_here():  # raised here it would end the run
                    self._loop.post(self._on_write_error, exc, optional=True)
                    return
                broken = DisconnectedError(f"writing was interrupted by {type(exc).__name__}")
                self._loop.post(self._on_write_error, broken, optional=True)
                raise

    def _start_draining(self) -> None:
        self._loop.spawn_system(self._drain, name="nats outbound")

    def _drain(self) -> None:
        """A task, while the socket is full.

        It writes before it waits: a thread that found the socket full may have noted so after the poller had seen it
        writable again, and then no edge would come. Until the rest is out, nobody but this loop writes.
        """
        try:
            while True:
                self._flush()
                with self.lock:
                    stream = self._stream
                    if stream is None or self._rest is None:
                        self._draining = False  # under the lock: whoever fills the socket next starts another task
                        return
                try:
                    stream.wait_writable()
                except Exception as exc:
                    if self._stream is stream:
                        self._on_write_error(exc)
                        self._draining = False
                        return
                    # That connection is gone, and its reader has seen to it; there may be another one.
        except BaseException:
            self._draining = False
            raise

    # Connecting and losing connections, in the home loop.

    def connected(self, stream: Stream, max_payload: int, replay: list[bytes]) -> None:
        """From now on write to ``stream``: first ``replay`` (the subscriptions), then what was kept."""
        with self.lock:
            self._stream = stream
            self._in_doubt = 0, 0
            self.max_payload = max_payload
            self.accepted -= self._kept.drop_withdrawn()
            self._kept.forget()
            self.lines[:0] = [frame[:-2] for frame in replay]
            self._controls += len(replay)
            self.limit = -1
        if not self._scheduled:
            self._schedule()

    def watch(self, watcher: Callable[[], None]) -> None:
        """Have ``watcher`` called, once, in the home loop, when messages are written."""
        self._watcher = watcher

    def hold(self) -> bool:
        """Write all that has gathered, then keep what comes for the next connection. False: the socket was full."""
        with self.lock:
            stream = self._stream
            if stream is not None:
                self._write(stream)
                if self._rest is not None:
                    return False
            self._stream = None
            self.limit = self.limit_of_threads = -1
            return True

    def disconnected(self) -> tuple[int, int]:
        """The connection is gone. Keep the messages that were not wholly written, drop control frames.

        Returns how many messages and payload bytes were written without proof that the server has them.
        """
        with self.lock:
            self._stream = None
            self.limit = self.limit_of_threads = -1
            waiting = (frame for frame in frames(self.lines) if len(frame) == 2)
            lines = [line for message in (*self._unwritten(), *waiting) for line in message]
            self._lines_taken += len(self.lines) - len(lines)
            self.lines[:] = lines
            self._kept.measure()
            self.taken = self._accepted_bytes - payload_bytes(lines)
            self._batch, self._rest = [], None
            # What was written is settled now, one way or the other: reported here, and not again.
            msgs, bytes_ = self.accepted_msgs - len(lines) // 2, self.taken
            lost = self._in_doubt = msgs - self._proved_msgs, bytes_ - self._proved_bytes
            self._proved_msgs, self._proved_bytes = msgs, bytes_
            self._room.wake_all()
        return lost

    def _unwritten(self) -> Iterator[tuple[bytes, ...]]:
        """The messages of the current batch that were not written to their end."""
        rest = self._rest
        if rest is None:
            return
        written, end = sum(map(len, self._batch)) + 2 * len(self._batch) - len(rest), 0
        for frame in frames(self._batch):
            end += sum(map(len, frame)) + 2 * len(frame)
            if end > written and len(frame) == 2:
                yield frame

    def kept_lines(self) -> set[int]:
        """The identities of the lines that are queued."""
        return set(map(id, self.lines))

    def fail(self, make_error: Callable[[], BaseException]) -> None:
        """Accept nothing more; whoever waits or comes gets an error of their own."""
        with self.lock:
            self._failure = make_error
            self._stream = None
            self.limit = self.limit_of_threads = -1
        self._room.wake_all()

    # Counting.

    @property
    def _accepted_bytes(self) -> int:
        return self.accepted + self.accepted_by_threads

    @property
    def accepted_msgs(self) -> int:
        """Messages accepted since the beginning."""
        return (self._lines_taken + len(self.lines) - self._controls) // 2

    @property
    def accepted_bytes(self) -> int:
        """Payload and header bytes accepted since the beginning."""
        return self._accepted_bytes

    def mark(self) -> Mark:
        """Remember with a PING, which comes next, what is accepted so far; its PONG proves that the server has it."""
        with self.lock:  # or a thread that is taking lines from the queue would make it too low
            return Mark(self.accepted_msgs, self._accepted_bytes, self._lines_taken + len(self.lines))

    def answered(self, mark: Mark) -> bool:
        """Whether a PONG can be the answer to the PING of this mark: whether that has been written."""
        return self._lines_taken - self._unwritten_lines() > mark.lines

    def _unwritten_lines(self) -> int:
        """How many lines of the current batch were not written to their end."""
        left, count = 0 if self._rest is None else len(self._rest), 0
        for line in reversed(self._batch):
            if left <= 0:
                break
            left -= len(line) + 2
            count += 1
        return count

    def proved(self, mark: Mark) -> None:
        self._proved_msgs, self._proved_bytes = mark.msgs, mark.bytes

    def unproved(self) -> tuple[int, int]:
        """Messages and payload bytes of which it is not proved that the server has them, on a lost connection too."""
        msgs, size = self._in_doubt
        return msgs + self.accepted_msgs - self._proved_msgs, size + self._accepted_bytes - self._proved_bytes


class _Ticker:
    """An entry in the loop's heap of timers: calls ``tick`` once, a millisecond after each ``start``."""

    __slots__ = ("_deadline", "_tick")

    sleeping = True  # for the timer heap: it fires at once

    def __init__(self, tick: Callable[[], None]) -> None:
        self._tick = tick
        self._deadline: float | None = None

    def start(self, loop: Loop) -> None:
        self._deadline = loop.clock.now() + TICK
        loop.timers.push(self._deadline, self)

    def alive(self, deadline: float) -> bool:
        return deadline == self._deadline

    def expire(self) -> None:
        self._deadline = None
        self._tick()


def _is_of_the_link(error: BaseException) -> bool:
    """Whether an error of writing is the connection's, and not what a signal handler has raised, in the main thread.

    There a TimeoutError without a number is a handler's.
    """
    if threading.get_ident() != threading.main_thread().ident:
        return isinstance(error, Exception)
    if isinstance(error, builtins.TimeoutError) and error.errno is None:
        return False
    return isinstance(error, (OSError, zio.Closed))
