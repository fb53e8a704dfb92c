"""The client: what the user calls. State lives in the home loop; hot calls from plain threads avoid a hop."""

from __future__ import annotations

import logging
import threading
from dataclasses import dataclass
from enum import Enum
from itertools import count
from typing import TYPE_CHECKING, Any, Self

from greenlet import getcurrent

import zio
from zio.lowlevel import (
    Fiber,
    Waiter,
    WaitQueue,
    call_elsewhere,
    current_holder,
    edit_elsewhere,
    here,
    runtime_here,
    threads_in_scopes,
)

from . import events
from .draining import DRAIN_TIMEOUT, Draining, DrainReport
from .errors import (
    DrainingError,
    Error,
    OptionError,
    TimeoutError,
)
from .framing import Framer
from .ids import Nuid
from .options import Options, check_limit, check_overflow, make_options
from .outbound import Outbound
from .protocol import (
    ServerInfo,
    check_control_line,
    check_queue,
    check_subscribe_subject,
    encoder,
)
from .requests import Requests
from .servers import Server, parse_servers
from .session import Session, closed_error
from .subscription import DEFAULT, ClosedReason, Subscription

if TYPE_CHECKING:
    from collections.abc import Callable

    from zio.lowlevel import Loop

    from .errors import PermissionDeniedError
    from .events import Event, Receiver
    from .framing import Data
    from .message import Message
    from .protocol import HeadersInput, ServerErrorInfo

logger = logging.getLogger("nats_zio")

CLOSE_TIMEOUT = 2.0  # seconds that close() gives to what was accepted


class Status(Enum):
    """Where a client stands."""

    CONNECTING = "connecting"
    CONNECTED = "connected"
    RECONNECTING = "reconnecting"
    DRAINING = "draining"
    CLOSED = "closed"


@dataclass(frozen=True, slots=True)
class Stats:
    """Counts since the client was made; bytes are payload and headers."""

    in_msgs: int
    out_msgs: int
    in_bytes: int
    out_bytes: int
    reconnects: int


def connect(servers: str | list[str] | tuple[str, ...] = "nats://127.0.0.1:4222", **options: Any) -> Client:
    """Connect to NATS and return the client. ``servers``: one URL, several separated by commas, or a list.

    For the options see :class:`nats_zio.Options`. Inside a zio runtime the client lives there; from a plain
    thread or script it lives in the background runtime. Raises OptionError, AuthError, NoServersError. Cancelled,
    no connection is left behind.
    """
    parsed, checked = parse_servers(servers), make_options(options)
    runtime = runtime_here()
    if runtime is not None:
        return Client(runtime, parsed, checked).open()
    runtime = zio.background()
    if checked.run_callbacks is None:
        checked = make_options({**options, "run_callbacks": "thread"})
    return runtime.call(lambda: Client(runtime, parsed, checked).open())


