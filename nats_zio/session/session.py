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

from .. import events, protocol
from ..errors import (
    AuthError,
    ConnectionClosedError,
    DisconnectedError,
    NoServersError,
    OptionError,
    PermissionDeniedError,
    ProtocolError,
    ServerError,
    StaleConnectionError,
    TLSRequiredError,
)
from ..message import ReceivedMessage
from ..protocol import ErrorKind, Parser, ServerInfo, plain
from ..servers import advertised
from . import lame_duck
from .backoff import Backoff
from .careful import OF_A_LINE, CarefulReplay
from .connection import AUTH_KINDS, READ_SIZE, open_connection, server_error
from .liveness import Liveness
from .pool import ServerPool
from .proof import Proof

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ..core import Core
    from ..protocol import ServerErrorInfo
    from ..servers import Server
    from ..subscriptions.subscription import Subscription
    from .connection import Connection
    from .judging import GivenUp
    from .outbound import Mark
    from .pool import Entry

MAX_READ = 512 << 10
ODD_PAUSE = 0.1  # seconds after an error that nobody has thought of

_PERMISSION_KINDS = frozenset(
    {
        ErrorKind.PUBLISH_PERMISSION,
        ErrorKind.REPLY_PERMISSION,
        ErrorKind.SUBSCRIPTION_PERMISSION,
        ErrorKind.TOO_MANY_TOKENS,
    }
)
_SUBSCRIPTION_KINDS = frozenset({ErrorKind.MAX_SUBSCRIPTIONS, ErrorKind.INVALID_SUBJECT})


