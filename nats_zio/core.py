"""What the parts of one client share: its home, its parts, its connection, its end.

State lives in the home loop, and most of this runs there. :class:`nats_zio.Client` is what the user calls; the session,
the subscriptions and the requests call this.
"""

from __future__ import annotations

import logging
import threading
from enum import Enum
from os import getpid
from typing import TYPE_CHECKING, Any
from weakref import ref

from greenlet import getcurrent

import zio
from zio.lowlevel import (
    CANCELLED,
    Fiber,
    Waiter,
    WaitQueue,
    current_holder,
    here,
    log_later,
    notice_fork,
    runtime_here,
    stay_if_over,
    threads_in_scopes,
)

from . import events, lazy
from .at_home import call_home
from .closed_reason import ClosedReason
from .draining import Draining
from .errors import DrainingError, Error, TimeoutError
from .event_calls import EventCalls
from .framing import Framer
from .ids import Nuid
from .protocol import check_characters, check_publish_subject, check_subscribe_subject
from .protocol.encoder import MAX_KNOWN_SIZE, SIZES
from .requests import Requests
from .session import Outbound, Session, closed_error
from .subscriptions import ReaderGate, Subscription, SubscriptionTable
from .user_functions import Raised, UserFunctions

if TYPE_CHECKING:
    from collections.abc import Callable

    from zio.lowlevel import Loop

    from .events import Event, Receiver
    from .framing import Data
    from .message import Message
    from .options import Options
    from .protocol import HeadersInput
    from .servers import Server
    from .session.connection import Connection

logger = logging.getLogger("nats_zio")

CLOSE_TIMEOUT = 2.0  # seconds that close() gives to handlers at work and to what was accepted
PROOF_TIMEOUT = 0.2  # seconds of them, at least, for the proof that the server has it


class Status(Enum):
    """Where a client stands."""

    CONNECTING = "connecting"
    CONNECTED = "connected"
    RECONNECTING = "reconnecting"
    DRAINING = "draining"
    CLOSED = "closed"