class Client:
    """A connection to NATS that mends itself. Made by :func:`nats_zio.connect`.

    Every call may be made from any task or thread. ``with`` drains on success and closes on an error.
    """

    def __init__(self, runtime: zio.Runtime, servers: list[Server], options: Options) -> None:
        self.runtime = runtime
        self.loop: Loop = runtime.loop
        self.options = options
        self.outbound = Outbound(self.loop, options.reconnect_buffer_size, self._write_failed)
        self.subscriptions: dict[int, Subscription | Inbox] = {}
        self.requests = Requests(self)
        self.callbacks_in_threads = options.run_callbacks == "thread"
        self.closing = False
        self._session = Session(self, servers)
        self._status = Status.CONNECTING
        self._sids = count(1)
        self.framer = Framer(lambda: self._session.info.headers)
        self._prefixes = self.framer.prefixes
        self._receivers: list[Receiver] = []
        self._nuid = Nuid(runtime.random)
        # That have a handler at work, or are iterated. No set: what is done to all of them is done in this order.
        self.in_use: dict[Subscription, None] = {}
        self.draining = Draining(self)
        self._closed_by: BaseException | None = None
        self._closed = False
        self._close_waiters = WaitQueue()
        self._restored_waiters: list[Waiter] = []  # who waits for the reconnect

    def open(self) -> Client:
        """Make the first connection. Once, in the home loop."""
        self._session.start()
        self._status = Status.CONNECTED
        self.runtime.on_close(self._close_at_end)
        return self

    # Publishing.

    def publish(
        self, subject: str, data: Data = b"", *, reply: str | None = None, headers: HeadersInput | None = None
    ) -> None:
        """Send a message. It is accepted in order and goes out by itself; ``flush`` proves that the server has it.

        Waits only if the outbound queue is full. BadSubjectError, HeaderError and MaxPayloadError before
        anything is sent; while disconnected it is buffered, up to ReconnectBufferFullError. Cancelled means not sent.
        """
        fiber = getcurrent()
        if type(fiber) is not Fiber or fiber.loop is not self.loop:
            prefix = self._prefixes.get(subject)
            if prefix is not None and type(data) is bytes and reply is None and headers is None:
                size = len(data)
                frame = b"%b%d\r\n%b\r\n" % (prefix, size, data)
            else:
                frame, size = self.framer.frame(subject, data, reply, headers)
            # The plain case of a plain thread: nothing to be cancelled by, and a flush on its way.
            if not threads_in_scopes and type(fiber) is not Fiber and not self.loop.forked:
                outbound = self.outbound
                with outbound.lock:
                    accepted = outbound.accepted_by_threads + size
                    if accepted <= outbound.limit_of_threads:
                        outbound.frames.append(frame)
                        outbound.accepted_by_threads = accepted
                        return
            self.send_elsewhere(frame, size)
            return
        loop = self.loop
        budget = loop.budget
        if budget <= 0:
            loop.checkpoint(fiber)
        else:
            loop.budget = budget - 1
        prefix = self._prefixes.get(subject)
        if prefix is not None and type(data) is bytes and reply is None and headers is None:
            size = len(data)
            frame = b"%b%d\r\n%b\r\n" % (prefix, size, data)
        else:
            frame, size = self.framer.frame(subject, data, reply, headers)
        outbound = self.outbound
        if outbound.accepted + size > outbound.limit:
            outbound.admit(size)
        outbound.frames.append(frame)
        outbound.accepted += size

    def publish_reply(self, reply: str, data: Data, headers: HeadersInput | None) -> None:
        """Answer a message: its reply subject comes from the server, so it needs no check."""
        if headers is not None or type(data) is not bytes:
            self.publish(reply, data, headers=headers)
            return
        size = len(data)
        frame = b"PUB %b %d\r\n%b\r\n" % (reply.encode("utf-8", "surrogateescape"), size, data)
        fiber = getcurrent()
        if type(fiber) is not Fiber or fiber.loop is not self.loop:
            self.send_elsewhere(frame, size)
            return
        loop = self.loop
        budget = loop.budget
        if budget <= 0:
            loop.checkpoint(fiber)
        else:
            loop.budget = budget - 1
        outbound = self.outbound
        if outbound.accepted + size > outbound.limit:
            outbound.admit(size)
        outbound.frames.append(frame)
        outbound.accepted += size

    def send_elsewhere(self, frame: bytes, size: int, seconds: float | None = None, at_once: bool = False) -> None:
        """Send a frame from a plain thread or another loop's task: straight into the queue, under its lock.

        TimeoutError if there is no room within ``seconds``.
        """
        loop = self.loop
        if loop.forked or loop.closed:
            loop.check_usable()
        if self._closed:
            self.check_open()
        holder = current_holder()
        if holder.scope is not holder and type(getcurrent()) is not Fiber:
            holder.check_deadlines()  # of the scopes around a plain thread's call
        if holder.scope.cancelled:
            raise zio.Cancelled
        while not self.outbound.append_from_thread(frame, size, at_once):
            call_elsewhere(self.loop, self.outbound.wait_for_room, size, seconds)

    # Subscribing.

    def subscribe(
        self,
        subject: str,
        *,
        queue: str | None = None,
        cb: Callable[[Message], object] | None = None,
        max_msgs: int | None = None,
        pending_msgs: int | None = DEFAULT,
        pending_bytes: int | None = DEFAULT,
        overflow: str | None = None,
    ) -> Subscription:
        """Receive what is published to ``subject`` (with wildcards), alone or as a member of the group ``queue``.

        With ``cb`` every message goes to ``cb(message)``, one at a time; without, the subscription is read like a
        channel. ``max_msgs`` ends it after so many. Beyond ``pending_msgs`` messages or ``pending_bytes`` bytes not
        yet taken (None: no limit; left out: the client's options) messages are dropped and counted: new ones, with
        ``overflow="drop_old"`` the oldest; with ``"error"`` the subscription ends with SlowConsumerError.
        BadSubjectError, OptionError, ConnectionClosedError, DrainingError. Never blocks.
        """
        check_subscribe_subject(subject)
        if queue is not None:
            check_queue(queue)
            check_control_line(subject, queue)
        if cb is not None and not callable(cb):
            raise OptionError(f"cb={cb!r}: must be callable")
        if pending_msgs is DEFAULT:
            pending_msgs = self.options.pending_msgs
        if pending_bytes is DEFAULT:
            pending_bytes = self.options.pending_bytes
        overflow = overflow or self.options.overflow
        check_limit("max_msgs", max_msgs)
        check_limit("pending_msgs", pending_msgs)
        check_limit("pending_bytes", pending_bytes)
        check_overflow(overflow)
        return edit_elsewhere(  # type: ignore[no-any-return]
            self.loop, self._subscribe, subject, queue, cb, max_msgs, pending_msgs, pending_bytes, overflow
        )

    def _subscribe(
        self,
        subject: str,
        queue: str | None,
        cb: Callable[[Message], object] | None,
        max_msgs: int | None,
        pending_msgs: int | None,
        pending_bytes: int | None,
        overflow: str,
    ) -> Subscription:
        self.check_open()
        if self._status is Status.DRAINING:
            raise DrainingError("the client is draining; it takes no new subscriptions")
        sub = Subscription(
            self,
            subject,
            queue,
            next(self._sids),
            cb,
            pending_msgs=pending_msgs,
            pending_bytes=pending_bytes,
            overflow=overflow,
            max_msgs=max_msgs,
        )
        self.subscriptions[sub.sid] = sub
        self.outbound.control(encoder.sub(subject, queue, sub.sid))
        if max_msgs is not None:
            self.outbound.control(encoder.unsub(sub.sid, max_msgs))
        return sub

    # Requests.

    def request(
        self, subject: str, data: Data = b"", *, timeout: float | None = DEFAULT, headers: HeadersInput | None = None
    ) -> Message:
        """Publish a request and wait for its reply, at most ``timeout`` seconds (default: ``request_timeout``).

        NoRespondersError at once if nobody listens; TimeoutError; DisconnectedError if the connection breaks
        after the request was written; PermissionDeniedError. While disconnected it waits for the reconnect.
        Cancelled, a reply that comes later is dropped.
        """
        return self.requests.request(
            subject, data, self.options.request_timeout if timeout is DEFAULT else timeout, headers
        )

    def subscribe_inbox(self, subject: str, deliver: Callable[[list[Message]], None]) -> None:
        """Subscribe an inbox of the client's own: no queue, no limits, batches go to ``deliver``."""
        inbox = Inbox(subject, next(self._sids), deliver)
        self.subscriptions[inbox.sid] = inbox
        self.outbound.control(encoder.sub(subject, None, inbox.sid))

    def new_inbox(self) -> str:
        """A new unique subject for replies."""
        return f"{self.options.inbox_prefix}.{self._nuid.next()}"

    # Proof and time.

    def flush(self, timeout: float | None = DEFAULT) -> None:
        """Wait until the server has everything published so far.

        At most ``timeout`` seconds (default: ``request_timeout``): then TimeoutError. DisconnectedError if the
        connection breaks before; ConnectionClosedError.
        """
        call_elsewhere(self.loop, self.flush_here, self.options.request_timeout if timeout is DEFAULT else timeout)

    def rtt(self, timeout: float | None = DEFAULT) -> float:
        """Seconds of one round trip to the server. Errors like ``flush``."""
        limit = self.options.request_timeout if timeout is DEFAULT else timeout
        return call_elsewhere(self.loop, self._rtt, limit)  # type: ignore[no-any-return]

    def _rtt(self, timeout: float | None) -> float:
        clock = self.loop.clock
        self.outbound.flush()
        start = clock.now()
        self.flush_here(timeout)
        return clock.now() - start

    def flush_here(self, timeout: float | None) -> None:
        fiber = here()
        loop = self.loop
        if fiber.cancelled or loop.budget <= 0:
            loop.checkpoint(fiber)
        self.check_open()
        deadline = None if timeout is None else loop.clock.now() + timeout
        while self._session.connection is None:
            self._wait_for_connection(fiber, deadline, timeout)
        waiter = Waiter(fiber, "a PONG")
        self._session.ping(waiter)
        left = None if deadline is None else max(deadline - loop.clock.now(), 0)
        if not loop.wait(waiter, left, _nothing):
            raise TimeoutError(f"the server has not confirmed within {timeout} s")

    def _wait_for_connection(self, fiber: Fiber, deadline: float | None, timeout: float | None) -> None:
        left = None if deadline is None else deadline - self.loop.clock.now()
        if left is not None and left <= 0:
            raise TimeoutError(f"not connected within {timeout} s")
        waiter = Waiter(fiber, "the reconnect")
        self._restored_waiters.append(waiter)
        if not self.loop.wait(waiter, left, self._restored_waiters.remove):
            raise TimeoutError(f"not connected within {timeout} s")
        self.check_open()

    # Ending.

    def drain(self, timeout: float | None = DRAIN_TIMEOUT) -> DrainReport:
        """End in order: no new messages come in, what came is handled, what was published goes out, then close.

        Waits for handlers other than the caller and for iterators of other tasks, at most ``timeout`` seconds.
        The report counts what stays unread. Does nothing on a closed client.
        """
        return call_elsewhere(self.loop, self.draining.drain, timeout)  # type: ignore[no-any-return]

    def close(self) -> None:
        """Send what was accepted (at most 2 s, not cut short by a cancel), then end. Does nothing if closed."""
        if not self._closed and not self.loop.forked:
            call_elsewhere(self.loop, self.close_here, None)

    def close_here(self, error: BaseException | None) -> None:
        if self.closing:
            if not self._closed:  # another task is at it
                waiter = Waiter(here(), self)
                self._close_waiters.push(waiter)
                self.loop.wait(waiter, None, self._close_waiters.discard)
            return
        self.closing = True
        with zio.shield():
            try:
                if self._session.connection is not None:
                    self.flush_here(CLOSE_TIMEOUT)
            except (Error, zio.Cancelled) as exc:
                self._report_lost(exc)
            else:
                if self._session.connection is None:
                    self._report_lost(None)
            self._session.stop()
            self._ended(error, ClosedReason.CLIENT_CLOSED)
            self._session.join()

    def _report_lost(self, error: BaseException | None) -> None:
        msgs, size = self.outbound.unproved()
        if msgs:
            logger.warning(
                "closing %s with %d messages (%d bytes) of which it is not proved that the server has them%s",
                self.options.name or "a client",
                msgs,
                size,
                f": {error}" if error else "",
            )

    def _close_at_end(self) -> None:
        """The runtime ends."""
        self.close_here(None)

    def closed_by(self, error: BaseException) -> None:
        """The session has given up."""
        if not self._closed:
            self._report_lost(error)
            self.closing = True
            self._closed_by = error
            self._ended(error, ClosedReason.CONNECTION_LOST)

    def _ended(self, error: BaseException | None, reason: ClosedReason) -> None:
        self._closed = True
        self._close_waiters.wake_all()
        self._status = Status.CLOSED
        self.runtime.forget_closer(self._close_at_end)
        self.outbound.fail(lambda: closed_error(error))
        self.requests.close(lambda: closed_error(error))
        for sub in list(self.subscriptions.values()):
            if isinstance(sub, Subscription):
                sub.close(reason, None)
        self.subscriptions.clear()
        for waiter in self._restored_waiters:
            waiter.fail(closed_error(error))
        self.emit(events.Closed(error))
        for receiver in self._receivers:
            receiver.close()

    def begin_draining(self) -> None:
        """From now on there are no new subscriptions."""
        self._status = Status.DRAINING

    @property
    def all_written(self) -> bool:
        """Not connected, and nothing kept for the next connection: there is nothing to confirm."""
        return self._session.connection is None and not self.outbound.frames

    def check_open(self) -> None:
        if self._closed:
            raise closed_error(self._closed_by)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, exc_type: type[BaseException] | None, *exc_info: object) -> None:
        if self.loop.forked:
            return  # a forked child leaves the block: the connection is the parent's
        if exc_type is None:
            self.drain()
        else:
            self.close()

    # Looking.

    def events(self) -> Receiver:
        """A channel of the events from now on: Connected, Disconnected, Reconnected, Closed and the rest."""
        return edit_elsewhere(self.loop, self._events)  # type: ignore[no-any-return]

    def _events(self) -> Receiver:
        receiver = events.Receiver()
        if self._closed:
            receiver.close()
        else:
            self._receivers.append(receiver)
        return receiver

    @property
    def status(self) -> Status:
        """Where the client stands."""
        return self._status

    @property
    def is_connected(self) -> bool:
        """Whether there is a connection just now."""
        return self._session.connection is not None and not self._closed

    @property
    def is_closed(self) -> bool:
        """Whether the client has ended for good."""
        return self._closed

    @property
    def connected_url(self) -> str | None:
        """The server it is connected to, without secrets; None while it is not."""
        return str(self._session.server) if self.is_connected else None

    @property
    def server_info(self) -> ServerInfo:
        """What the server last said about itself."""
        return self._session.info

    @property
    def max_payload(self) -> int:
        """The largest message, headers included, that the server takes, in bytes."""
        return self._session.info.max_payload

    @property
    def servers(self) -> list[str]:
        """The servers it may connect to, without secrets."""
        return self._session.urls

    @property
    def stats(self) -> Stats:
        """Counts of messages and bytes, as they are now."""
        session = self._session
        parser = session.connection.parser if session.connection is not None else None
        return Stats(
            in_msgs=session.received_msgs + (parser.messages if parser else 0),
            out_msgs=self.outbound.accepted_msgs,
            in_bytes=session.received_bytes + (parser.payload_bytes if parser else 0),
            out_bytes=self.outbound.accepted_bytes,
            reconnects=session.reconnects,
        )

    def force_reconnect(self) -> None:
        """Drop the present connection and connect again. Never blocks. ConnectionClosedError if closed."""
        edit_elsewhere(self.loop, self._force_reconnect)

    def _force_reconnect(self) -> None:
        self.check_open()
        self._session.reconnect_anyway()

    # For the session and the subscriptions, at home.

    def replay(self) -> list[bytes]:
        """The SUBs of all live subscriptions, for a new connection."""
        frames = []
        for sub in self.subscriptions.values():
            frames.append(encoder.sub(sub.subject, sub.queue, sub.sid))
            if isinstance(sub, Subscription):
                sub.count_anew()
            if sub.remaining is not None:
                frames.append(encoder.unsub(sub.sid, sub.remaining))
        return frames

    def unsubscribe(self, sub: Subscription) -> None:
        if self.subscriptions.pop(sub.sid, None) is not None:
            self.outbound.control(encoder.unsub(sub.sid))

    def limit(self, sub: Subscription, after: int) -> None:
        self.outbound.control(encoder.unsub(sub.sid, after))

    def forget(self, sub: Subscription | Inbox) -> None:
        self.subscriptions.pop(sub.sid, None)

    def connection_lost(self) -> None:
        if self._status is Status.CONNECTED:
            self._status = Status.RECONNECTING

    def connection_restored(self) -> None:
        if self._status is Status.RECONNECTING:
            self._status = Status.CONNECTED
        waiters = list(self._restored_waiters)
        self._restored_waiters.clear()
        for waiter in waiters:
            waiter.wake()

    def _write_failed(self, error: BaseException) -> None:
        self._session.lose(error)

    def slow_consumer(self, sub: Subscription) -> None:
        self.emit(events.SlowConsumer(sub, sub.dropped))
        logger.warning("slow consumer: %r has reached its limit of pending messages", sub)

    def handler_not_started(self, sub: Subscription, error: RuntimeError) -> None:
        """There is no thread for a handler. Its messages wait; at the end of the program that is all there is to do."""
        if threading.main_thread().is_alive():
            logger.error("the handler of %r waits for its next message: %s", sub, error)

    def callback_failed(self, sub: Subscription, message: Message, error: BaseException) -> None:
        logger.error("the handler of %r failed", sub, exc_info=error)
        self.emit(events.CallbackError(sub, message, error))

    def subscription_denied(self, info: ServerErrorInfo, error: PermissionDeniedError) -> Subscription | None:
        """The server refused a subscription: end the newest one that fits."""
        for sub in reversed(list(self.subscriptions.values())):
            if sub.subject != info.subject or (info.sid is not None and sub.sid != info.sid):
                continue
            if info.queue is not None and sub.queue != info.queue:
                continue
            self.forget(sub)
            if isinstance(sub, Subscription):
                sub.close(ClosedReason.PERMISSION_DENIED, error)
                return sub
            self.requests.inbox_denied(error)
        return None

    def emit(self, event: Event) -> None:
        if self._receivers:
            for receiver in self._receivers:
                receiver.put(event)
            self._receivers = [receiver for receiver in self._receivers if not receiver.closed]

    def __repr__(self) -> str:
        name = f" {self.options.name!r}" if self.options.name else ""
        return f"<Client{name} {self._status.value} {self.connected_url or ''}>"


class Inbox:
    """An entry in the table of subscriptions whose batches go straight to a function."""

    queue = None
    remaining = None

    def __init__(self, subject: str, sid: int, deliver: Callable[[list[Message]], None]) -> None:
        self.subject = subject
        self.sid = sid
        self._deliver = deliver

    def deliver(self, messages: list[Message], bound: int) -> None:
        self._deliver(messages)


def _nothing(waiter: Waiter) -> None:
    """A PONG's place in the order stays, whoever waits for it."""
