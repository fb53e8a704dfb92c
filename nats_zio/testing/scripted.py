"""A small NATS server that does what it is told: for tests of what a real one does seldom or never.

It serves clients properly (subscriptions with queue groups and limits, headers, no responders, verbose, permissions)
until a test tells it otherwise: any bytes, any error, writes split at every byte, PONGs held back, the end of a
connection at any moment. It runs as tasks of the runtime it is made in, on whatever network that has.

It reads commands by itself, not with the parser and the rules of the client: the same mistake must not be made twice.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple, Self

import zio
from zio.lowlevel import Waiter, here, wait_done
from zio.testing import SimStream

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from zio.net import Stream

VERSION = "2.15.1"  # of the server whose ways it has

_VERBS = (b"CONNECT", b"PING", b"PONG", b"SUB", b"UNSUB", b"PUB", b"HPUB")
_RESERVED_REPLY = "_R_."


class Command(NamedTuple):
    """What a client has sent. ``headers`` is the raw block of an HPUB."""

    verb: str
    args: list[str]
    data: bytes = b""
    headers: bytes = b""


@dataclass(frozen=True, slots=True)
class Permissions:
    """What a client may do; None allows everything. A subscription's entry may name a queue: ``"work.* team"``."""

    publish_allow: Sequence[str] | None = None
    publish_deny: Sequence[str] = ()
    subscribe_allow: Sequence[str] | None = None
    subscribe_deny: Sequence[str] = ()

    def may_publish(self, subject: str) -> bool:
        allow = self.publish_allow
        allowed = allow is None or any(covers(pattern, subject) for pattern in allow)
        return allowed and not any(covers(pattern, subject) for pattern in self.publish_deny)

    def may_subscribe(self, subject: str, queue: str | None) -> bool:
        def concerns(entry: str) -> bool:
            pattern, _, group = entry.partition(" ")
            return covers(pattern, subject) and (not group or group == queue)

        allow = self.subscribe_allow
        return (allow is None or any(map(concerns, allow))) and not any(map(concerns, self.subscribe_deny))

    def may_receive(self, subject: str) -> bool:
        return not any(" " not in pattern and covers(pattern, subject) for pattern in self.subscribe_deny)


@dataclass(frozen=True, slots=True)
class User:
    """Who may log in."""

    password: str
    permissions: Permissions = field(default_factory=Permissions)


class Violation(Exception):
    """The client has broken the protocol: what it is told (nothing, if empty) before the connection ends."""


@dataclass(slots=True)
class _Subscription:
    client: ServedClient
    sid: str
    subject: str
    queue: str | None
    max_msgs: int = 0
    count: int = 0


