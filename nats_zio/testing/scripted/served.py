"""One client of the server: its connection, what it has sent, what it is sent."""

from __future__ import annotations

import json
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import zio
from zio.lowlevel import Waiter, here
from zio.testing import SimStream

from .commands import CommandReader, Violation
from .subjects import is_literal, is_valid

if TYPE_CHECKING:
    from zio.net import Stream

    from .commands import Command
    from .permissions import User
    from .server import ScriptedServer

TLS_TIMEOUT = 2.0  # seconds that a client has for the handshake

_RESERVED_REPLY = "_R_."


@dataclass(slots=True)
class ServedSubscription:
    """A subscription of a client; ``count`` messages were sent for it."""

    client: ServedClient
    sid: str
    subject: str
    queue: str | None
    max_msgs: int = 0
    count: int = 0


class ServedClient:
    """A client's connection, as the server sees it."""

    def __init__(self, server: ScriptedServer, stream: Stream, number: int) -> None:
        self.server = server
        self.stream = stream
        self.raw = stream  # beneath TLS and WebSocket
        self.id = number
        self.options: dict[str, Any] = {}  # of its CONNECT
        self.permissions = server.permissions
        self.subscriptions: dict[str, ServedSubscription] = {}
        self.commands: list[Command] = []  # that have come
        self.received = bytearray()  # the bytes, as they came
        self.greeted = False  # its first PONG was sent
        self.violation: str | None = None  # what it was told when it broke the protocol
        self.gone = False
        self.reading = zio.Event()  # cleared, nothing is read
        self.reading.set()
        self._known = server.users is None
        self._out: deque[bytes] = deque()
        self._pending = 0
        self._writer: Waiter | None = None
        self._ending = ""  # "half" or "whole": what to end when all is written
        self._left: int | None = None  # of bytes to send before the end
        self._active = False  # something came since the last look
        self._pings = 0
        self._pong_due = 0.0

    # What a test does to it.

    def send(self, data: bytes) -> None:
        """Queue any bytes for it. What is queued together goes out in one write."""
        if self.gone or self._ending:
            return
        self._out.append(data)
        self._pending += len(data)
        if self._pending > self.server.max_pending:
            self.abort()
        self._wake_writer()

    def error(self, text: str, *, close: bool = False) -> None:
        """Send ``-ERR 'text'``; with ``close`` the connection ends behind it."""
        self.send(f"-ERR '{text}'\r\n".encode("utf-8", "surrogateescape"))
        if close:
            self.close()

    def close(self) -> None:
        """Close the connection when what is queued has gone out."""
        self._ending = "whole"
        self._wake_writer()

    def close_after(self, count: int) -> None:
        """Send only ``count`` bytes more, in the middle of whatever they are in, and close the connection."""
        self._left = count
        self._wake_writer()

    def half_close(self) -> None:
        """End our side when what is queued has gone out; go on reading."""
        self._ending = "half"
        self._wake_writer()

    def abort(self) -> None:
        """End the connection at once: simulated ones are reset."""
        if not self.gone:
            if isinstance(self.raw, SimStream):
                self.raw.connection.reset()
            self._end()

    def look_at_rights(self) -> None:
        """The server has other users than before."""
        user = self._user()
        if user is None:
            self.close()
            return
        self.permissions = user.permissions
        for sub in list(self.subscriptions.values()):
            if not self.permissions.may_subscribe(sub.subject, sub.queue):
                del self.subscriptions[sub.sid]
                self.error(f"{_not_subscribable(sub.subject, sub.queue)} (sid {_quoted(sub.sid)})")
        self.server.changed()

    def _user(self) -> User | None:
        """Who it has logged in as; None if there is no such user, or with another password."""
        user = (self.server.users or {}).get(self.options.get("user", ""))
        return user if user is not None and user.password == self.options.get("pass") else None

    def info_line(self, **changes: Any) -> bytes:
        """INFO for this client."""
        fields = {**self.server.info_fields(self), **changes}
        return b"INFO " + json.dumps(fields, separators=(",", ":")).encode() + b" \r\n"

    # Tasks.

    def serve(self) -> None:
        """Greet, read, obey."""
        reader = CommandReader(self.server)
        try:
            self._greet()
            limit = self.server.max_connections
            if limit is not None and len(self.server.clients) > limit:
                self.error("maximum connections exceeded", close=True)
            while True:
                self.reading.wait()
                data = self.stream.recv(65536)
                if not data:
                    break
                self.received += data
                self._active = True
                for command in reader.feed(data):
                    self.commands.append(command)
                    if self._ending == "whole" or self.gone:
                        return
                    hook = self.server.on_command
                    if hook is None or hook(self, command) is not True:
                        self._obey(command)
        except Violation as exc:
            self.violation = str(exc)
            if self.violation:
                self.error(str(exc))
            self.close()
            return
        except (OSError, zio.Closed):
            pass
        self._end()

    def _greet(self) -> None:
        server = self.server
        if server.websocket:
            from .websocket import accept_websocket

            self.stream = accept_websocket(self.stream)
        greeting = self.info_line() if server.greeting is None else server.greeting
        if server.tls is not None:
            if not server.tls_first:
                self.stream.send_all(greeting)
            with zio.timeout(TLS_TIMEOUT):
                self.stream = self.stream.start_tls(server.tls)
            if not server.tls_first:
                return
        self.send(greeting)

    def write(self) -> None:
        """Write what is queued."""
        try:
            while not self.gone:
                if self._left == 0:
                    self._end()
                elif self._out:
                    data = b"".join(self._out)
                    self._out.clear()
                    self._write(data)
                    self._pending -= len(data)
                elif self._ending:
                    if self._ending == "whole":
                        self._end()
                    else:
                        self.stream.shutdown_write()
                    return
                else:
                    self._writer = waiter = Waiter(here(), "something to send")
                    try:
                        waiter.fiber.loop.wait(waiter, None, lambda _waiter: None)
                    finally:
                        self._writer = None
        except (OSError, zio.Closed):
            self._end()

    def _write(self, data: bytes) -> None:
        """Write it, whole or in pieces. Who takes none for too long is cut off without a word."""
        server, stream = self.server, self.stream
        start = 0
        while start < len(data) and self._left != 0:
            if start:
                zio.sleep(1e-6)  # so that it arrives by itself
            piece = data[start : start + (server.split or len(data))][: self._left]
            with zio.move_on_after(server.write_deadline) as scope:
                stream.send_all(piece)
            if scope.expired:
                self.abort()
                return
            start += len(piece)
            if self._left is not None:  # it may have been set to less meanwhile
                self._left = max(self._left - len(piece), 0)

    def watch(self) -> None:
        """Ping the client when it is silent, and end the connection when it does not answer."""
        while not self.gone:
            zio.sleep(self.server.ping_interval)
            if self._active:
                self._active = False
            elif self._pings >= self.server.max_pings:
                self.error("Stale Connection", close=True)
                return
            else:
                self._pings += 1
                self.send(b"PING\r\n")

    def _wake_writer(self) -> None:
        if self._writer is not None:
            self._writer.wake()

    def _end(self) -> None:
        if not self.gone:
            self.gone = True
            self.subscriptions.clear()
            self.server.clients.remove(self)
            self.server.changed()
            self.stream.close()
            self._wake_writer()

    # Commands.

    def _obey(self, command: Command) -> None:
        verb, args = command.verb, command.args
        if not self._known and verb != "CONNECT":
            raise Violation("Authorization Violation")
        if verb == "PING":
            self._ping()
        elif verb == "PONG":
            self._pings = 0
        elif verb == "CONNECT":
            self._connect(args[0])
        elif verb == "SUB":
            self._subscribe(args[0], args[1] if len(args) == 3 else None, args[-1])
        elif verb == "UNSUB":
            self._unsubscribe(args[0], int(args[1]) if len(args) == 2 else 0)
            self._ok()
        else:
            self._publish(args[0], args[1] if len(args) == 2 else None, command)

    def _ok(self) -> None:
        if self.options.get("verbose", True):
            self.send(b"+OK\r\n")

    def _ping(self) -> None:
        pong = self.server.pong
        if pong == "drop":
            return
        now = zio.now()
        self._pong_due = due = max(self._pong_due, now if isinstance(pong, str) else now + pong)
        if due > now:  # also behind others that are late
            self.server.later(due - now, self._answer_ping)
        else:
            self._answer_ping()

    def _answer_ping(self) -> None:
        answer = b"PONG\r\n"
        if not self.greeted:
            self.greeted = True
            if self.server.second_info and self.options.get("protocol", 0) >= 1:
                answer += self.info_line()
            answer += self.server.after_pong
        self.send(answer)

    def _connect(self, text: str) -> None:
        try:
            options = json.loads(text)
        except ValueError:
            raise Violation from None
        if not isinstance(options, dict):
            raise Violation
        self.options = options
        if self.server.users is not None:
            user = self._user()
            if user is None:
                raise Violation("Authorization Violation")
            self.permissions = user.permissions
            self._known = True
        if options.get("protocol", 0) not in (0, 1):
            raise Violation("invalid client protocol")
        if options.get("no_responders") and not options.get("headers"):
            raise Violation("no responders requires headers support")
        self._ok()

    def _subscribe(self, subject: str, queue: str | None, sid: str) -> None:
        if not is_valid(subject):
            self.error("Invalid Subject")
            return
        if not self.permissions.may_subscribe(subject, queue):
            self.error(_not_subscribable(subject, queue))
            return
        limit = self.server.max_subscriptions
        if limit is not None and len(self.subscriptions) >= limit:
            self.error("maximum subscriptions exceeded")
            return
        if sid not in self.subscriptions:
            self.subscriptions[sid] = ServedSubscription(self, sid, subject, queue)
            self.server.changed()
        self._ok()

    def _unsubscribe(self, sid: str, max_msgs: int) -> None:
        sub = self.subscriptions.get(sid)
        if sub is None:
            return
        if max_msgs > sub.count:
            sub.max_msgs = max_msgs
        else:
            del self.subscriptions[sid]
            self.server.changed()

    def _publish(self, subject: str, reply: str | None, command: Command) -> None:
        if not self.permissions.may_publish(subject):
            self.error(f"Permissions Violation for Publish to {_quoted(subject)}")
            return
        if reply is not None and reply.startswith(_RESERVED_REPLY):
            self.error(f"Permissions Violation for Publish with Reply of {_quoted(reply)}")
            return
        if self.options.get("pedantic", True) and not (is_valid(subject) and is_literal(subject)):
            self.error("Invalid Publish Subject")
        self._ok()
        groups: dict[str, list[ServedSubscription]] = {}
        heard = False
        for sub in self.server.route(subject):
            if sub.client is self and not self.options.get("echo", True):
                continue
            if sub.queue is None:
                heard = sub.client.deliver(sub, subject, reply, command.headers, command.data) or heard
            else:
                groups.setdefault(sub.queue, []).append(sub)
        for members in groups.values():
            chosen = self.server.random.choice(members)
            heard = chosen.client.deliver(chosen, subject, reply, command.headers, command.data) or heard
        if not heard and reply is not None and self.options.get("no_responders"):
            status = f"NATS/1.0 503\r\nNats-Subject: {subject}\r\n\r\n".encode("utf-8", "surrogateescape")
            for sub in self.server.route(reply):
                if sub.client is self:
                    self.deliver(sub, reply, None, status, b"")
                    return

    def deliver(self, sub: ServedSubscription, subject: str, reply: str | None, headers: bytes, data: bytes) -> bool:
        """Send a message for a subscription; False if it takes none."""
        if self.gone or sub.sid not in self.subscriptions or not self.permissions.may_receive(subject):
            return False
        sub.count += 1
        target = f"{subject} {sub.sid}" + (f" {reply}" if reply is not None else "")
        if headers and self.options.get("headers"):
            line = f"HMSG {target} {len(headers)} {len(headers) + len(data)}\r\n"
        else:
            headers = b""
            line = f"MSG {target} {len(data)}\r\n"
        self.send(line.encode("utf-8", "surrogateescape") + headers + data + b"\r\n")
        if sub.max_msgs and sub.count >= sub.max_msgs:
            self._unsubscribe(sub.sid, 0)
        return True

    def __repr__(self) -> str:
        return f"<ServedClient {self.id}{' gone' if self.gone else ''}>"


def _not_subscribable(subject: str, queue: str | None) -> str:
    group = f" using queue {_quoted(queue)}" if queue else ""
    return f"Permissions Violation for Subscription to {_quoted(subject)}{group}"


def _quoted(text: str) -> str:
    """As the server writes names in its errors."""
    return json.dumps(text, ensure_ascii=False)