class Session:
    """Keeps a client connected. All of it runs in the client's home loop."""

    def __init__(self, core: Core, servers: list[Server]) -> None:
        options = core.options
        random = core.runtime.random
        self._core = core
        self._options = options
        self.pool = ServerPool(
            servers,
            attempts=options.max_reconnect_attempts,
            abort_on_auth_error=options.abort_on_auth_error,
            shuffle=None if options.no_randomize else random,
        )
        self._backoff = Backoff(
            options.reconnect_wait,
            options.reconnect_max_wait,
            options.reconnect_jitter,
            self._asked_delay if options.reconnect_delay is not None else None,
            random,
        )
        self._next_server = core.user_call("next_server", options.next_server)
        self._reconnect_delay = core.user_call("reconnect_delay", options.reconnect_delay)
        self.connection: Connection | None = None
        self.server: Server | None = None
        self.info = ServerInfo()
        self.received_msgs = 0  # of connections that have ended
        self.received_bytes = 0
        self.reconnects = 0
        self.ever_connected = False
        self._connected_at = 0.0
        self._task: zio.Task[None] | None = None
        self._lost: BaseException | None = None  # why the present connection ends
        self._last_error: ServerError | None = None
        self._pongs: deque[tuple[Waiter | None, Mark, int]] = deque()
        self._liveness: Liveness | None = None
        self._proof: Proof | None = None
        self._leaving: zio.Task[None] | None = None  # a server in lame duck mode
        self._forced = False
        self._hurry = zio.Event()  # set: no more waiting before the next attempt
        self._pinging = False  # a PING and its place in the order of PONGs are being put down
        self._careful = CarefulReplay()
        self._was_proved = False  # the server has answered a PING behind the subscriptions

    # Connecting.

    def start(self) -> None:
        """Connect for the first time, in the caller's task; then a task of its own serves the session.

        If no server takes us: AuthError or TLSRequiredError of an only server, else NoServersError; with
        ``retry_on_failed_connect`` the session's task goes on trying.
        """
        errors: dict[str, BaseException] = {}
        for entry in self.pool.round():
            try:
                connection = self._open(entry)
            except Exception as exc:
                errors[str(entry.server)] = exc
                if self._options.retry_on_failed_connect:
                    self._core.emit(events.ReconnectFailed(str(entry.server), exc))
                    self.pool.failed(entry, exc, self._core.loop.clock.now())
                elif len(self.pool) == 1 and isinstance(exc, (AuthError, TLSRequiredError)):
                    raise
            else:
                self._begin(connection, entry)
                break
        else:
            if not self._options.retry_on_failed_connect or not self.pool:
                raise NoServersError(f"no server could be reached: {_listed(errors)}", errors) from _first(errors)
        self._task = here().loop.spawn_system(self._serve, name=f"nats session {self._options.name or ''}".strip())

    def _open(self, entry: Entry) -> Connection:
        core = self._core
        return open_connection(
            entry.server,
            self._options,
            lambda: Parser(ReceivedMessage, core),
            core.user_functions,
            encrypted=entry.encrypted,
        )

    def _begin(self, connection: Connection, entry: Entry) -> None:
        """The connection is usable: subscriptions and kept messages go first. No task switch in here."""
        core = self._core
        first = not self.ever_connected
        self.ever_connected = True
        self._connected_at = core.loop.clock.now()
        self.connection, self.server, self.info = connection, connection.server, connection.info
        self._lost = self._last_error = None
        self._forced = self._was_proved = False
        self.pool.succeeded(entry, encrypted=connection.encrypted)
        self._give_up(core.outbound.judge(connection.info))
        pieces = self._careful.first_piece(list(core.table.entries.values()))
        core.outbound.connected(connection.stream, connection.info.max_payload, core.table.replay(pieces))
        core.outbound.flush()
        self._liveness = Liveness(
            self._options.ping_interval, self._options.max_outstanding_pings, lambda: self.ping(None), self._stale
        )
        self._proof = Proof(core.outbound, lambda: bool(self._pongs), lambda: self.ping(None))
        core.connection_made()
        if self._careful.active:
            self.ping(None)
        url = str(connection.server)
        if first:
            core.emit(events.Connected(url))
        else:
            self.reconnects += 1
            core.emit(events.Reconnected(url))
        self._look_at_info(was_lame=False)
        pending, connection.events = connection.events, []
        for event in pending:
            if isinstance(event, protocol.Err):
                self._server_error(event.text, before_all=True)
            else:
                self._handle(event)

    # The task.

    def _serve(self) -> None:
        core = self._core
        try:
            while True:
                if self.ever_connected:
                    error = self._read()
                    try:
                        self._end_connection(error)
                    except Exception as exc:  # odd, and no reason to end; it is half done
                        self.connection = None
                        core.option_failed("the end of a connection", exc)
                    if core.closing:
                        return
                    if not (self._options.allow_reconnect or self._forced):
                        core.closed_by(error)
                        return
                try:
                    if not self._reconnect():
                        return
                except Exception as exc:  # odd, and no reason to end: what a signal handler has raised here, say
                    self.lose(exc)
                    self._pause(ODD_PAUSE)
        except BaseException as exc:
            if isinstance(exc, zio.Cancelled) and here().cancelled:
                self._end_connection(None)
            else:  # never to be a client without a session, that would wait for ever
                self._end_connection(exc)
                core.closed_by(exc)
            raise

    def _read(self) -> BaseException:
        """Read and hand out until the connection ends; why it did."""
        connection, core, liveness = self.connection, self._core, self._liveness
        if connection is None or liveness is None:  # lost before this task had its turn
            return self._lost or DisconnectedError("the connection was lost")
        recv, feed = connection.stream.recv, connection.parser.feed
        subs, gate = core.subscriptions, core.gate
        parser = connection.parser
        size = READ_SIZE
        try:
            while True:
                data = recv(size)
                if not data:
                    return self._lost or self._last_error or ConnectionResetError("the server closed the connection")
                liveness.heard = True
                groups, control = feed(data)
                bound = parser.last_bytes
                for sid, messages in groups.items():
                    sub = subs.get(sid)
                    if sub is not None:
                        sub.deliver(messages, bound)
                sub = None  # or this frame would hold it until something comes again
                for event in control:
                    self._handle(event)
                if gate.shut:
                    gate.pass_through(liveness, lambda: self.connection is connection)
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
        except Exception as exc:  # of the stream; or an odd one: no memory for a large message, say
            return self._lost or self._last_error or exc

    def _end_connection(self, error: BaseException | None) -> None:
        """Let go of the connection, settle what hung on it."""
        connection = self.connection
        if connection is None:
            return
        self.connection = None
        try:
            self._let_go(connection, error)
        except BaseException:  # struck in the middle
            connection.stream.close()
            raise

    def _let_go(self, connection: Connection, error: BaseException | None) -> None:
        core = self._core
        self.received_msgs += connection.parser.messages
        self.received_bytes += connection.parser.payload_bytes
        if self._liveness is not None:
            self._liveness.stop()
            self._liveness = None
        if self._proof is not None:
            self._proof.stop()
            self._proof = None
        if self._leaving is not None:
            self._leaving.cancel()
            self._leaving = None
        connection.stream.close()
        core.gate.look_again()
        self._look_whose_line(error)
        msgs, size = core.outbound.disconnected(proved=self._was_proved)
        pongs, self._pongs = self._pongs, deque()
        for waiter, *_ in pongs:
            if waiter is not None:
                waiter.fail(
                    closed_error(None)
                    if core.closing
                    else DisconnectedError("the connection broke before the server had confirmed")
                )
        if not core.closing:  # else the client itself tells those who wait
            core.requests.disconnected(core.outbound.kept_lines())
            core.connection_lost()
            core.emit(events.Disconnected(error, msgs, size))

    def _reconnect(self) -> bool:
        """Try the servers until one takes us; False if all are used up and the client is closed."""
        pool = self.pool
        errors: dict[str, BaseException] = {}
        self._hurry.clear()
        if not self.ever_connected:
            self._pause(self._backoff.next())  # after the round in ``start``
        elif self._forced:
            self._backoff.forced()
        else:
            self._pause(self._backoff.after_loss(self._core.loop.clock.now() - self._connected_at))
        while True:
            pool.drop_used_up()
            paused = False
            for due in pool.round():
                entry, delay = self._choose(due)
                if delay:
                    self._pause(delay)
                    paused = True
                if entry not in pool:  # replaced meanwhile
                    continue
                url = str(entry.server)
                try:
                    connection = self._open(entry)
                except Exception as exc:
                    errors[url] = exc
                    pool.failed(entry, exc, self._core.loop.clock.now())
                    self._core.emit(events.ReconnectFailed(url, exc))
                else:
                    self._begin(connection, entry)
                    return True
            if not pool:
                self._core.closed_by(NoServersError(f"no server could be reached: {_listed(errors)}", errors))
                return False
            if not paused:
                self._pause(self._backoff.next())

    def _choose(self, due: Entry) -> tuple[Entry, float]:
        """The server to try now and how long to wait before: the one whose turn it is, or what ``next_server`` says."""
        if self._next_server is None:
            return due, 0.0
        answer = self._next_server(self.pool.urls, self.info)
        if answer is None:
            return due, 0.0
        try:
            url, delay = (answer, 0.0) if isinstance(answer, str) else answer
            chosen = due if url is None else self.pool.find(plain(url) if isinstance(url, str) else str(url))
            return chosen, max(float(delay or 0.0), 0.0)
        except (TypeError, ValueError) as exc:
            problem = OptionError(f"next_server= must return a URL of the pool and seconds, or None: {exc}")
            self._core.option_failed("next_server", problem)
            return due, 0.0

    def _asked_delay(self, rounds: int) -> float | None:
        """What ``reconnect_delay`` says; None if that is nothing to go by."""
        assert self._reconnect_delay is not None
        answer = self._reconnect_delay(rounds)
        if answer is None:  # it raised, or has no opinion
            return None
        if not isinstance(answer, (int, float)) or not answer >= 0:
            problem = OptionError(f"reconnect_delay= must return a number of seconds from 0 up, not {answer!r}")
            self._core.option_failed("reconnect_delay", problem)
            return None
        return float(answer)

    def _pause(self, seconds: float) -> None:
        """Wait before an attempt, unless somebody is in a hurry."""
        if seconds > 0:
            self._hurry.wait(timeout=seconds)
            self._hurry.clear()

    # What the server says apart from messages.

    def _handle(self, event: protocol.Event) -> None:
        core = self._core
        if isinstance(event, protocol.Ping):
            core.outbound.control(protocol.PONG)
        elif isinstance(event, protocol.Pong):
            # One that comes before its PING was written was not asked for.
            if self._pongs and core.outbound.answered(self._pongs[0][1]):
                waiter, mark, subs_mark = self._pongs.popleft()
                core.outbound.proved(mark)
                self._was_proved = True
                core.table.unconfirmed.proved(subs_mark)
                if not self._pongs:
                    self._go_on_with_care()
                if waiter is not None:
                    waiter.wake()
        elif isinstance(event, protocol.Info):
            was_lame = self.info.ldm
            self.info = self.info.merged(event.fields)
            core.outbound.limit_payload(self.info.max_payload)
            self._look_at_info(was_lame)
        elif isinstance(event, protocol.Err):
            self._server_error(event.text)

    def _give_up(self, messages: list[GivenUp]) -> None:
        for subject, size, error in messages:
            self._core.emit(events.MessageGivenUp(subject, size, error))

    def _go_on_with_care(self) -> None:
        """The server has taken all that was sent so far."""
        core = self._core
        piece = self._careful.proved(list(core.table.entries.values()))
        if piece:
            core.table.send_again(piece)
            self.ping(None)

    def _look_whose_line(self, error: BaseException | None) -> None:
        """A connection has ended; if it was because of a line of ours, and nothing was proved, it may be so again."""
        core = self._core
        if (
            not isinstance(error, ServerError)
            or protocol.classify(error.text).kind not in OF_A_LINE
            or self._was_proved
        ):
            return
        sid = self._careful.broke(list(core.table.entries))
        if sid is not None:
            sub = core.table.give_up(sid, error)
            core.emit(events.ServerError(error, sub))

    def _look_at_info(self, was_lame: bool) -> None:
        """What INFO says about the cluster, and about the end of this server."""
        connection, info, core = self.connection, self.info, self._core
        assert connection is not None
        if connection.websocket is not None:
            connection.websocket.fit(info.max_payload)
        if not self._options.ignore_discovered_servers:
            addresses = advertised(info, connection.server)
            new = self.pool.discover(addresses, connection.server, encrypted=connection.encrypted)
            if new:
                core.emit(events.ServersDiscovered(new))
        if info.ldm and not was_lame:
            core.emit(events.LameDuck(str(connection.server)))
            if len(self.pool) > 1 and self._options.allow_reconnect:
                self._leaving = here().loop.spawn_system(lame_duck.leave, core, self, name="nats lame duck")

    def _server_error(self, text: str, *, before_all: bool = False) -> None:
        """Tell whom it is about. Whether the connection ends is the server's to decide: by ending the stream.

        ``before_all``: it was said before we had sent anything on this connection, so it is about nothing of ours.
        """
        core = self._core
        info = protocol.classify(text)
        if info.kind in _PERMISSION_KINDS:
            error = PermissionDeniedError(info.text, info.subject)
            sub = None
            if info.kind in (ErrorKind.SUBSCRIPTION_PERMISSION, ErrorKind.TOO_MANY_TOKENS):
                sub = None if before_all else self._subscription_refused(info, error)
            elif not before_all:
                core.requests.denied(info, error)
            core.emit(events.PermissionViolation(error, info.subject, sub))
            return
        problem = server_error(text)
        if info.closes or info.kind in AUTH_KINDS:
            self._last_error = problem
        about_sub = info.kind in _SUBSCRIPTION_KINDS and not before_all
        sub = self._subscription_refused(info, problem) if about_sub else None
        core.emit(events.ServerError(problem, sub))

    def _subscription_refused(self, info: ServerErrorInfo, error: ServerError) -> Subscription | None:
        first_unanswered = self._pongs[0][2] if self._pongs else None
        return self._core.table.refused(info, error, first_unanswered)

    # Pings.

    def heard(self) -> None:
        """Something has come over the present connection, and was read by someone else."""
        if self._liveness is not None:
            self._liveness.heard = True

    def ping(self, waiter: Waiter | None) -> None:
        """Send a PING; ``waiter`` is woken by its PONG, or fails when the connection breaks first."""
        if self._pinging:
            raise zio.BlockingNotAllowed("a PING is being sent: what a signal handler calls in the middle cannot wait")
        outbound = self._core.outbound
        entry = waiter, outbound.mark(), self._core.table.unconfirmed.mark()
        if self._core.gate.shut:
            self._core.gate.look_again()
        before = outbound.controls
        try:
            self._pinging = True
            self._pongs.append(entry)
            outbound.control(protocol.PING)
        except BaseException:
            if outbound.controls == before and self._pongs and self._pongs[-1] is entry:
                self._pongs.pop()  # struck before the PING was queued: no PONG will come for it
            raise
        finally:
            self._pinging = False

    @property
    def awaits_pong(self) -> bool:
        """Whether somebody waits for a PONG."""
        return any(waiter is not None and not waiter.state for waiter, *_ in self._pongs)

    def _stale(self, pings: int) -> None:
        self.lose(
            StaleConnectionError(
                f"{self.server} has answered none of {pings} pings, one each {self._options.ping_interval} s"
            )
        )

    def lose(self, error: BaseException) -> None:
        """End the present connection because of ``error``, at once; the task finds its stream closed and reconnects."""
        if self.connection is not None:
            self._lost = error
            self._end_connection(error)

    def reconnect_anyway(self) -> None:
        """Drop the present connection and make another, also where reconnecting is switched off; at once."""
        self._forced = True
        self._hurry.set()
        self.lose(DisconnectedError("reconnect forced by the user"))

    def set_servers(self, servers: Iterable[Server]) -> None:
        """Replace the pool. A connection to a server that is no longer in it goes on."""
        self.pool.replace(servers)
        self._hurry.set()

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


def _short(exc: BaseException) -> str:
    return str(exc) or type(exc).__name__


def _listed(errors: dict[str, BaseException]) -> str:
    return "; ".join(f"{url}: {_short(exc)}" for url, exc in errors.items())


def _first(errors: dict[str, BaseException]) -> BaseException | None:
    return next(iter(errors.values()), None)


def closed_error(cause: BaseException | None) -> ConnectionClosedError:
    """What calls on a closed client raise."""
    text = "the client is closed"
    error = ConnectionClosedError(text if cause is None else f"{text}: {_short(cause)}")
    error.__cause__ = cause
    return error