class ScriptedServer:
    """The server: ``with ScriptedServer() as server: nats_zio.connect(server.url)``. Only inside a zio runtime.

    ``host`` and ``port`` are where it listens (port 0: a free one). ``users`` are names with passwords and rights;
    without, everybody may come, with ``permissions``. Further keyword arguments are fields of its INFO.

    To be set at any time, by a test:

    * ``greeting``: bytes to send in place of the first INFO.
    * ``on_command(client, command)`` sees every command first; if it returns True, nothing else is done with it.
    * ``pong``: "send", "drop", or seconds to wait before each PONG.
    * ``after_pong``: bytes glued to the first PONG of a connection, in the same write.
    * ``split``: the most bytes that go out in one write, each in a segment of its own.
    * ``second_info``: whether the INFO of a client's own comes behind its first PONG, as from real servers.
    """

    def __init__(
        self,
        host: str = "127.0.0.1",
        port: int = 0,
        *,
        name: str = "scripted",
        max_payload: int = 1 << 20,
        max_control_line: int = 4096,
        max_subscriptions: int | None = None,
        max_pending: int = 64 << 20,
        ping_interval: float = 120.0,
        max_pings: int = 2,
        users: dict[str, User] | None = None,
        permissions: Permissions | None = None,
        **info: Any,
    ) -> None:
        self.host = host
        self.port = port
        self.max_payload = max_payload
        self.max_control_line = max_control_line
        self.max_subscriptions = max_subscriptions
        self.max_pending = max_pending
        self.ping_interval = ping_interval
        self.max_pings = max_pings
        self.users = users
        self.permissions = permissions or Permissions()
        self.greeting: bytes | None = None
        self.on_command: Callable[[ServedClient, Command], object] | None = None
        self.pong: str | float = "send"
        self.after_pong = b""
        self.split: int | None = None
        self.second_info = True
        self.clients: list[ServedClient] = []  # that are connected, in order of their coming
        self.all_clients: list[ServedClient] = []  # those that have gone too
        self.random = here().loop.runtime.random
        self._name = name
        self._info = info
        self._id = "".join(self.random.choices("ABCDEFGHIJKLMNOPQRSTUVWXYZ234567", k=56))
        self._listener: Any = None
        self._tasks: dict[zio.Task[None], None] = {}
        self._routes: dict[str, list[_Subscription]] = {}  # who gets what, until somebody comes or goes
        self._numbers = 0

    @property
    def url(self) -> str:
        return f"nats://{self.host}:{self.port}"

    def start(self) -> Self:
        """Listen; again after ``stop``, on the same port."""
        self._listener = zio.net.listen(self.host, self.port)
        self.port = self._listener.port
        self._spawn(self._accept, self._listener)
        return self

    def stop(self) -> None:
        """Close the listener and all connections, as a server does that is told to end."""
        if self._listener is not None:
            self._listener.close()
            self._listener = None
        for client in list(self.clients):
            client.close()

    def kill(self) -> None:
        """Stop without sending what is queued; simulated connections are reset."""
        if self._listener is not None:
            self._listener.close()
            self._listener = None
        for client in list(self.clients):
            client.abort()

    def close(self) -> None:
        """Stop for good, and wait until its tasks have ended."""
        self.kill()
        with zio.shield():
            for task in list(self._tasks):
                task.cancel()
                wait_done(task)

    # Misbehaviour towards all clients.

    def send(self, data: bytes) -> None:
        """Send these bytes to all clients."""
        for client in list(self.clients):
            client.send(data)

    def error(self, text: str, *, close: bool = False) -> None:
        """Send ``-ERR 'text'`` to all clients."""
        for client in list(self.clients):
            client.error(text, close=close)

    def info(self, **changes: Any) -> None:
        """Change fields of INFO and tell all clients."""
        self._info.update(changes)
        for client in list(self.clients):
            client.send(client.info_line())

    def lame_duck(self) -> None:
        """Announce the end, as servers do some time before it."""
        self.info(ldm=True)

    # What a client is told.

    def info_fields(self, client: ServedClient) -> dict[str, Any]:
        """The fields of INFO for a client."""
        fields: dict[str, Any] = {
            "server_id": self._id,
            "server_name": self._name,
            "version": VERSION,
            "proto": 1,
            "go": "none",
            "host": self.host,
            "port": self.port,
            "headers": True,
        }
        if self.users is not None:
            fields["auth_required"] = True
        fields |= {"max_payload": self.max_payload, "client_id": client.id, "client_ip": "127.0.0.1"}
        if client.greeted:
            fields |= {"connect_info": True, "remote_account": "$G"}
        return {**fields, "api_lvl": 5, **self._info}

    # Routing.

    def route(self, subject: str) -> list[_Subscription]:
        """The subscriptions that match, in the server's order: full wildcards, partial ones, literal ones."""
        found = self._routes.get(subject)
        if found is None:
            found = [
                sub for client in self.clients for sub in client.subscriptions.values() if matches(sub.subject, subject)
            ]
            found.sort(key=lambda sub: _order(sub.subject))
            self._routes[subject] = found
        return found

    def changed(self) -> None:
        """Somebody has subscribed or unsubscribed, come or gone."""
        self._routes.clear()

    # Tasks.

    def _accept(self, listener: Any) -> None:
        for stream in listener:
            self._numbers += 1
            client = ServedClient(self, stream, self._numbers)
            self.clients.append(client)
            self.all_clients.append(client)
            self._spawn(client.serve)
            self._spawn(client.write)
            self._spawn(client.watch)

    def _spawn(self, fn: Callable[..., None], *args: Any) -> None:
        task = here().loop.spawn_system(fn, *args, name=f"scripted server {fn.__name__}")
        self._tasks[task] = None
        if len(self._tasks) > 100:
            self._tasks = {task: None for task in self._tasks if not task.done}

    def later(self, seconds: float, call: Callable[[], object]) -> None:
        """Call it after a while."""

        def run() -> None:
            zio.sleep(seconds)
            call()

        self._spawn(run)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<ScriptedServer {self.url} with {len(self.clients)} clients>"


