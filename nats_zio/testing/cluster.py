"""Several real ``nats-server`` processes joined by routes."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any, Self

from .errors import NatsServerError, PortInUseError
from .ports import PORT_ATTEMPTS, free_port
from .server import Config, NatsServer
from .waiting import backoff


class NatsCluster:
    """Several servers joined by routes; ``with`` or `start` start them.

    `start` returns when every server has a route to every other one and, with `jetstream`, when all of them agree on
    one meta leader and are current. Each member of `servers` is a `NatsServer` and can be killed, paused and restarted
    on its own; `wait_ready` then waits for the running ones to be whole again. `config` and the other keyword
    arguments are those of `NatsServer` and go to every member.
    """

    def __init__(
        self,
        size: int = 3,
        jetstream: bool = True,
        *,
        config: Config | None = None,
        name: str = "test",
        host: str = "127.0.0.1",
        args: Sequence[str] = (),
        start_timeout: float = 40.0,
        **options: Any,
    ) -> None:
        if size < 1:
            raise ValueError(f"a cluster of {size}")
        if "port" in options or "store_dir" in options:
            raise ValueError("each member of a cluster has its own port and store_dir")
        self.name = name
        self.jetstream = jetstream
        self._host = host
        self._args = tuple(args)
        self._start_timeout = start_timeout
        self._joined = False
        self.servers: list[NatsServer] = [
            NatsServer(jetstream, config, host=host, name=f"{name}-{number}", start_timeout=start_timeout, **options)
            for number in range(1, size + 1)
        ]

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name!r} {self.servers!r}>"

    @property
    def urls(self) -> list[str]:
        return [server.url for server in self.servers]

    @property
    def url(self) -> str:
        """All URLs, joined by commas."""
        return ",".join(self.urls)

    @property
    def leader(self) -> NatsServer | None:
        """The JetStream meta leader that the running servers agree on, if they do."""
        names = {self._leader_name(server) for server in self._running()}
        if len(names) != 1:
            return None
        (name,) = names
        return next((server for server in self.servers if server.name == name and server.running), None)

    def start(self) -> Self:
        """Start the servers that do not run, and `wait_ready`."""
        for attempt in range(PORT_ATTEMPTS):
            if not self._joined:
                self._choose_ports()
            try:
                started = [server for server in self.servers if not server.running]
                for server in started:
                    server.spawn()
                for server in started:
                    server.await_ready()
            except PortInUseError:
                self.kill()
                if self._joined or attempt + 1 == PORT_ATTEMPTS:
                    raise
            else:
                break
        self._joined = True
        self.wait_ready(self._start_timeout)
        return self

    def stop(self) -> None:
        for server in self.servers:
            server.stop()

    def kill(self) -> None:
        for server in self.servers:
            server.kill()

    def restart(self) -> None:
        self.stop()
        self.start()

    def close(self) -> None:
        """Stop all servers and remove their files."""
        for server in self.servers:
            server.close()

    def wait_ready(self, timeout: float = 40.0) -> None:
        """Wait until the running servers are joined and, with JetStream, have a leader and are current."""
        missing = "nothing was asked"
        for _ in backoff(time.monotonic() + timeout):
            try:
                missing = self._missing()
            except OSError as exc:
                missing = f"a monitoring page did not answer: {exc}"
            if not missing:
                return
        logs = "\n".join(f"--- {server.name}\n{server.log[-4000:]}" for server in self.servers)
        raise NatsServerError(f"the cluster was not ready after {timeout} s: {missing}\n{logs}")

    def __enter__(self) -> Self:
        try:
            return self.start()
        except BaseException:
            self.close()
            raise

    def __exit__(self, *_: object) -> None:
        self.close()

    # -- parts

    def _choose_ports(self) -> None:
        ports: set[int] = set()
        while len(ports) < 2 * len(self.servers):
            ports.add(free_port(self._host))
        numbers = list(ports)
        address = f"[{self._host}]" if ":" in self._host else self._host
        routes = [f"nats://{address}:{number}" for number in numbers[: len(self.servers)]]
        for server, route, port in zip(self.servers, routes, numbers[len(self.servers) :], strict=True):
            joined = ("--cluster_name", self.name, "--cluster", route, "--routes", ",".join(routes))
            server.place(port, (*joined, *self._args))

    def _running(self) -> list[NatsServer]:
        return [server for server in self.servers if server.running and not server.paused]

    @staticmethod
    def _leader_name(server: NatsServer) -> str | None:
        try:
            meta = server.monitor("/jsz").get("meta_cluster") or {}
        except OSError:
            return None
        return meta.get("leader") or None

    def _missing(self) -> str:
        running = self._running()
        ids = {server.info.get("server_id") for server in running}
        for server in running:
            routes = server.monitor("/routez").get("routes") or []
            absent = ids - {server.info.get("server_id")} - {route.get("remote_id") for route in routes}
            if absent:
                return f"{server.name} has no route to {len(absent)} of the others"
        if self.jetstream:
            names = {self._leader_name(server) for server in running}
            if len(names) != 1 or names == {None}:
                return f"no common JetStream meta leader, but {names}"
            if not names <= {server.name for server in running}:
                return f"the JetStream meta leader is {names}, which does not run"
            for server in running:
                health = server.monitor("/healthz")
                if health.get("status") != "ok":
                    return f"{server.name} is not well: {health}"
        return ""
