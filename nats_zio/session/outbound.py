"""The one queue of everything a client sends, in the order it was accepted, and its way to the socket.

What the protocol sends are lines that end with CRLF: a message is two of them, its command and its payload, every
other command one. The queue has the lines as they came, without CRLF, and one ``join`` when they are written adds it:
formatting each message by itself copied it once more, and took more than half the time of a publish. The lines of a
message are appended in one step, so that commands keep their order whatever thread they come from, and a message
that was cut off by a broken connection can be told from one that was not begun.

Who writes: tasks of the home loop only append; what came together in one tick goes out in one write at its
end (or as soon as ``WRITE_SIZE`` has gathered). A plain thread appends too and, if nothing is waiting, writes to the
socket itself: that costs half the CPU of waking the loop. When the socket is full, a task of the home loop waits for
it, and whoever publishes waits for room before the message is accepted.

There is no lock, since a signal handler or a finalizer may publish in the middle of any of this: accepting is one
stretch without a call, and :mod:`.writer` says how writing goes without one.

``limit`` is the one test on the hot path: below it a message is simply appended. It is lowered whenever
there is more to do than that: the tick's flush is not scheduled yet, too much has gathered, not connected.
``limit_of_threads`` is the same for plain threads: up to there a flush is on its way.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, NamedTuple

from zio.lowlevel import Waiter, WaitQueue, here, monotonic, need_stack, thread_holder

from ..errors import MaxPayloadError, TimeoutError
from .judging import judge
from .kept import Kept, frames, payload_bytes
from .writer import Queue, Writer

if TYPE_CHECKING:
    from collections.abc import Callable

    from zio.lowlevel import Fiber, Loop
    from zio.net import Stream

    from ..protocol import ServerInfo
    from .judging import GivenUp

WRITE_SIZE = 512 << 10  # so much in one tick is written at once; with 128 KiB, 8 KiB messages went 1.35 times slower
ROOM = 1 << 20  # bytes accepted beyond what the socket takes; then publishers wait
LINE_SIZE = 64  # bytes beside the payload, about what a line takes in memory: small messages wait for no more than 2 ms
BUSY_WAIT = 500e-6  # seconds that messages may gather while tasks are busy
TICK = 1e-3  # seconds between two looks at what threads have appended
QUIET = 200e-6  # a plain thread writes at once if it has not for so many seconds


NO_LIMIT = 1 << 62  # bytes


class Mark(NamedTuple):
    """A place in the queue: what was accepted before it, since the beginning."""

    msgs: int
    bytes: int
    lines: int


class Outbound(Queue):
    """The outbound queue of one client."""

    __slots__ = (
        "_broken_by",
        "controls",
        "_draining",
        "_failure",
        "_in_doubt",
        "_kept",
        "_last_thread_write",
        "_loop",
        "_on_write_error",
        "_pid",
        "_proved_bytes",
        "_proved_msgs",
        "_room",
        "_scheduled",
        "_scheduled_at",
        "_ticked_at",
        "_ticker",
        "_ticking",
        "_watcher",
        "_writer",
        "max_payload",
        "opener",
    )

    def __init__(self, loop: Loop, reconnect_buffer_size: int, on_write_error: Callable[[BaseException], None]) -> None:
        super().__init__()
        self.max_payload = NO_LIMIT  # before a server has said
        self._loop = loop
        self._pid = os.getpid()
        self._kept = Kept(self.lines, reconnect_buffer_size)
        self._on_write_error = on_write_error
        self._writer = Writer(self, self._full, self._failed, self._left)
        self._scheduled = False
        self._scheduled_at = 0.0
        self._ticking = False  # the loop looks each millisecond whether threads have appended something
        self._ticked_at = 0
        self._ticker = _Ticker(self._tick_for_threads)
        self._last_thread_write = 0.0
        self._draining = False  # a task waits for the socket, or is about to
        self._room = WaitQueue()
        self._failure: Callable[[], BaseException] | None = None  # makes the error of a closed client
        self.opener: Callable[[], None] | None = None  # makes the first connection
        self._watcher: Callable[[], None] | None = None  # is told once when messages are written
        # For the counts of what was lost; control frames are told from messages by their number.
        self.controls = 0
        self._proved_msgs = 0
        self._proved_bytes = 0
        self._in_doubt = 0, 0  # what the lost connection left unproved, until there is another
        self._broken_by: list[bytes] = []  # the line of a message, once for each connection that broke with it

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
            if self._writer.stream is None:
                if self.opener is not None:
                    self.opener()
                    continue
                self._kept.check(size)
                self.limit = -1
                return
            if not self._scheduled:
                self._schedule()
            elif self.pending + size > WRITE_SIZE:
                self.flush()
            if self._writer.stream is None:
                continue
            if self._writer.idle or self.pending + size <= ROOM or not self.pending:
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
        size = len(body)
        if not self.idles(size):
            return False
        frame = line, body
        self.accepted += size
        self.lines.extend(frame)
        self._writer.write()
        return True

    def idles(self, size: int) -> bool:
        """Whether nothing gathers and there is room, so that ``write_alone`` would write a message of that size."""
        writer = self._writer
        if writer.stream is None or self._scheduled or writer.rest is not None or self._failure is not None:
            return False
        return size <= self.max_payload

    def withdraw(self, line: bytes) -> None:
        """The message with this command line is not wanted any more: if it waits for a connection, it is not sent.

        From any thread, a finalizer too. A message that goes to a connection is left alone.
        """
        if self._writer.stream is None and self._kept.withdraw(line):
            self._loop.urgent(self._make_room)

    def _make_room(self) -> None:
        """Take what was withdrawn out of a queue that waits for a connection. In the home loop."""
        if self._writer.stream is None and self._writer.idle:
            self.accepted -= self._kept.drop_withdrawn()
            self._kept.measure()

    @property
    def pending(self) -> int:
        """Bytes accepted and not written yet: payloads, and for all else a guess for each line in the queue."""
        accepted = self.accepted + self.accepted_by_threads + LINE_SIZE * len(self.lines)
        rest = self._writer.rest
        return accepted - self._writer.bytes_taken + (0 if rest is None else len(rest))

    def control(self, frame: bytes) -> None:
        """Queue a SUB, UNSUB, PING or PONG. Dropped while disconnected: a reconnect begins from the tables."""
        if self._writer.stream is None:
            return
        line = frame[:-2]
        self.controls += 1
        self.lines.append(line)
        if not self._scheduled:
            self._schedule()
            self.limit = -1

    def _wait_for_room(self, fiber: Fiber, deadline: float | None) -> None:
        waiter = Waiter(fiber, "room to publish")
        left = None if deadline is None else deadline - self._loop.clock.now()
        if not self._loop.wait(waiter, left, self._room.discard, self._room.items):
            raise TimeoutError("the outbound queue had no room in time")

    def wait_for_room(self, size: int, seconds: float | None = None) -> None:
        """For plain threads, as a posted call: return when a message of ``size`` bytes may be tried again."""
        deadline = None if seconds is None else self._loop.clock.now() + seconds
        writer = self._writer
        while self._failure is None and writer.stream is not None and self.pending and self.pending + size > ROOM:
            if writer.idle:
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
        if self._failure is not None:
            raise self._failure()
        if size > self.max_payload:
            raise MaxPayloadError(size, self.max_payload)
        need_stack()  # behind what is accepted nothing must fail
        writer = self._writer
        if self._pid != os.getpid():
            self._loop.check_usable()
        pending = self.pending
        if writer.stream is None:
            self._kept.check(size)
        elif not writer.idle and pending and pending + size > ROOM:
            return False
        try:
            self.accepted_by_threads += size
            self.lines.extend((line, body))
            self._see_to_it(size, pending, at_once)
        except BaseException:  # of a signal handler: it is accepted, and goes out
            self._loop.post(self.flush, optional=True)
            raise
        return True

    def _see_to_it(self, size: int, pending: int, at_once: bool) -> None:
        """What a plain thread has appended goes out."""
        writer = self._writer
        stream = writer.stream
        if stream is None or not writer.idle:
            return
        now = monotonic()
        wanted = at_once or pending + size > WRITE_SIZE or now - self._last_thread_write > QUIET
        if wanted and stream.lends_sending:
            self._last_thread_write = now
            writer.write(thread_holder())
            if self._watcher is not None:
                self._loop.post(self._tell_watcher, optional=True)
        elif wanted:
            self._last_thread_write = now
            self._loop.post(self.flush, optional=True)
        elif not self._ticking:
            self._ticking = True  # first: the loop may be faster than this thread, and end it again
            try:
                self._loop.post(self._tick_for_threads, optional=True)
            except BaseException:
                self._ticking = False
                raise
        limit = self.accepted_by_threads + min(WRITE_SIZE - size, self.max_payload)
        if self._ticking and writer.rest is None:
            self.limit_of_threads = limit

    def _tick_for_threads(self) -> None:
        """Write what threads have appended since the last tick; no more ticks when that was nothing."""
        before, self._ticked_at = self._ticked_at, self.accepted_by_threads
        if before == self._ticked_at:
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
            and monotonic() - self._scheduled_at < BUSY_WAIT
        ):
            loop.tick_end.append(self._tick_ends)
            return
        self._scheduled = False
        self.limit = -1  # the next message schedules the next flush
        self.flush()

    def _schedule(self) -> None:
        self._scheduled_at = monotonic()
        self._loop.tick_end.append(self._tick_ends)
        self._scheduled = True

    def flush(self) -> None:
        """Write what has gathered. In the home loop; never blocks."""
        # While a task waits for a full socket, trying it again would cost a system call and an exception.
        if self._writer.idle or not self._draining:
            self._flush()

    def _flush(self) -> None:
        writer, waiting = self._writer, self._room.items
        before = self.pending if waiting else 0
        try:
            writer.write()
        except MemoryError:  # all is as it was: it is tried again
            self._ticker.start(self._loop)
        if self._watcher is not None:
            self._tell_watcher()
        if writer.idle or (waiting and self.pending <= ROOM // 2 and self.pending < before):
            self._room.wake_all()

    def _tell_watcher(self) -> None:
        if self._watcher is not None and self.unproved()[0]:
            watcher, self._watcher = self._watcher, None
            watcher()

    def _full(self) -> None:
        """The socket is. In the thread that writes."""
        self.limit_of_threads = -1
        if not self._draining:
            self._draining = True  # first: the loop may be faster than this thread, and end it again
            try:
                self._loop.post(self._start_draining, optional=True)
            except BaseException:
                self._draining = False
                raise

    def _left(self) -> None:
        """A thread that writes has been interrupted by a call that waits: the loop goes on with it."""
        self._loop.post(self.flush, optional=True)

    def _failed(self, error: BaseException) -> None:
        """The connection has. In the thread that writes."""
        self.limit = self.limit_of_threads = -1
        self._loop.post(self._on_write_error, error, optional=True)

    def _start_draining(self) -> None:
        self._loop.spawn_system(self._drain, name="nats outbound")

    def _drain(self) -> None:
        """A task, while the socket is full.

        It writes before it waits: a thread that found the socket full may have noted so after the poller had seen it
        writable again, and then no edge would come. Until the rest is out, nobody but this loop writes.
        """
        writer = self._writer
        try:
            while True:
                self._flush()
                stream = writer.stream
                if stream is None or writer.idle:
                    self._draining = False  # first: whoever fills the socket next looks at it
                    if writer.stream is None or writer.idle:
                        return
                    self._draining = True
                    continue
                try:
                    stream.wait_writable()
                except Exception as exc:
                    if writer.stream is stream:
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
        self._in_doubt = 0, 0
        self.max_payload = max_payload
        self.accepted -= self._kept.drop_withdrawn()
        self._kept.forget()
        lines = [frame[:-2] for frame in replay]
        count = len(lines)
        self.lines[:0] = lines
        self.controls += count
        self.limit = -1
        self._writer.stream = stream
        if not self._scheduled:
            self._schedule()

    def judge(self, info: ServerInfo) -> list[GivenUp]:
        """Before a connection: give up what was kept and this server will not take. Returns what that is."""
        old = self.lines[:]
        count = len(old)
        fit, given_up = judge(old, info, self._broken_by)
        self.lines[:count] = fit
        self.accepted -= sum(message.size for message in given_up)
        return given_up

    def limit_payload(self, max_payload: int) -> None:
        """What the server has said while connected."""
        self.max_payload = max_payload
        self.limit = self.limit_of_threads = -1

    def watch(self, watcher: Callable[[], None]) -> None:
        """Have ``watcher`` called, once, in the home loop, when messages are written."""
        self._watcher = watcher

    def hold(self) -> bool:
        """Write all that has gathered, then keep what comes for the next connection. False: the socket was full."""
        writer = self._writer
        writer.write()
        if writer.stream is not None and not writer.idle:
            return False
        writer.stream = None
        self.limit = self.limit_of_threads = -1
        return True

    def disconnected(self, *, proved: bool = True) -> tuple[int, int]:
        """The connection is gone. Keep the messages that were not wholly written, drop control frames.

        ``proved``: whether the server has answered anything on it, so that it did not break at once.
        Returns how many messages and payload bytes were written without proof that the server has them.
        """
        writer = self._writer
        writer.stream = None
        self.limit = self.limit_of_threads = -1
        writer.take_over()
        old = self.lines[:]
        count = len(old)
        waiting = (frame for frame in frames(old) if len(frame) == 2)
        unwritten = list(writer.unwritten())
        lines = [line for message in (*unwritten, *waiting) for line in message]
        culprit = writer.begun()  # when the connection broke, as it may have been before
        self._broken_by = [line for line in self._broken_by if line is culprit]
        if culprit is not None and not proved:
            self._broken_by.append(culprit)
        writer.lines_taken += count - len(lines)
        self.lines[:count] = lines  # behind them threads may have appended more
        self._kept.measure()
        writer.bytes_taken = self._accepted_bytes - payload_bytes(self.lines)
        writer.forget()
        # What was written is settled now, one way or the other: reported here, and not again.
        msgs, bytes_ = self.accepted_msgs - len(self.lines) // 2, writer.bytes_taken
        lost = self._in_doubt = msgs - self._proved_msgs, bytes_ - self._proved_bytes
        self._proved_msgs, self._proved_bytes = msgs, bytes_
        self._room.wake_all()
        return lost

    def kept_lines(self) -> set[int]:
        """The identities of the lines that are queued."""
        return set(map(id, self.lines))

    def fail(self, make_error: Callable[[], BaseException]) -> None:
        """Accept nothing more; whoever waits or comes gets an error of their own."""
        self._failure = make_error
        self._writer.stream = None
        self.limit = self.limit_of_threads = -1
        self._room.wake_all()

    # Counting.

    @property
    def _accepted_bytes(self) -> int:
        return self.accepted + self.accepted_by_threads

    @property
    def accepted_msgs(self) -> int:
        """Messages accepted since the beginning."""
        return (self._writer.lines_taken + len(self.lines) - self.controls) // 2

    @property
    def accepted_bytes(self) -> int:
        """Payload and header bytes accepted since the beginning."""
        return self._accepted_bytes

    def mark(self) -> Mark:
        """Remember with a PING, which comes next, what is accepted so far; its PONG proves that the server has it."""
        return Mark(self.accepted_msgs, self._accepted_bytes, self._writer.lines_taken + len(self.lines))

    def answered(self, mark: Mark) -> bool:
        """Whether a PONG can be the answer to the PING of this mark: whether that has been written."""
        return self._writer.lines_written() > mark.lines

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