class ServedClient:
    """A client's connection, as the server sees it."""

    def __init__(self, server: ScriptedServer, stream: Stream, number: int) -> None:
        self.server = server
        self.stream = stream
        self.id = number
        self.options: dict[str, Any] = {}  # of its CONNECT
        self.permissions = server.permissions
        self.subscriptions: dict[str, _Subscription] = {}
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

    def half_close(self) -> None:
        """End our side when what is queued has gone out; go on reading."""
        self._ending = "half"
        self._wake_writer()

    def abort(self) -> None:
        """End the connection at once: simulated ones are reset."""
        if not self.gone:
            if isinstance(self.stream, SimStream):
                self.stream.connection.reset()
            self._end()

    def info_line(self, **changes: Any) -> bytes:
        """INFO for this client."""
        fields = {**self.server.info_fields(self), **changes}
        return b"INFO " + json.dumps(fields, separators=(",", ":")).encode() + b" \r\n"

    # Tasks.

    def serve(self) -> None:
        """Greet, read, obey."""
        greeting = self.server.greeting
        self.send(self.info_line() if greeting is None else greeting)
        reader = _CommandReader(self.server)
        try:
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

    def write(self) -> None:
        """Write what is queued."""
        stream = self.stream
        try:
            while not self.gone:
                if self._out:
                    data = b"".join(self._out)
                    self._out.clear()
                    size = self.server.split or len(data)
                    for start in range(0, len(data), size):
                        if start:
                            zio.sleep(1e-6)  # so that it arrives by itself
                        stream.send_all(data[start : start + size])
                    self._pending -= len(data)
                elif self._ending:
                    if self._ending == "whole":
                        self._end()
                    else:
                        stream.shutdown_write()
                    return
                else:
                    self._writer = waiter = Waiter(here(), "something to send")
                    try:
                        waiter.fiber.loop.wait(waiter, None, lambda _waiter: None)
                    finally:
                        self._writer = None
        except (OSError, zio.Closed):
            self._end()

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
        users = self.server.users
        if users is not None:
            user = users.get(options.get("user", ""))
            if user is None or user.password != options.get("pass"):
                raise Violation("Authorization Violation")
            self.permissions = user.permissions
            self._known = True
        if options.get("protocol", 0) not in (0, 1):
            raise Violation("invalid client protocol")
        if options.get("no_responders") and not options.get("headers"):
            raise Violation("no responders requires headers support")
        self._ok()

    def _subscribe(self, subject: str, queue: str | None, sid: str) -> None:
        if not _is_valid(subject):
            self.error("Invalid Subject")
            return
        if not self.permissions.may_subscribe(subject, queue):
            group = f" using queue {_quoted(queue)}" if queue else ""
            self.error(f"Permissions Violation for Subscription to {_quoted(subject)}{group}")
            return
        limit = self.server.max_subscriptions
        if limit is not None and len(self.subscriptions) >= limit:
            self.error("maximum subscriptions exceeded")
            return
        if sid not in self.subscriptions:
            self.subscriptions[sid] = _Subscription(self, sid, subject, queue)
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
        if self.options.get("pedantic", True) and not (_is_valid(subject) and _is_literal(subject)):
            self.error("Invalid Publish Subject")
        self._ok()
        groups: dict[str, list[_Subscription]] = {}
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

    def deliver(self, sub: _Subscription, subject: str, reply: str | None, headers: bytes, data: bytes) -> bool:
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


