"""The processes of a benchmark: a private nats-server, the peers, and what CPU time they take."""

from __future__ import annotations

import json
import os
import resource
import select
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Self

BENCH = Path(__file__).resolve().parent
HOME = Path(os.environ.get("PEERS_HOME") or BENCH.parent / ".bench")
BUILD = Path(os.environ.get("BENCH_BUILD") or HOME / "build")
HZ = os.sysconf("SC_CLK_TCK")


class SkipPeerError(Exception):
    """A peer that is not installed, or has no such workload."""


class Cores:
    """Which cores the measured process has, and which all others. By default nobody is bound to any."""

    measured: set[int] | None = None
    others: set[int] | None = None

    @classmethod
    def pin(cls) -> None:
        """One core for what is measured, the rest for the server and the other side."""
        first, *rest = sorted(os.sched_getaffinity(0))
        cls.measured, cls.others = {first}, set(rest) or {first}


def popen(command: list[Any], cores: set[int] | None, **options: Any) -> subprocess.Popen[str]:
    def bind() -> None:
        if cores is not None:
            os.sched_setaffinity(0, cores)

    return subprocess.Popen(command, preexec_fn=bind, text=True, **options)  # noqa: PLW1509


def proc_cpu(pid: int) -> float:
    """Seconds of CPU that a process has used: in nanoseconds where the kernel says so, else in clock ticks."""
    try:
        tasks = list(Path(f"/proc/{pid}/task").iterdir())
        return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks) / 1e9
    except (OSError, IndexError):
        fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / HZ


def proc_peak_kb(pid: int) -> int:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))


def machine_busy() -> float:
    """Seconds that all cores together have worked: everything but idle and iowait."""
    fields = [int(x) for x in Path("/proc/stat").read_text().splitlines()[0].split()[1:]]
    return (sum(fields[:8]) - fields[3] - fields[4]) / HZ


def children_cpu() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def read_line(proc: subprocess.Popen[str], timeout: float = 30) -> str:
    assert proc.stdout is not None
    if not select.select([proc.stdout], [], [], timeout)[0]:
        raise RuntimeError("no line from a helper in time")
    return proc.stdout.readline()


def stop(proc: subprocess.Popen[str] | None) -> None:
    if proc is None or proc.poll() is not None:
        return
    proc.terminate()
    try:
        proc.wait(5)
    except subprocess.TimeoutExpired:
        proc.kill()
        proc.wait()


def build_tools() -> None:
    """The C programs: the other sides, and the ceiling."""
    BUILD.mkdir(parents=True, exist_ok=True)
    for source in ("raw/raw.c", "runtime/echoload.c"):
        subprocess.run(["gcc", "-O2", "-Wall", "-o", BUILD / Path(source).stem, BENCH / source], check=True)


def server_binary() -> str:
    candidates = [
        os.environ.get("NATS_SERVER"),
        *(HOME / name / "bin/nats-server" for name in ("p313", "p311", "ours")),
    ]
    for path in (*candidates, Path(sys.executable).with_name("nats-server"), shutil.which("nats-server")):
        if path and Path(path).exists():
            return str(path)
    sys.exit("no nats-server: set NATS_SERVER, or run benchmarks/setup_peers.sh")


class Server:
    """A private nats-server: a free port, limits out of the way, JetStream in a temporary directory."""

    def __enter__(self) -> Self:
        self._directory = Path(tempfile.mkdtemp(prefix="nats-bench-"))
        with socket.socket() as sock:
            sock.bind(("127.0.0.1", 0))
            self.port = sock.getsockname()[1]
        config = self._directory / "server.conf"
        config.write_text(
            f'host: "127.0.0.1"\nport: {self.port}\nmax_pending: 1GB\nwrite_deadline: "120s"\n'
            'max_connections: 20000\nmax_subscriptions: 0\nmax_payload: 8MB\nping_interval: "10m"\n'
            f'jetstream {{ store_dir: "{self._directory}/js", max_memory_store: 4GB, max_file_store: 8GB }}\n'
        )
        self.proc = popen([server_binary(), "-c", config, "-l", self._directory / "log"], Cores.others)
        for _ in range(200):
            try:
                socket.create_connection(("127.0.0.1", self.port), 1).close()
                break
            except OSError:
                time.sleep(0.02)
        else:
            self.__exit__()
            raise RuntimeError("the server does not answer")
        time.sleep(0.2)
        return self

    def __exit__(self, *exc_info: object) -> None:
        stop(self.proc)
        shutil.rmtree(self._directory, ignore_errors=True)

    def _api(self, verb: str, body: dict[str, Any] | None = None) -> None:
        """One JetStream API request over a bare socket."""
        data = json.dumps(body or {}).encode()
        with socket.create_connection(("127.0.0.1", self.port), 10) as sock:
            sock.sendall(
                b'CONNECT {"verbose":false,"headers":true}\r\nSUB _INBOX.h 1\r\n'
                b"PUB $JS.API.%s _INBOX.h %d\r\n%s\r\n" % (verb.encode(), len(data), data)
            )
            file = sock.makefile("rb")
            while line := file.readline():
                if line.startswith(b"MSG"):
                    answer = json.loads(file.read(int(line.split()[-1])))
                    if "error" in answer and "DELETE" not in verb:
                        raise RuntimeError(f"{verb}: {answer['error']}")
                    return
        raise RuntimeError("the server closed the connection")

    def stream(self, storage: str) -> None:
        self._api("STREAM.DELETE.JS")
        self._api("STREAM.CREATE.JS", {"name": "JS", "subjects": ["js.>"], "storage": storage, "num_replicas": 1})

    def consumer(self) -> None:
        self._api("CONSUMER.DELETE.JS.c")
        config = {
            "durable_name": "c",
            "name": "c",
            "ack_policy": "explicit",
            "max_ack_pending": -1,
            "ack_wait": 60_000_000_000,
        }
        self._api("CONSUMER.CREATE.JS.c", {"stream_name": "JS", "config": config})


class Peer:
    """A program that has the workloads; see peers.toml."""

    def __init__(self, name: str, conf: dict[str, Any]) -> None:
        self.name = name
        self.kind: str = conf["kind"]
        self.max: dict[str, int] = conf.get("max", {})
        values = {"bench": BENCH, "build": BUILD, "home": HOME, "go": os.environ.get("GO") or "go"}

        def expand(text: str) -> str:
            return text.format(**values)

        self._env = os.environ | {key: expand(value) for key, value in conf.get("env", {}).items()}
        if "venv" in conf:
            python = sys.executable if conf["venv"] == "this" else HOME / conf["venv"] / "bin/python"
            if not Path(python).exists():
                raise SkipPeerError(f"no {python}")
            self._command = [str(python), str(BENCH / conf["adapter"])]
            return
        if "build" in conf:
            try:
                subprocess.run([expand(part) for part in conf["build"]], check=True, env=self._env)
            except (OSError, subprocess.CalledProcessError) as error:
                raise SkipPeerError(f"build failed: {error}") from error
        self._command = [expand(part) for part in conf["exec"]]
        if not shutil.which(self._command[0]):
            raise SkipPeerError(f"no {self._command[0]}")

    def popen(self, workload: str, parameters: dict[str, Any]) -> subprocess.Popen[str]:
        command = [*self._command, workload, *arguments(parameters)]
        return popen(command, Cores.measured, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=self._env)


def arguments(parameters: dict[str, Any]) -> list[str]:
    return [f"{key}={value}" for key, value in parameters.items()]
