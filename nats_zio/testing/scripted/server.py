"""The server: who is connected, who gets what, and what it is told to do wrong."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

import zio
from zio.lowlevel import here, wait_done

from .permissions import Permissions, User
from .served import ServedClient, ServedSubscription
from .subjects import matches, order

if TYPE_CHECKING:
    from collections.abc import Callable
    from ssl import SSLContext

    from .commands import Command

VERSION = "2.15.1"  # of the server whose ways it has


class ScriptedServer:
    """The server: ``with ScriptedServer() as server: nats_zio.connect(server.url)``. Only inside a zio runtime.

    ``host`` and ``port`` are where it listens (port 0: a free one). ``users`` are names with passwords and rights;
    without, everybody may come, with ``permissions``. With ``tls``, a context for servers, it asks for TLS behind INFO,
    or before it (``tls_first``). With ``websocket`` it is spoken to by WebSocket, without TLS. Further keyword
    arguments are fields of its INFO.

    To be set at any time, by a test:

    * ``greeting``: bytes to send in place of the first INFO.
    * ``on_client(client)`` is called with each new client, before it is greeted.
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
        max_connections: int | None = None,
        max_subscriptions: int | None = None,
        max_pending: int = 64 << 20,
        ping_interval: float = 120.0,
        max_pings: int = 2,
        write_deadline: float = 10.0,
        users: dict[str, User] | None = None,
        permissions: Permissions | None = None,
        tls: SSLContext | None = None,
        tls_first: bool = False,
        websocket: bool = False,
        **info: Any,
    ) -> None:
        self.host = host
        self.port = port
        self.max_payload = max_payload
        self.max_control_line = max_control_line
        self.max_connections = max_connections
        self.max_subscriptions = max_subscriptions
        self.max_pending = max_pending
        self.ping_interval = ping_interval
        self.max_pings = max_pings
        self.write_deadline = write_deadline
        self.users = users
        self.permissions = permissions or Permissions()
        self.tls = tls
        self.tls_first = tls_first
        self.websocket = websocket
        self.greeting: bytes | None = None
        self.on_client: Callable[[ServedClient], object] | None = None
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
        self._id = ""
        self._listener: Any = None
        self._tasks: dict[zio.Task[None], None] = {}
        self._routes: dict[str, list[ServedSubscription]] = {}  # who gets what, until somebody comes or goes
        self._numbers = 0

    @property
    def url(self) -> str:
        return f"{'ws' if self.websocket else 'nats'}://{self.host}:{self.port}"

    @property
    def listening(self) -> bool:
        """Whether clients can connect: it was started, and not stopped since."""
        return self._listener is not None

    def start(self) -> Self:
        """Listen; again after ``stop``, on the same port, as a server that knows nothing of its former life."""
        self._id = "".join(self.random.choices("ABCDEFGHIJKLMNOPQRSTUVWXYZ234567", k=56))
        self._info.pop("ldm", None)
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

    def reload(self, users: dict[str, User]) -> None:
        """Take over these users, as a server does that reads its configuration again.

        Who is no longer among them is disconnected without a word. Subscriptions that are not allowed any more end,
        and their clients are told.
        """
        self.users = users
        for client in list(self.clients):
            client.look_at_rights()

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
        if self.tls is not None:
            fields["tls_required"] = True
        fields |= {"max_payload": self.max_payload, "client_id": client.id, "client_ip": "127.0.0.1"}
        if client.greeted:
            fields |= {"connect_info": True, "remote_account": "$G"}
        return {**fields, "api_lvl": 5, **self._info}

    # Routing.

    def route(self, subject: str) -> list[ServedSubscription]:
        """The subscriptions that match, in the server's order: full wildcards, partial ones, literal ones."""
        found = self._routes.get(subject)
        if found is None:
            found = [
                sub for client in self.clients for sub in client.subscriptions.values() if matches(sub.subject, subject)
            ]
            found.sort(key=lambda sub: order(sub.subject))
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
            if self.on_client is not None:
                self.on_client(client)
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