class _CommandReader:
    """Bytes of a client in, commands out."""

    def __init__(self, server: ScriptedServer) -> None:
        self._server = server
        self._data = bytearray()
        self._waiting: tuple[Command, int, int] | None = None  # for a payload: headers and all of it

    def feed(self, data: bytes) -> Iterator[Command]:
        self._data += data
        while True:
            if self._waiting is not None:
                command = self._payload(*self._waiting)
                if command is None:
                    return
                yield command
                continue
            end = self._data.find(b"\n")
            if end < 0:
                self._check_beginning()
                return
            line = bytes(self._data[:end]).removesuffix(b"\r")
            if len(line) > self._server.max_control_line:
                raise Violation("maximum control line exceeded")
            del self._data[: end + 1]
            done = self._line(line)
            if done is not None:
                yield done

    def _check_beginning(self) -> None:
        data = self._data
        if len(data) > self._server.max_control_line:
            raise Violation("maximum control line exceeded")
        verb = bytes(data[:7]).upper().split(b" ")[0].rstrip(b"\r")
        if data and not any(known.startswith(verb) for known in _VERBS):
            raise Violation("Unknown Protocol Operation")

    def _line(self, line: bytes) -> Command | None:
        verb, _, rest = line.replace(b"\t", b" ").partition(b" ")
        verb = verb.upper()
        if verb not in _VERBS:
            raise Violation("Unknown Protocol Operation")
        name = verb.decode()
        text = rest.decode("utf-8", "surrogateescape")
        if name == "CONNECT":
            return Command(name, [text.strip()])
        if name in {"PING", "PONG"}:
            return Command(name, [])
        args = text.split()
        if name == "SUB":
            if len(args) not in (2, 3):
                raise Violation
            return Command(name, args)
        if name == "UNSUB":
            if len(args) not in (1, 2) or not all(arg.isdigit() for arg in args[1:]):
                raise Violation
            return Command(name, args)
        numbers = 2 if name == "HPUB" else 1
        if len(args) not in (numbers + 1, numbers + 2):
            raise Violation
        sizes = args[-numbers:]
        if not all(size.isdigit() and len(size) <= 9 for size in sizes):
            raise Violation
        header, total = (0, int(sizes[0])) if numbers == 1 else (int(sizes[0]), int(sizes[1]))
        if header > total:
            raise Violation
        if total > self._server.max_payload:
            raise Violation("Maximum Payload Violation")
        self._waiting = (Command(name, args[:-numbers]), header, total)
        return None

    def _payload(self, command: Command, header: int, total: int) -> Command | None:
        data = self._data
        if len(data) < total + 2:
            return None
        if data[total : total + 2] != b"\r\n":
            raise Violation("Unknown Protocol Operation")
        payload = bytes(data[:total])
        del data[: total + 2]
        self._waiting = None
        return command._replace(headers=payload[:header], data=payload[header:])


# Subjects.


def matches(pattern: str, subject: str) -> bool:
    """Whether a message to ``subject`` goes to a subscription of ``pattern``."""
    wanted, tokens = pattern.split("."), subject.split(".")
    for position, token in enumerate(wanted):
        if token == ">":
            return len(tokens) > position
        if position >= len(tokens) or token not in ("*", tokens[position]):
            return False
    return len(wanted) == len(tokens)


def covers(pattern: str, subject: str) -> bool:
    """Whether all that ``subject`` stands for, wildcards included, is in ``pattern``."""
    wanted, tokens = pattern.split("."), subject.split(".")
    for position, token in enumerate(wanted):
        if token == ">":
            return len(tokens) > position
        if position >= len(tokens) or tokens[position] == ">":
            return False
        if token not in ("*", tokens[position]):
            return False
    return len(wanted) == len(tokens)


def _order(pattern: str) -> list[int]:
    tokens = pattern.split(".")
    return [0 if token == ">" else 1 if token == "*" else 2 for token in tokens]


def _is_valid(subject: str) -> bool:
    tokens = subject.split(".")
    return all(tokens) and ">" not in tokens[:-1]


def _is_literal(subject: str) -> bool:
    return not any(token in ("*", ">") for token in subject.split("."))


def _quoted(text: str) -> str:
    """As the server writes names in its errors."""
    return json.dumps(text, ensure_ascii=False)
