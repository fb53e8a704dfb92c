"""The client: what the user calls. Hot calls are made right here; see :mod:`nats_zio.core` for what is behind it."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from os import getpid
from typing import TYPE_CHECKING, Any, NoReturn, Self

from greenlet import getcurrent

import zio
from zio.lowlevel import Fiber, inner_packages, notice_fork

from . import lazy
from .at_home import call_home, edit_home
from .core import Core
from .draining import DRAIN_TIMEOUT, DrainReport
from .errors import ConnectionClosedError, OptionError
from .forgotten import Forgotten
from .message import Message
from .options import DEFAULT, check_timeout, make_options
from .protocol import ServerInfo, check_control_line, check_queue, plain
from .protocol.encoder import MAX_KNOWN_SIZE, SIZES
from .requests import Replies, check_request_many
from .servers import parse_servers
from .subscriptions import Terms
from .transport import check_servers, check_use

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

    from zio import Runtime

    from .core import Status
    from .events import Receiver
    from .framing import Data
    from .options import Options
    from .protocol import HeadersInput
    from .servers import Server
    from .subscriptions import Subscription

inner_packages.add("nats_zio")  # warnings name the code that calls the client


@dataclass(frozen=True, slots=True)
class Stats:
    """Counts since the client was made; bytes are payload and headers.

    ``unmatched_replies``: see :class:`nats_zio.events.UnmatchedReply`.
    """

    in_msgs: int
    out_msgs: int
    in_bytes: int
    out_bytes: int
    reconnects: int
    unmatched_replies: int = 0


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
    return Client(parsed, checked)


class Client:
    """A connection to NATS that mends itself. Made by :func:`nats_zio.connect`.

    Every call may be made from any task or thread. ``with`` drains on success and closes on an error.
    """

    _made = False

    def __init__(self, servers: list[Server], options: Options) -> None:
        self._core = Core(servers, options)
        if not options.lazy:
            self._core.ready()
        self._made = True

    @property
    def options(self) -> Options:
        """What it was made with."""
        return self._core.options

    @property
    def runtime(self) -> Runtime:
        """The zio runtime where it lives. A lazy client finds it at its first use."""
        core = self._core
        if core.home() is lazy.NO_HOME:
            core.check_open()
        return core.runtime

    # Publishing.

    def publish(
        self, subject: str, data: Data = b"", *, reply: str | None = None, headers: HeadersInput | None = None
    ) -> None:
        """Send a message. It is accepted in order and goes out by itself; ``flush`` proves that the server has it.

        ``data`` is bytes, bytearray, memoryview or str (UTF-8). Waits only if the outbound queue is full.
        BadSubjectError, HeaderError, MaxPayloadError and ConnectionClosedError before anything is sent; while
        disconnected it is buffered, up to ReconnectBufferFullError. Cancelled means not sent.
        """
        core = self._core
        fiber = getcurrent()
        loop = core.loop
        if type(fiber) is not Fiber or fiber.loop is not loop:
            core.publish_elsewhere(fiber, subject, data, reply, headers)
            return
        budget = loop.budget
        if budget <= 0:
            loop.checkpoint(fiber)
        else:
            loop.budget = budget - 1
        prefix = core.prefixes.get(subject) if type(subject) is str else None  # a subclass may hash as it likes
        if prefix is not None and type(data) is bytes and reply is None and headers is None:
            size = len(data)
            line = prefix + SIZES[size] if size <= MAX_KNOWN_SIZE else b"%b%d" % (prefix, size)
        else:
            line, data = core.framer.frame(subject, data, reply, headers)
            size = len(data)
        outbound = core.outbound
        accepted = outbound.accepted + size
        if accepted > outbound.limit:
            outbound.admit(size)
            accepted = outbound.accepted + size
        outbound.accepted = accepted
        outbound.lines.extend((line, data))

    def publish_msg(self, message: Message) -> None:
        """Send a message that was made, ``Message(subject, data, reply=, headers=)``, or received. Like ``publish``."""
        if not isinstance(message, Message):
            raise TypeError(f"publish_msg needs a nats_zio.Message, not {type(message).__name__}")
        self.publish(message.subject, message.data, reply=message.reply, headers=message.headers)

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
        core = self._core
        subject, queue = plain(subject), plain(queue)
        core.check_pattern(subject)
        if queue is not None:
            check_queue(queue)
            check_control_line(subject, queue)
        if not isinstance(confirm, bool):
            raise OptionError(f"confirm={confirm!r}: must be True or False")
        options = core.options
        terms = Terms(
            cb=cb,
            workers=workers,
            key=key,
            max_msgs=max_msgs,
            pending_msgs=options.pending_msgs if pending_msgs is DEFAULT else pending_msgs,
            pending_bytes=options.pending_bytes if pending_bytes is DEFAULT else pending_bytes,
            overflow=options.overflow if overflow is None else overflow,
        )
        core.ready()
        made: list[Subscription] = []
        try:
            if not confirm:
                return edit_home(core.loop, core.table.make, made, subject, queue, terms)  # type: ignore[no-any-return]
            return call_home(  # type: ignore[no-any-return]
                core.loop, core.table.make_confirmed, made, subject, queue, terms, options.request_timeout
            )
        except BaseException:
            for sub in made:
                sub.unsubscribe()
            raise

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
        core = self._core
        if not core.opened or getpid() != core.pid:
            core.ready()
        if timeout is DEFAULT:
            timeout = core.options.request_timeout
        if retry_on_disconnect:
            return core.requests.repeat(subject, data, timeout, headers)
        return core.requests.request(subject, data, timeout, headers)

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
        core = self._core
        if timeout is DEFAULT:
            timeout = core.options.request_timeout
        check_request_many(timeout, max_msgs, stall, until)
        core.ready()
        deadline = None if timeout is None else zio.now() + timeout
        gathering = core.requests.gather(subject, data, timeout, headers)
        replies = Replies(gathering, deadline=deadline, max_msgs=max_msgs, stall=stall, until=until)
        replies.client = self  # they need it
        return replies

    def new_inbox(self) -> str:
        """A new unique subject for replies."""
        return self._core.new_inbox()

    # Proof and time.

    def flush(self, timeout: float | None = DEFAULT) -> None:
        """Wait until the server has everything published so far.

        At most ``timeout`` seconds (default: ``request_timeout``): then TimeoutError. DisconnectedError if the
        connection breaks before; ConnectionClosedError. Cut short, what was published goes out all the same.
        """
        core = self._core
        limit = core.options.request_timeout if timeout is DEFAULT else timeout
        check_timeout(limit)
        core.ready()
        call_home(core.loop, core.flush_here, limit)

    def rtt(self, timeout: float | None = DEFAULT) -> float:
        """Seconds of one round trip to the server. Errors like ``flush``."""
        core = self._core
        limit = core.options.request_timeout if timeout is DEFAULT else timeout
        check_timeout(limit)
        core.ready()
        return call_home(core.loop, core.rtt_here, limit)  # type: ignore[no-any-return]

    # Ending.

    def drain(self, timeout: float | None = DRAIN_TIMEOUT) -> DrainReport:
        """End in order: no new messages come in, what came is handled, what was published goes out, then close.

        Waits for handlers other than the caller and for iterators of other tasks, at most ``timeout`` seconds.
        The report counts what stays unread, and says whether time ran out. Does nothing on a closed client. Several
        drains at a time share one; one whose time runs out first leaves it to the others.
        Cancelled, it leaves a client that is not closed and takes no new subscriptions: drain or close it again.
        """
        core = self._core
        check_timeout(timeout)
        if core.closed_before_use() or core.is_closed:
            return DrainReport({})
        try:
            return call_home(core.loop, core.draining.drain, timeout)  # type: ignore[no-any-return]
        except ConnectionClosedError:  # the runtime ends, and closes the client before the drain was done
            return DrainReport({}, timed_out=True)

    def close(self) -> None:
        """Send what was accepted (at most 2 s, not cut short by a cancel), then end. Does nothing if closed."""
        core = self._core
        if not core.closed_before_use() and not core.is_closed and not core.loop.forked:
            with suppress(ConnectionClosedError):  # the runtime ends, and closes the client
                call_home(core.loop, core.close_here, None)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, exc_type: type[BaseException] | None, *exc_info: object) -> None:
        core = self._core
        notice_fork()
        if core.loop.forked and core.loop is not lazy.NO_HOME:
            return  # a forked child leaves the block: the connection is the parent's
        if exc_type is None:
            self.drain()
        else:
            self.close()

    # Looking.

    def events(self) -> Receiver:
        """A channel of the events from now on, see :mod:`nats_zio.events`. It needs no end: forget it. Never blocks."""
        core = self._core
        if core.is_closed:
            return core.add_receiver()
        return edit_home(core.home(), core.add_receiver)  # type: ignore[no-any-return]

    @property
    def status(self) -> Status:
        """Where the client stands."""
        return self._core.status

    @property
    def is_connected(self) -> bool:
        """Whether there is a connection just now."""
        return self._core.is_connected

    @property
    def is_closed(self) -> bool:
        """Whether the client has ended for good."""
        return self._core.is_closed

    @property
    def connected_url(self) -> str | None:
        """The server it is connected to, without secrets; None while it is not."""
        return str(self._core.session.server) if self.is_connected else None

    @property
    def server_info(self) -> ServerInfo:
        """What the server last said about itself."""
        core = self._core
        return core.session.info if core.opened else ServerInfo()

    @property
    def max_payload(self) -> int:
        """The largest message, headers included, that the server takes, in bytes."""
        return self.server_info.max_payload

    @property
    def servers(self) -> list[str]:
        """The servers it may connect to, discovered ones included, without secrets."""
        core = self._core
        if core.loop is lazy.NO_HOME:
            return sorted(map(str, core.given_servers))
        return sorted(core.session.pool.urls)

    @property
    def discovered_servers(self) -> list[str]:
        """The servers that the cluster has made known (INFO ``connect_urls``), without secrets."""
        core = self._core
        return [] if core.loop is lazy.NO_HOME else sorted(core.session.pool.discovered_urls)

    def set_servers(self, servers: str | list[str] | tuple[str, ...]) -> None:
        """Replace the servers to connect to, discovered ones included. OptionError; ConnectionClosedError.

        A connection to a server that is no longer among them goes on until it breaks. A client that is waiting to try
        again tries the new ones at once. Never blocks.
        """
        core = self._core
        parsed = parse_servers(servers)
        check_servers(parsed)
        core.check_open()
        core.given_servers = parsed
        if core.loop is not lazy.NO_HOME:
            edit_home(core.loop, core.session.set_servers, parsed)

    @property
    def stats(self) -> Stats:
        """Counts of messages and bytes, as they are now."""
        core = self._core
        if core.loop is lazy.NO_HOME:
            return Stats(0, 0, 0, 0, 0)
        session = core.session
        parser = session.connection.parser if session.connection is not None else None
        return Stats(
            in_msgs=session.received_msgs + (parser.messages if parser else 0),
            out_msgs=core.outbound.accepted_msgs,
            in_bytes=session.received_bytes + (parser.payload_bytes if parser else 0),
            out_bytes=core.outbound.accepted_bytes,
            reconnects=session.reconnects,
            unmatched_replies=core.unmatched_replies,
        )

    def force_reconnect(self) -> None:
        """Drop the present connection and connect again, at once. Never blocks. ConnectionClosedError if closed.

        Works also with ``allow_reconnect=False``, and cuts short a wait before the next attempt.
        """
        core = self._core
        core.ready()
        edit_home(core.loop, core.reconnect_here)

    def __del__(self) -> None:
        if self._made:
            core = self._core
            if core.opened and not core.closing and core.pid == getpid():
                Forgotten(core).begin()

    def __reduce__(self) -> NoReturn:
        raise TypeError(f"{self!r} cannot be copied or pickled: share it, or connect where it is needed")

    def __repr__(self) -> str:
        return repr(self._core)
