"""The client: what the user calls. State lives in the home loop; hot calls from plain threads avoid a hop."""

from __future__ import annotations

import logging
import threading
from dataclasses import dataclass
from enum import Enum
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
    inner_packages,
    runtime_here,
    threads_in_scopes,
)

from . import events, lazy
from .backpressure import ReaderGate
from .closed_reason import ClosedReason
from .draining import DRAIN_TIMEOUT, Draining, DrainReport
from .errors import (
    DrainingError,
    Error,
    OptionError,
    TimeoutError,
)
from .event_calls import EventCalls
from .framing import Framer
from .ids import Nuid
from .options import DEFAULT, Options, make_options
from .outbound import Outbound
from .protocol import (
    ServerInfo,
    check_characters,
    check_control_line,
    check_publish_subject,
    check_queue,
    check_subscribe_subject,
)
from .protocol.encoder import MAX_KNOWN_SIZE, SIZES
from .replies import Replies, check_request_many
from .requests import Requests
from .servers import Server, parse_servers
from .session import Session, closed_error
from .subscribing import SubscriptionTable, Terms
from .subscription import Subscription
from .transport import check_servers, check_use

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

    from zio.lowlevel import Loop

    from .connection import Connection
    from .events import Event, Receiver
    from .framing import Data
    from .message import Message
    from .protocol import HeadersInput

logger = logging.getLogger("nats_zio")

