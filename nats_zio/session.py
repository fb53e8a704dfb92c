"""The life of a client's link over many connections: reading, liveness, reconnecting.

One task serves the session: it reads while connected, and reconnects when the connection is lost. It is a
system task, so it outlives the scope in which ``connect`` was called. Whatever ends a connection (the end of
the stream, an error of reading or writing, unanswered pings) becomes an end of its reading, and goes on there.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

import zio
from zio.lowlevel import Waiter, here

from . import events, protocol
from .connection import AUTH_KINDS, READ_SIZE, open_connection, server_error
from .errors import (
    AuthError,
    ConnectionClosedError,
    CredentialsError,
    DisconnectedError,
    Error,
    NoServersError,
    PermissionDeniedError,
    ProtocolError,
    StaleConnectionError,
    TLSRequiredError,
)
from .message import Message
from .protocol import ErrorKind, Parser, ServerInfo

if TYPE_CHECKING:
    from .client import Client
    from .connection import Connection
    from .errors import ServerError
    from .servers import Server

MAX_READ = 512 << 10

_PERMISSION_KINDS = frozenset(
    {
        ErrorKind.PUBLISH_PERMISSION,
        ErrorKind.REPLY_PERMISSION,
        ErrorKind.SUBSCRIPTION_PERMISSION,
        ErrorKind.TOO_MANY_TOKENS,
    }
)


class Session:
    """Keeps a client connected. All of it runs in the client's home loop."""

    def __init__(self, client: Client, servers: list[Server]) -> None:
        self._client = client
        self._options = client.options
        self._pool: deque[Server] = deque(servers)
        self._failures: dict[Server, int] = dict.fromkeys(servers, 0)
        self._refusals: dict[Server, str] = {}  # the last authentication error of each, until it takes us
        self.connection: Connection | None = None
        self.server: Server | None = None
        self.info = ServerInfo()
        self.received_msgs = 0  # of connections that have ended
        self.received_bytes = 0
        self.reconnects = 0
        self._task: zio.Task[None] | None = None
        self._lost: BaseException | None = None  # why the present connection ends
        self._last_error: ServerError | None = None
        self._pongs: deque[tuple[Waiter | None, tuple[int, int]]] = deque()
        self._pings_unanswered = 0
        self._heard = False
        self._liveness: _Liveness | None = None
        self._forced = False

    # Connecting.

    def start(self) -> None:
        """Connect for the first time, in the caller's task; then a task of its own serves the session."""
        loop = here().loop
        if not self._options.no_randomize:
            servers = list(self._pool)
            loop.runtime.random.shuffle(servers)
            self._pool = deque(servers)
        errors: dict[str, BaseException] = {}
        for server in list(self._pool):
            try:
                connection = self._open(server)
            except (AuthError, TLSRequiredError) as exc:
                errors[str(server)] = exc
                if len(self._pool) == 1:
                    raise
            except (Error, OSError, EOFError) as exc:
                errors[str(server)] = exc
            else:
                self._begin(connection)
                self._client.emit(events.Connected(str(server)))
                self._task = loop.spawn_system(self._serve, name=f"nats session {server}")
                return
            self._pool.rotate(-1)
        raise NoServersError(
            "no server could be reached: " + "; ".join(f"{url}: {_short(exc)}" for url, exc in errors.items()), errors
        ) from next(iter(errors.values()))

    def _open(self, server: Server) -> Connection:
        from . import __version__

        return open_connection(server, self._options, __version__, lambda: Parser(Message, self._client))

    def _begin(self, connection: Connection) -> None:
        """The connection is usable: subscriptions and kept messages go first. No task switch in here."""
        client = self._client
        self.connection, self.server, self.info = connection, connection.server, connection.info
        self._lost = self._last_error = None
        self._forced = False
        self._pings_unanswered = 0
        self._heard = True
        self._failures[connection.server] = 0
        self._refusals.pop(connection.server, None)
        client.outbound.connected(connection.stream, connection.info.max_payload, client.replay())
        client.outbound.flush()
        self._liveness = _Liveness(self, self._options.ping_interval)
        pending, connection.events = connection.events, []
        for event in pending:
            self._handle(event)

    # The task.

    def _serve(self) -> None:
        client = self._client
        try:
            while True:
                error = self._read()
                self._end_connection(error)
                if client.closing:
                    return
                if not (self._options.allow_reconnect or self._forced):
                    client.closed_by(error)
                    return
                if not self._reconnect():
                    return
        except zio.Cancelled:
            self._end_connection(None)
            raise
        except BaseException as exc:
            self._end_connection(exc)
            client.closed_by(exc)
            raise

    def _read(self) -> BaseException:
        """Read and hand out until the connection ends; why it did."""
        connection, client = self.connection, self._client
        if connection is None:  # lost before this task had its turn
            return self._lost or DisconnectedError("the connection was lost")
        recv, feed = connection.stream.recv, connection.parser.feed
        subs = client.subscriptions
        parser = connection.parser
        size = READ_SIZE
        try:
            while True:
                data = recv(size)
                if not data:
                    return self._lost or self._last_error or ConnectionResetError("the server closed the connection")
                self._heard = True
                groups, control = feed(data)
                bound = parser.last_bytes
                for sid, messages in groups.items():
                    sub = subs.get(sid)
                    if sub is not None:
                        sub.deliver(messages, bound)
                for event in control:
                    self._handle(event)
                got = len(data)
                if got == size:
                    size = min(size * 2, MAX_READ)
                elif got * 8 < size and size > READ_SIZE:
                    size //= 2
        except ProtocolError as exc:
            for sid, messages in exc.messages.items():
                sub = subs.get(sid)
                if sub is not None:
                    sub.deliver(messages, parser.last_bytes)
            for event in exc.events:
                self._handle(event)
            return exc
        except (OSError, zio.Closed) as exc:
            return self._lost or self._last_error or exc

    def _end_connection(self, error: BaseException | None) -> None:
        """Let go of the connection, settle what hung on it."""
        connection, client = self.connection, self._client
        if connection is None:
            return
        self.connection = None
        self.received_msgs += connection.parser.messages
        self.received_bytes += connection.parser.payload_bytes
        if self._liveness is not None:
            self._liveness.stop()
            self._liveness = None
        connection.stream.close()
        msgs, size = client.outbound.disconnected()
        pongs, self._pongs = self._pongs, deque()
        for waiter, _mark in pongs:
            if waiter is not None:
                waiter.fail(
                    closed_error(None)
                    if client.closing
                    else DisconnectedError("the connection broke before the server had confirmed")
                )
        if not client.closing:  # else the client itself tells those who wait
            client.requests.disconnected(client.outbound.kept_frames())
            client.connection_lost()
            client.emit(events.Disconnected(error, msgs, size))

    def _reconnect(self) -> bool:
        """Try the servers until one takes us; False if all are used up and the client is closed."""
        options, client = self._options, self._client
        attempts = options.max_reconnect_attempts
        round_number = 0
        random = client.runtime.random
        errors: dict[str, BaseException] = {}
        while True:
            for _ in range(len(self._pool)):
                server = self._pool[0]
                try:
                    connection = self._open(server)
                except (Error, OSError, EOFError) as exc:
                    errors[str(server)] = exc
                    client.emit(events.ReconnectFailed(str(server), exc))
                    self._failures[server] += 1
                    used_up = attempts is not None and attempts >= 0 and self._failures[server] >= attempts
                    if used_up or self._refused_again(server, exc):
                        self._pool.popleft()
                    else:
                        self._pool.rotate(-1)
                else:
                    self._begin(connection)
                    self.reconnects += 1
                    client.connection_restored()
                    client.emit(events.Reconnected(str(server)))
                    return True
            if not self._pool:
                text = "; ".join(f"{url}: {_short(exc)}" for url, exc in errors.items())
                client.closed_by(NoServersError(f"no server could be reached again: {text}", errors))
                return False
            delay = min(options.reconnect_wait * 2 ** min(round_number, 30), options.reconnect_max_wait)
            zio.sleep(delay * (1 + options.reconnect_jitter * random.random()))
            round_number += 1

    def _refused_again(self, server: Server, error: BaseException) -> bool:
        """Whether the server has given the same authentication error twice in a row, and is to be dropped for it."""
        if not isinstance(error, AuthError) or isinstance(error, CredentialsError):
            return False
        before = self._refusals.get(server)
        self._refusals[server] = error.text
        return self._options.abort_on_auth_error and before == error.text

    # What the server says apart from messages.

    def _handle(self, event: protocol.Event) -> None:
        client = self._client
        if isinstance(event, protocol.Ping):
            client.outbound.control(protocol.PONG)
        elif isinstance(event, protocol.Pong):
            self._pings_unanswered = 0
            if self._pongs:
                waiter, mark = self._pongs.popleft()
                client.outbound.proved(mark)
                if waiter is not None:
                    waiter.wake()
        elif isinstance(event, protocol.Info):
            was_lame = self.info.ldm
            self.info = self.info.merged(event.fields)
            client.outbound.max_payload = self.info.max_payload
            if self.info.ldm and not was_lame:
                client.emit(events.LameDuck(str(self.server)))
        elif isinstance(event, protocol.Err):
            self._server_error(event.text)

    def _server_error(self, text: str) -> None:
        """Tell whom it is about. Whether the connection ends is the server's to decide: by ending the stream."""
        client = self._client
        info = protocol.classify(text)
        if info.kind in _PERMISSION_KINDS:
            error = PermissionDeniedError(info.text, info.subject)
            sub = None
            if info.kind in (ErrorKind.SUBSCRIPTION_PERMISSION, ErrorKind.TOO_MANY_TOKENS):
                sub = client.subscription_denied(info, error)
            else:
                client.requests.denied(info, error)
            client.emit(events.PermissionViolation(error, info.subject, sub))
            return
        problem = server_error(text)
        if info.closes or info.kind in AUTH_KINDS:
            self._last_error = problem
        client.emit(events.ServerError(problem))

    # Pings.

    def ping(self, waiter: Waiter | None) -> None:
        """Send a PING; ``waiter`` is woken by its PONG, or fails when the connection breaks first."""
        outbound = self._client.outbound
        self._pongs.append((waiter, outbound.mark()))
        outbound.control(protocol.PING)

    def check_liveness(self) -> None:
        """Once per ping interval: ping if nothing was heard, give up if too many pings are unanswered."""
        if self._heard:
            self._heard = False
            self._pings_unanswered = 0
        elif self._pings_unanswered >= self._options.max_outstanding_pings:
            self.lose(
                StaleConnectionError(
                    f"{self.server} has answered none of {self._pings_unanswered} pings, "
                    f"one each {self._options.ping_interval} s"
                )
            )
        else:
            self._pings_unanswered += 1
            self.ping(None)

    def lose(self, error: BaseException) -> None:
        """End the present connection because of ``error``, at once; the task finds its stream closed and reconnects."""
        if self.connection is not None:
            self._lost = error
            self._end_connection(error)

    def reconnect_anyway(self) -> None:
        """Drop the present connection and make another, also where reconnecting is switched off."""
        self._forced = True
        self.lose(DisconnectedError("reconnect forced by the user"))

    @property
    def urls(self) -> list[str]:
        """The pool, without secrets."""
        return sorted(map(str, self._pool))

    # The end.

    def stop(self) -> None:
        """End the session without waiting for it."""
        if self._task is not None:
            self._task.cancel()
        self._end_connection(None)

    def join(self) -> None:
        """Wait until the session's task has ended."""
        if self._task is not None and self._task is not here().task:
            zio.lowlevel.wait_done(self._task)


class _Liveness:
    """The ping timer of one connection: an entry in the loop's heap, no task."""

    sleeping = True  # for the timer heap: it fires at once

    def __init__(self, session: Session, interval: float) -> None:
        self._session: Session | None = session
        self._interval = interval
        self._timers = here().loop.timers
        self._clock = here().loop.clock
        self._deadline = 0.0
        self._arm()

    def _arm(self) -> None:
        self._deadline = self._clock.now() + self._interval
        self._timers.push(self._deadline, self)

    def alive(self, deadline: float) -> bool:
        return self._session is not None and deadline == self._deadline

    def expire(self) -> None:
        if self._session is not None:
            self._session.check_liveness()
        if self._session is not None:
            self._arm()

    def stop(self) -> None:
        if self._session is not None:
            self._session = None
            self._timers.ended_early()


def _short(exc: BaseException) -> str:
    return str(exc) or type(exc).__name__


def closed_error(cause: BaseException | None) -> ConnectionClosedError:
    """What calls on a closed client raise."""
    text = "the client is closed"
    return ConnectionClosedError(text if cause is None else f"{text}: {_short(cause)}")