class Core:
    """The inside of a client."""

    def __init__(self, servers: list[Server], options: Options) -> None:
        self.options = options
        self.closing = False
        self._has_ended = False
        self.given_servers = servers
        self._closed_by: BaseException | None = None
        self.is_closed = False
        self._receivers: list[ref[Receiver]] = []  # those that somebody holds
        lenient = options.skip_subject_validation
        self.framer = Framer(self._headers_supported, check_characters if lenient else check_publish_subject)
        self.check_pattern = check_characters if lenient else check_subscribe_subject
        self.prefixes = self.framer.prefixes
        self.lose_home()
        if options.lazy:
            self.finding_home = lazy.FindingHome()
            lazy.remember(self)
        else:
            self._settle(runtime_here() or zio.background())

    # Finding a home, and opening there.

    def lose_home(self) -> None:
        """A lazy client is at home nowhere until it is used."""
        self.loop: Loop = lazy.NO_HOME
        self.opened = False
        self.pid = getpid()  # of the process that it belongs to

    def _settle(self, runtime: zio.Runtime) -> None:
        """Be at home in the runtime of the calling task, or in the background runtime."""
        in_thread = runtime_here() is None
        if runtime.loop.forked:
            runtime.loop.check_usable()
        options = self.options
        loop: Loop = runtime.loop
        self.runtime = runtime
        self.callbacks_in_threads = in_thread if options.run_callbacks is None else options.run_callbacks == "thread"
        self.user_functions = UserFunctions(runtime, in_threads=self.callbacks_in_threads)
        self.outbound = Outbound(loop, options.reconnect_buffer_size, self._write_failed)
        self.outbound.opener = self.open_once
        self.table = SubscriptionTable(self)
        self.subscriptions = self.table.entries
        self.gate = ReaderGate(self)
        self.requests = Requests(self, loop)
        self.session = Session(self, self.given_servers)
        self.state = Status.CONNECTING
        self.unmatched_replies = 0
        self._receivers = []
        self._event_calls: EventCalls | None = None
        self._nuid = Nuid(runtime.random)
        # That have a handler at work, or are iterated. No set: what is done to all of them is done in this order.
        self.in_use: dict[Subscription, None] = {}
        self.draining = Draining(self)
        self._opening = zio.Lock()
        self._close_seconds = CLOSE_TIMEOUT
        self._told = 0, 0  # of the messages and bytes accepted, how many were when loss was last told of
        self._close_waiters = WaitQueue()
        self._restored_waiters = WaitQueue()  # who waits for the reconnect
        self.loop = loop
        if options.lazy:  # it may never be opened, and ends all the same when the runtime does
            closer = _weak_closer(self)
            if loop.is_here():
                runtime.on_close(closer)
            else:
                loop.post(runtime.on_close, closer, optional=True)

    def ready(self) -> None:
        """Before a call that needs a connection: the first one of a lazy client opens it. Errors of ``connect``."""
        if getpid() != self.pid:
            notice_fork()
        if not self.opened:
            self.check_open()
            call_home(self.home(), self.open_once)

    def home(self) -> Loop:
        """The home loop, found now if need be."""
        if getpid() != self.pid:
            notice_fork()
        if self.loop is lazy.NO_HOME and not self.is_closed:
            # Without a task this may have to start it, and wait for that: not while others wait for us.
            runtime = runtime_here() or zio.background()
            with self.finding_home:
                if self.loop is lazy.NO_HOME:
                    self._settle(runtime)
        return self.loop

    def open_once(self) -> None:
        """Make the first connection, whoever asks for it first. In the home loop."""
        with self._opening:
            if self.opened or self.is_closed:
                return
            if self.options.on_event is not None and self._event_calls is None:
                calls = EventCalls(self.loop, self.options.on_event, self.user_functions)
                self._event_calls = calls
                self._receivers.append(ref(calls.receiver))
            try:
                self.session.start()
            except BaseException:
                if self._event_calls is not None:
                    self._event_calls.receiver.close()
                    self._event_calls = None
                raise
            self.opened = True
            self.outbound.opener = None
            self.runtime.on_close(self._close_at_end)
            self.runtime.on_process_exit(self._settle_at_exit)

    def _headers_supported(self) -> bool:
        """Whether the server takes headers; before there was one, that is to be expected."""
        self.ready()
        return self.session.info.headers or not self.session.ever_connected

    # Functions of the user's.

    def user_call(self, option: str, fn: Callable[..., Any] | None) -> Callable[..., Any] | None:
        """A function given as an option, to be called in a task: where handlers run; None if it raises."""
        if fn is None:
            return None

        def call(*args: Any) -> Any:
            try:
                return self.user_functions.call(fn, *args)
            except Raised as raised:
                self.option_failed(option, raised.error)
                return None

        return call

    def option_failed(self, option: str, error: BaseException) -> None:
        """A function given as an option raised, or returned what it must not."""
        log_later(logger, logging.ERROR, "%s= failed", option, error=error)
        self.emit(events.CallbackError(None, None, error))

    # Publishing, but for the way that Client.publish has for itself.

    def publish_elsewhere(
        self, fiber: object, subject: str, data: Data, reply: str | None, headers: HeadersInput | None
    ) -> None:
        """``publish`` from a plain thread or another loop's task."""
        if getpid() != self.pid:
            notice_fork()
        prefix = self.prefixes.get(subject) if type(subject) is str else None
        if prefix is not None and type(data) is bytes and reply is None and headers is None:
            size = len(data)
            line = prefix + SIZES[size] if size <= MAX_KNOWN_SIZE else b"%b%d" % (prefix, size)
        else:
            line, data = self.framer.frame(subject, data, reply, headers)
            size = len(data)
        # The plain case of a plain thread: nothing to be cancelled by, and a flush on its way.
        if not threads_in_scopes and type(fiber) is not Fiber and not self.loop.forked:
            outbound = self.outbound
            frame = line, data
            accepted = outbound.accepted_by_threads + size
            if accepted <= outbound.limit_of_threads:
                outbound.accepted_by_threads = accepted  # from the look until here no call: nothing comes between
                outbound.lines.extend(frame)
                return
        self.send_elsewhere(line, data)

    def publish_reply(self, reply: str, data: Data, headers: HeadersInput | None) -> None:
        """Answer a message: its reply subject comes from the server, so it needs no check."""
        if headers is None and type(data) is bytes:
            line = b"PUB %b %d" % (str.encode(reply, "utf-8", "surrogateescape"), len(data))
        else:
            line, data = self.framer.answer_frame(reply, data, headers)
        size = len(data)
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
        outbound.accepted = accepted
        outbound.lines.extend((line, data))

    def send_elsewhere(self, line: bytes, body: bytes, seconds: float | None = None, at_once: bool = False) -> None:
        """Send a message from a plain thread or another loop's task: straight into the queue, under its lock.

        TimeoutError if there is no room within ``seconds``.
        """
        if getpid() != self.pid:
            notice_fork()
        if self.is_closed:
            self.check_open()
        if not self.opened:
            self.ready()
        loop = self.loop
        if loop.forked:
            loop.check_usable()
        holder = current_holder()
        if type(getcurrent()) is not Fiber:
            holder.raise_pending()
            if holder.scope is not holder:
                holder.check_deadlines()  # of the scopes around a plain thread's call
        if holder.scope.cancelled:
            raise zio.Cancelled
        while not self.outbound.append_from_thread(line, body, at_once):
            call_home(self.loop, self.outbound.wait_for_room, len(body), seconds)

    # Subscriptions.

    def check_subscribable(self) -> None:
        """ConnectionClosedError or DrainingError if there can be no new subscription."""
        self.check_open()
        if self.state is Status.DRAINING:
            raise DrainingError("the client is draining; it takes no new subscriptions")

    def is_subscription(self, source: object) -> bool:
        """Whether this is a subscription of this client."""
        return isinstance(source, Subscription) and source.belongs_to(self)

    def slow_consumer(self, sub: Subscription) -> None:
        self.emit(events.SlowConsumer(sub, sub.dropped))
        log_later(logger, logging.WARNING, "slow consumer: %r has reached its limit of pending messages", sub)

    def handler_not_started(self, sub: Subscription, error: RuntimeError) -> None:
        """There is no thread for a handler. Its messages wait; at the end of the program that is all there is to do."""
        if threading.main_thread().is_alive():
            log_later(logger, logging.ERROR, "the handler of %r waits for its next message: %s", sub, error)

    def reply_unmatched(self, message: Message) -> None:
        """A reply has come under another subject, and more than one request waits."""
        self.unmatched_replies += 1
        self.emit(events.UnmatchedReply(message.subject))
        logger_line = "a reply came under the subject %r, which says of no request that it is its"
        log_later(logger, logging.WARNING, logger_line, message.subject)

    def callback_failed(self, sub: Subscription, message: Message, error: BaseException) -> None:
        log_later(logger, logging.ERROR, "the handler of %r failed", sub, error=error)
        self.emit(events.CallbackError(sub, message, error))

    # The connection.

    @property
    def is_connected(self) -> bool:
        """Whether there is a connection just now."""
        return self.opened and self.session.connection is not None and not self.is_closed

    @property
    def connection(self) -> Connection | None:
        """The connection there is just now."""
        return self.session.connection

    def heard(self) -> None:
        """Something has come over it."""
        self.session.heard()

    @property
    def awaits_pong(self) -> bool:
        """Whether a flush or the like is under way."""
        return self.session.awaits_pong

    def ping(self) -> None:
        """Send a PING whose PONG nobody waits for."""
        self.session.ping(None)

    def connection_lost(self) -> None:
        if self.state is Status.CONNECTED:
            self.state = Status.RECONNECTING

    def connection_made(self) -> None:
        if self.state in (Status.CONNECTING, Status.RECONNECTING):
            self.state = Status.CONNECTED
        self._restored_waiters.wake_all()

    def _write_failed(self, error: BaseException) -> None:
        self.session.lose(error)

    def reconnect_here(self) -> None:
        self.check_open()
        self.session.reconnect_anyway()

    def new_inbox(self) -> str:
        """A new unique subject for replies."""
        if self.home() is lazy.NO_HOME:
            self.check_open()
        return f"{self.options.inbox_prefix}.{self._nuid.next()}"

    # Proof.

    def flush_here(self, timeout: float | None) -> None:
        fiber = here()
        loop = self.loop
        if fiber.cancelled or loop.budget <= 0:
            loop.checkpoint(fiber)
        self.check_open()
        deadline = None if timeout is None else loop.clock.now() + timeout
        while self.session.connection is None:
            self._wait_for_connection(fiber, deadline, timeout)
        waiter = Waiter(fiber, "a PONG")
        try:
            self.session.ping(waiter)
            left = None if deadline is None else max(deadline - loop.clock.now(), 0)
            if not loop.wait(waiter, left, _nothing):
                raise TimeoutError(f"the server has not confirmed within {timeout} s")
        except BaseException:
            if not waiter.state:  # struck before the wait: its PONG must find nobody
                waiter.state = CANCELLED
            raise

    def rtt_here(self, timeout: float | None) -> float:
        self.check_open()
        clock = self.loop.clock
        self.outbound.flush()
        start = clock.now()
        self.flush_here(timeout)
        return clock.now() - start

    def _wait_for_connection(self, fiber: Fiber, deadline: float | None, timeout: float | None) -> None:
        left = None if deadline is None else deadline - self.loop.clock.now()
        if left is not None and left <= 0:
            raise TimeoutError(f"not connected within {timeout} s")
        waiter = Waiter(fiber, "the reconnect")
        self._restored_waiters.push(waiter)
        if not self.loop.wait(waiter, left, self._restored_waiters.discard):
            raise TimeoutError(f"not connected within {timeout} s")
        self.check_open()

    @property
    def all_written(self) -> bool:
        """Not connected, and nothing kept for the next connection: there is nothing to confirm."""
        return self.session.connection is None and not self.outbound.lines

    # Ending.

    def begin_draining(self) -> None:
        """From now on there are no new subscriptions."""
        self.state = Status.DRAINING

    def closed_before_use(self) -> bool:
        """Whether this is a lazy client without a home: then it is closed now."""
        if getpid() != self.pid:
            notice_fork()
        if self.loop is not lazy.NO_HOME:
            return False
        self.closing = self.is_closed = True
        return True

    def close_here(self, error: BaseException | None, limit: float | None = CLOSE_TIMEOUT) -> None:
        """Give what was accepted ``CLOSE_TIMEOUT``, or less with a lower ``limit``, then end."""
        if self.closing:
            if not self.is_closed:  # another task is at it
                waiter = Waiter(here(), self)
                self._close_waiters.push(waiter)
                self.loop.wait(waiter, None, self._close_waiters.discard)
            return
        seconds = self._close_seconds if limit is None else min(limit, self._close_seconds)
        scope = zio.shield()
        try:
            self.closing = True  # from here on no handler begins
            with scope:
                begin = self.loop.clock.now()
                self.draining.await_handlers(seconds)
                left = seconds - (self.loop.clock.now() - begin)
                self._send_accepted(max(left, min(seconds, PROOF_TIMEOUT)))
                self.session.stop()
                self._ended(error, ClosedReason.CLIENT_CLOSED)
                self.session.join()
                if self._event_calls is not None:
                    self._event_calls.join()
        except BaseException:
            scope.make_sure_it_is_left()
            if not self._has_ended:  # struck in the middle: nobody else would go on with it
                self.session.stop()
                self._ended(error, ClosedReason.CLIENT_CLOSED)
            raise

    def _send_accepted(self, seconds: float) -> None:
        """Have the server confirm what was accepted, or tell how much it has not."""
        try:
            if self.session.connection is not None:
                self.outbound.flush()  # with no time left nothing would go out
                self.flush_here(seconds)
        except (Error, zio.Cancelled) as exc:
            self._report_lost(exc)
        else:
            if self.session.connection is None:
                self._report_lost(None)

    def _report_lost(self, error: BaseException | None) -> None:
        outbound = self.outbound
        told_msgs, told_bytes = self._told
        accepted = self._told = outbound.accepted_msgs, outbound.accepted_bytes
        msgs, size = outbound.unproved()
        # What is not proved came last, and some of it may have been told of already.
        msgs, size = min(msgs, accepted[0] - told_msgs), min(size, accepted[1] - told_bytes)
        if msgs:
            log_later(
                logger,
                logging.WARNING,
                "closing %s with %d messages (%d bytes) of which it is not proved that the server has them%s",
                self.options.name or "a client",
                msgs,
                size,
                f": {error}" if error else "",
            )

    def _settle_at_exit(self) -> None:
        """The process ends: see what was accepted out, and what is lost told, before the log is shut down.

        Other exit handlers may publish more. The two seconds of a close are for both together.
        """
        if not self.closing:
            clock = self.loop.clock
            begin = clock.now()
            self._send_accepted(CLOSE_TIMEOUT)
            self._close_seconds = max(CLOSE_TIMEOUT - (clock.now() - begin), 0.0)

    def _close_at_end(self) -> None:
        """The runtime ends."""
        self.close_here(None)

    def closed_by(self, error: BaseException) -> None:
        """The session has given up."""
        if not self.is_closed:
            self._report_lost(error)
            self.closing = True
            self._closed_by = error
            self._ended(error, ClosedReason.CONNECTION_LOST)

    def _ended(self, error: BaseException | None, reason: ClosedReason) -> None:
        self.is_closed = True
        self._close_waiters.wake_all()
        self.state = Status.CLOSED
        self.runtime.forget_closer(self._close_at_end)
        self.runtime.forget_settler(self._settle_at_exit)
        self.outbound.fail(lambda: closed_error(error))
        self.requests.close(lambda: closed_error(error))
        for sub in self.table.living():
            sub.close(reason, None)
        self.subscriptions.clear()
        self._restored_waiters.fail_all(lambda: closed_error(error))
        self.emit(events.Closed(error))
        for receiver in self._live_receivers():
            receiver.end(self._failure())
        self._has_ended = True

    def check_open(self) -> None:
        if self.is_closed:
            stay_if_over()
            raise closed_error(self._closed_by)

    # Looking.

    def emit(self, event: Event) -> None:
        for receiver in self._live_receivers():
            receiver.put(event)

    def add_receiver(self) -> Receiver:
        receiver = events.Receiver()
        if self.is_closed:
            receiver.end(self._failure())
        else:
            self._receivers = [ref(known) for known in self._live_receivers()]
            self._receivers.append(ref(receiver))
        return receiver

    def _live_receivers(self) -> list[Receiver]:
        found = (known() for known in self._receivers)
        return [receiver for receiver in found if receiver is not None and not receiver.closed]

    def _failure(self) -> Callable[[], Exception] | None:
        """What makes the error of a client that was closed by something else than its user."""
        cause = self._closed_by
        return None if cause is None else lambda: closed_error(cause)

    @property
    def status(self) -> Status:
        """Where the client stands."""
        if self.loop is lazy.NO_HOME:
            return Status.CLOSED if self.is_closed else Status.CONNECTING
        return self.state

    def __repr__(self) -> str:
        name = f" {self.options.name!r}" if self.options.name else ""
        server = f" {self.session.server}" if self.is_connected else ""
        return f"<Client{name} {self.status.value}{server}>"


def _weak_closer(core: Core) -> Callable[[], None]:
    """Closes a client at the end of its runtime without keeping it until then: it may never be opened."""
    runtime = core.runtime

    def close() -> None:
        living = known()
        if living is not None:
            living._close_at_end()

    known = ref(core, lambda _: runtime.forget_closer(close))
    return close


def _nothing(waiter: Waiter) -> None:
    """A PONG's place in the order stays, whoever waits for it."""