inner_packages.add("nats_zio")  # warnings name the code that calls the client

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
    thread or script it lives in the background runtime. Raises OptionError, AuthError, TLSRequiredError,
    NoServersError. Cancelled, no connection is left behind.

    With ``retry_on_failed_connect`` it returns also while no server can be reached: the client goes on trying, and what
    is published is kept. With ``lazy`` nothing is opened before the first call that needs a connection, which
    then raises what ``connect`` would; and in a forked child the client begins anew.
    """
    parsed, checked = parse_servers(servers), make_options(options)
    check_servers(parsed)
    check_use(parsed, checked)
    client = Client(parsed, checked)
    if not client.options.lazy:
        client.ready()
    return client


class Client:
    """A connection to NATS that mends itself. Made by :func:`nats_zio.connect`.

    Every call may be made from any task or thread. ``with`` drains on success and closes on an error.
    """

    def __init__(self, servers: list[Server], options: Options) -> None:
        self.options = options
        self.closing = False
        self._servers = servers
        self._closed_by: BaseException | None = None
        self._closed = False
        self._receivers: list[Receiver] = []
        lenient = options.skip_subject_validation
        self.framer = Framer(self._headers_supported, check_characters if lenient else check_publish_subject)
        self._check_pattern = check_characters if lenient else check_subscribe_subject
        self._prefixes = self.framer.prefixes
        self.lose_home()
        if options.lazy:
            lazy.remember(self)
        else:
            self._settle()

    # Finding a home, and opening there.

    def lose_home(self) -> None:
        """A lazy client is at home nowhere until it is used."""
        self.loop: Loop = lazy.NO_HOME
        self._opened = False

    def _settle(self) -> None:
        """Be at home in the runtime of the calling task, or in the background runtime."""
        runtime = runtime_here()
        in_thread = runtime is None
        if runtime is None:
            runtime = zio.background()
        elif runtime.loop.forked:
            runtime.loop.check_usable()
        options = self.options
        loop: Loop = runtime.loop
        self.runtime = runtime
        self.callbacks_in_threads = in_thread if options.run_callbacks is None else options.run_callbacks == "thread"
        self.outbound = Outbound(loop, options.reconnect_buffer_size, self._write_failed)
        self.outbound.opener = self._open_once
        self.table = SubscriptionTable(self)
        self.subscriptions = self.table.entries
        self.gate = ReaderGate(self)
        self.requests = Requests(self, loop)
        self._session = Session(self, self._servers)
        self._status = Status.CONNECTING
        self._receivers = []
        self._event_calls: EventCalls | None = None
        self._nuid = Nuid(runtime.random)
        # That have a handler at work, or are iterated. No set: what is done to all of them is done in this order.
        self.in_use: dict[Subscription, None] = {}
        self.draining = Draining(self)
        self._opening = zio.Lock()
        self._close_waiters = WaitQueue()
        self._restored_waiters = WaitQueue()  # who waits for the reconnect
        self.loop = loop

    def ready(self) -> None:
        """Before a call that needs a connection: the first one of a lazy client opens it. Errors of ``connect``."""
        if not self._opened:
            self.check_open()
            call_elsewhere(self._home(), self._open_once)

    def _home(self) -> Loop:
        """The home loop, found now if need be."""
        if self.loop is lazy.NO_HOME and not self._closed:
            with lazy.settling:
                if self.loop is lazy.NO_HOME:
                    self._settle()
        return self.loop

    def _open_once(self) -> None:
        """Make the first connection, whoever asks for it first. In the home loop."""
        with self._opening:
            if self._opened or self._closed:
                return
            if self.options.on_event is not None and self._event_calls is None:
                calls = EventCalls(self.loop, self.options.on_event, in_thread=self.callbacks_in_threads)
                self._event_calls = calls
                self._receivers.append(calls.receiver)
            try:
                self._session.start()
            except BaseException:
                if self._event_calls is not None:
                    self._receivers.remove(self._event_calls.receiver)
                    self._event_calls.receiver.close()
                    self._event_calls = None
                raise
            self._opened = True
            self.outbound.opener = None
            self.runtime.on_close(self._close_at_end)

    def _headers_supported(self) -> bool:
        """Whether the server takes headers; before there was one, that is to be expected."""
        self.ready()
        return self._session.info.headers or not self._session.ever_connected

    def user_call(self, option: str, fn: Callable[..., Any] | None) -> Callable[..., Any] | None:
        """A function given as an option, to be called in a task: where handlers run; None if it raises."""
        if fn is None:
            return None

        def call(*args: Any) -> Any:
            try:
                return self.call_user(fn, *args)
            except Exception as exc:
                self.option_failed(option, exc)
                return None

        return call

    def call_user(self, fn: Callable[..., Any], *args: Any) -> Any:
        """Call a function of the user's, which may block, where handlers run: in this task, or on a worker thread."""
        return zio.to_thread(fn, *args, abandon_on_cancel=True) if self.callbacks_in_threads else fn(*args)

    def option_failed(self, option: str, error: Exception) -> None:
        """A function given as an option raised, or returned what it must not."""
        logger.error("%s= failed", option, exc_info=error)
        self.emit(events.CallbackError(None, None, error))

    # Publishing.

    def publish(
        self, subject: str, data: Data = b"", *, reply: str | None = None, headers: HeadersInput | None = None
    ) -> None:
        """Send a message. It is accepted in order and goes out by itself; ``flush`` proves that the server has it.

        ``data`` is bytes, bytearray, memoryview or str (UTF-8). Waits only if the outbound queue is full.
        BadSubjectError, HeaderError, MaxPayloadError and ConnectionClosedError before anything is sent; while
        disconnected it is buffered, up to ReconnectBufferFullError. Cancelled means not sent.
        """
        fiber = getcurrent()
        loop = self.loop
        if type(fiber) is not Fiber or fiber.loop is not loop:
            self._publish_elsewhere(fiber, subject, data, reply, headers)
            return
        budget = loop.budget
        if budget <= 0:
            loop.checkpoint(fiber)
        else:
            loop.budget = budget - 1
        prefix = self._prefixes.get(subject)
        if prefix is not None and type(data) is bytes and reply is None and headers is None:
            size = len(data)
            line = prefix + SIZES[size] if size <= MAX_KNOWN_SIZE else b"%b%d" % (prefix, size)
        else:
            line, data = self.framer.frame(subject, data, reply, headers)
            size = len(data)
        outbound = self.outbound
        accepted = outbound.accepted + size
        if accepted > outbound.limit:
            outbound.admit(size)
            accepted = outbound.accepted + size
        outbound.lines.extend((line, data))
        outbound.accepted = accepted

    def _publish_elsewhere(
        self, fiber: object, subject: str, data: Data, reply: str | None, headers: HeadersInput | None
    ) -> None:
        """``publish`` from a plain thread or another loop's task."""
        prefix = self._prefixes.get(subject)
        if prefix is not None and type(data) is bytes and reply is None and headers is None:
            size = len(data)
            line = prefix + SIZES[size] if size <= MAX_KNOWN_SIZE else b"%b%d" % (prefix, size)
        else:
            line, data = self.framer.frame(subject, data, reply, headers)
            size = len(data)
        # The plain case of a plain thread: nothing to be cancelled by, and a flush on its way.
        if not threads_in_scopes and type(fiber) is not Fiber and not self.loop.forked:
            outbound = self.outbound
            with outbound.lock:
                accepted = outbound.accepted_by_threads + size
                if accepted <= outbound.limit_of_threads:
                    outbound.lines.extend((line, data))
                    outbound.accepted_by_threads = accepted
                    return
        self.send_elsewhere(line, data)

    def publish_reply(self, reply: str, data: Data, headers: HeadersInput | None) -> None:
        """Answer a message: its reply subject comes from the server, so it needs no check."""
        if headers is not None or type(data) is not bytes:
            self.publish(reply, data, headers=headers)
            return
        size = len(data)
        line = b"PUB %b %d" % (reply.encode("utf-8", "surrogateescape"), size)
        fiber = getcurrent()
        if type(fiber) is not Fiber or fiber.loop is not self.loop:
            self.send_elsewhere(line, data)
            return
        loop = self.loop
        budget = loop.budget
        if budget <= 0:
            loop.checkpoint(fiber)
        else:
            loop.budget = budget - 1
        outbound = self.outbound
        accepted = outbound.accepted + size
        if accepted > outbound.limit:
            outbound.admit(size)
            accepted = outbound.accepted + size
        outbound.lines.extend((line, data))
        outbound.accepted = accepted

    def send_elsewhere(self, line: bytes, body: bytes, seconds: float | None = None, at_once: bool = False) -> None:
        """Send a message from a plain thread or another loop's task: straight into the queue, under its lock.

        TimeoutError if there is no room within ``seconds``.
        """
        if self._closed:
            self.check_open()
        if not self._opened:
            self.ready()
        loop = self.loop
        if loop.forked or loop.closed:
            loop.check_usable()
        holder = current_holder()
        if holder.scope is not holder and type(getcurrent()) is not Fiber:
            holder.check_deadlines()  # of the scopes around a plain thread's call
        if holder.scope.cancelled:
            raise zio.Cancelled
        while not self.outbound.append_from_thread(line, body, at_once):
            call_elsewhere(self.loop, self.outbound.wait_for_room, len(body), seconds)

    # Subscribing.

    def subscribe(
        self,
        subject: str,
        *,
        queue: str | None = None,
        cb: Callable[[Message], object] | None = None,
        workers: int = 1,
        key: Callable[[Message], Hashable] | None = None,
        max_msgs: int | None = None,
        pending_msgs: int | None = DEFAULT,
        pending_bytes: int | None = DEFAULT,
        overflow: str | None = None,
        confirm: bool = False,
    ) -> Subscription:
        """Receive what is published to ``subject`` (with wildcards), alone or as a member of the group ``queue``.

        With ``cb`` every message goes to ``cb(message)``: one at a time and in order, or with ``workers`` up to so many
        at once. ``key(message)``, a hashable, then decides which worker has it, so that messages of one key stay in
        order. Without ``cb`` the subscription is read like a channel. ``max_msgs`` ends it after so many.

        Beyond ``pending_msgs`` messages or ``pending_bytes`` bytes not yet taken (None: no limit; left out: the
        client's options) messages are dropped and counted: new ones, with ``overflow="drop_old"`` the oldest; with
        ``"error"`` the subscription ends with SlowConsumerError. With ``"block"`` nothing is dropped: with twice the
        limits pending nothing is read from the connection, unless a call of the client waits for an answer.

        BadSubjectError, OptionError, ConnectionClosedError, DrainingError. Never blocks, except with ``confirm``:
        then it returns when the server has accepted it, or raises PermissionDeniedError, ServerError or, after
        ``request_timeout``, TimeoutError; then, or cancelled, it leaves no subscription behind.
        """
        self._check_pattern(subject)
        if queue is not None:
            check_queue(queue)
            check_control_line(subject, queue)
        if not isinstance(confirm, bool):
            raise OptionError(f"confirm={confirm!r}: must be True or False")
        options = self.options
        terms = Terms(
            cb=cb,
            workers=workers,
            key=key,
            max_msgs=max_msgs,
            pending_msgs=options.pending_msgs if pending_msgs is DEFAULT else pending_msgs,
            pending_bytes=options.pending_bytes if pending_bytes is DEFAULT else pending_bytes,
            overflow=options.overflow if overflow is None else overflow,
        )
        self.ready()
        if not confirm:
            return edit_elsewhere(self.loop, self.table.make, subject, queue, terms)  # type: ignore[no-any-return]
        made: list[Subscription] = []
        try:
            return call_elsewhere(  # type: ignore[no-any-return]
                self.loop, self.table.make_confirmed, made, subject, queue, terms, options.request_timeout
            )
        except BaseException:
            for sub in made:
                if not self.loop.closed:
                    sub.unsubscribe()
            raise

    def check_subscribable(self) -> None:
        """ConnectionClosedError or DrainingError if there can be no new subscription."""
        self.check_open()
        if self._status is Status.DRAINING:
            raise DrainingError("the client is draining; it takes no new subscriptions")

    # Requests.

    def request(
        self,
        subject: str,
        data: Data = b"",
        *,
        timeout: float | None = DEFAULT,
        headers: HeadersInput | None = None,
        retry_on_disconnect: bool = False,
    ) -> Message:
        """Publish a request and wait for its reply, at most ``timeout`` seconds (default: ``request_timeout``).

        NoRespondersError at once if nobody listens; TimeoutError; DisconnectedError if the connection breaks
        after the request was written, unless ``retry_on_disconnect``: then it is asked again over the next connection,
        within its timeout; PermissionDeniedError. While disconnected it waits for the reconnect; given up before that,
        it is not sent. Cancelled, a reply that comes later is dropped.
        """
        if not self._opened:
            self.ready()
        if timeout is DEFAULT:
            timeout = self.options.request_timeout
        if retry_on_disconnect:
            return self.requests.repeat(subject, data, timeout, headers)
        return self.requests.request(subject, data, timeout, headers)

    def request_many(
        self,
        subject: str,
        data: Data = b"",
        *,
        timeout: float | None = DEFAULT,
        max_msgs: int | None = None,
        stall: float | None = None,
        until: Callable[[Message], object] | None = None,
        headers: HeadersInput | None = None,
    ) -> Replies:
        """Publish a request, and return the replies to iterate as they come (ADR-47).

        That ends ``timeout`` seconds from now (default: ``request_timeout``; None: no limit), after ``max_msgs``
        replies, when after the first reply none comes for ``stall`` seconds, with a reply for which ``until(reply)``
        is true (it is not among the replies), or when nobody listens; ``reason`` of the replies says which.
        The iteration raises DisconnectedError if the connection breaks, ConnectionClosedError or
        PermissionDeniedError, after the replies that had come. Leaving the loop leaves nothing behind.

        OptionError, and the errors of ``publish``. Waits only for room in the outbound queue, within ``timeout``.
        """
        if timeout is DEFAULT:
            timeout = self.options.request_timeout
        check_request_many(timeout, max_msgs, stall, until)
        self.ready()
        deadline = None if timeout is None else zio.now() + timeout
        gathering = self.requests.gather(subject, data, timeout, headers)
        return Replies(gathering, deadline=deadline, max_msgs=max_msgs, stall=stall, until=until)

    def new_inbox(self) -> str:
        """A new unique subject for replies."""
        self._home()
        return f"{self.options.inbox_prefix}.{self._nuid.next()}"

    # Proof and time.

    def flush(self, timeout: float | None = DEFAULT) -> None:
        """Wait until the server has everything published so far.

        At most ``timeout`` seconds (default: ``request_timeout``): then TimeoutError. DisconnectedError if the
        connection breaks before; ConnectionClosedError. Cut short, what was published goes out all the same.
        """
        self.ready()
        call_elsewhere(self.loop, self.flush_here, self.options.request_timeout if timeout is DEFAULT else timeout)

    def rtt(self, timeout: float | None = DEFAULT) -> float:
        """Seconds of one round trip to the server. Errors like ``flush``."""
        limit = self.options.request_timeout if timeout is DEFAULT else timeout
        self.ready()
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
        self._restored_waiters.push(waiter)
        if not self.loop.wait(waiter, left, self._restored_waiters.discard):
            raise TimeoutError(f"not connected within {timeout} s")
        self.check_open()

    # Ending.

    def drain(self, timeout: float | None = DRAIN_TIMEOUT) -> DrainReport:
        """End in order: no new messages come in, what came is handled, what was published goes out, then close.

        Waits for handlers other than the caller and for iterators of other tasks, at most ``timeout`` seconds.
        The report counts what stays unread, and says whether time ran out. Does nothing on a closed client.
        Cancelled, it leaves a client that is not closed and takes no new subscriptions: drain or close it again.
        """
        if self._closed_before_use():
            return DrainReport({})
        return call_elsewhere(self.loop, self.draining.drain, timeout)  # type: ignore[no-any-return]

    def close(self) -> None:
        """Send what was accepted (at most 2 s, not cut short by a cancel), then end. Does nothing if closed."""
        if not self._closed_before_use() and not self._closed and not self.loop.forked:
            call_elsewhere(self.loop, self.close_here, None)

    def _closed_before_use(self) -> bool:
        """Whether this is a lazy client without a home: then it is closed now."""
        if self.loop is not lazy.NO_HOME:
            return False
        self.closing = self._closed = True
        return True

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
            if self._event_calls is not None:
                self._event_calls.join()

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
        self._restored_waiters.fail_all(lambda: closed_error(error))
        self.emit(events.Closed(error))
        for receiver in self._receivers:
            receiver.end(self._failure())

    def begin_draining(self) -> None:
        """From now on there are no new subscriptions."""
        self._status = Status.DRAINING

    @property
    def all_written(self) -> bool:
        """Not connected, and nothing kept for the next connection: there is nothing to confirm."""
        return self._session.connection is None and not self.outbound.lines

    def check_open(self) -> None:
        if self._closed:
            raise closed_error(self._closed_by)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, exc_type: type[BaseException] | None, *exc_info: object) -> None:
        if self.loop.forked and self.loop is not lazy.NO_HOME:
            return  # a forked child leaves the block: the connection is the parent's
        if exc_type is None:
            self.drain()
        else:
            self.close()

    # Looking.

    def events(self) -> Receiver:
        """A channel of the events from now on, see :mod:`nats_zio.events`. Never blocks."""
        return edit_elsewhere(self._home(), self._events)  # type: ignore[no-any-return]

    def _events(self) -> Receiver:
        receiver = events.Receiver()
        if self._closed:
            receiver.end(self._failure())
        else:
            self._receivers.append(receiver)
        return receiver

    def _failure(self) -> Callable[[], Exception] | None:
        """What makes the error of a client that was closed by something else than its user."""
        cause = self._closed_by
        return None if cause is None else lambda: closed_error(cause)

    @property
    def status(self) -> Status:
        """Where the client stands."""
        if self.loop is lazy.NO_HOME:
            return Status.CLOSED if self._closed else Status.CONNECTING
        return self._status

    @property
    def is_connected(self) -> bool:
        """Whether there is a connection just now."""
        return self._opened and self._session.connection is not None and not self._closed

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
        return self._session.info if self._opened else ServerInfo()

    @property
    def max_payload(self) -> int:
        """The largest message, headers included, that the server takes, in bytes."""
        return self.server_info.max_payload

    @property
    def servers(self) -> list[str]:
        """The servers it may connect to, discovered ones included, without secrets."""
        if self.loop is lazy.NO_HOME:
            return sorted(map(str, self._servers))
        return sorted(self._session.pool.urls)

    @property
    def discovered_servers(self) -> list[str]:
        """The servers that the cluster has made known (INFO ``connect_urls``), without secrets."""
        return [] if self.loop is lazy.NO_HOME else sorted(self._session.pool.discovered_urls)

    def set_servers(self, servers: str | list[str] | tuple[str, ...]) -> None:
        """Replace the servers to connect to, discovered ones included. OptionError; ConnectionClosedError.

        A connection to a server that is no longer among them goes on until it breaks. A client that is waiting to try
        again tries the new ones at once. Never blocks.
        """
        parsed = parse_servers(servers)
        check_servers(parsed)
        self.check_open()
        self._servers = parsed
        if self.loop is not lazy.NO_HOME:
            edit_elsewhere(self.loop, self._session.set_servers, parsed)

    @property
    def stats(self) -> Stats:
        """Counts of messages and bytes, as they are now."""
        if self.loop is lazy.NO_HOME:
            return Stats(0, 0, 0, 0, 0)
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
        """Drop the present connection and connect again, at once. Never blocks. ConnectionClosedError if closed.

        Works also with ``allow_reconnect=False``, and cuts short a wait before the next attempt.
        """
        self.ready()
        edit_elsewhere(self.loop, self._force_reconnect)

    def _force_reconnect(self) -> None:
        self.check_open()
        self._session.reconnect_anyway()

    # For a thread that reads its reply itself.

    @property
    def connection(self) -> Connection | None:
        """The connection there is just now."""
        return self._session.connection

    def heard(self) -> None:
        """Something has come over it."""
        self._session.heard()

    # For the session and the subscriptions, at home.

    @property
    def awaits_pong(self) -> bool:
        """Whether a flush or the like is under way."""
        return self._session.awaits_pong

    def is_subscription(self, source: object) -> bool:
        """Whether this is a subscription of this client."""
        return isinstance(source, Subscription) and source.belongs_to(self)

    def ping(self) -> None:
        """Send a PING whose PONG nobody waits for."""
        self._session.ping(None)

    def connection_lost(self) -> None:
        if self._status is Status.CONNECTED:
            self._status = Status.RECONNECTING

    def connection_made(self) -> None:
        if self._status in (Status.CONNECTING, Status.RECONNECTING):
            self._status = Status.CONNECTED
        self._restored_waiters.wake_all()

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

    def emit(self, event: Event) -> None:
        if self._receivers:
            for receiver in self._receivers:
                receiver.put(event)
            self._receivers = [receiver for receiver in self._receivers if not receiver.closed]

    def __repr__(self) -> str:
        name = f" {self.options.name!r}" if self.options.name else ""
        return f"<Client{name} {self._status.value} {self.connected_url or ''}>"


def _nothing(waiter: Waiter) -> None:
    """A PONG's place in the order stays, whoever waits for it."""
