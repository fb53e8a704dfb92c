"""The applications of docs/web.md under real servers that fork: gunicorn with --preload, Celery's prefork pool."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import pytest

import nats_zio
import zio
from nats_zio.testing import NatsServer

from .pages import ROOT, environment, save_files

PATIENCE = 30  # seconds
WORKERS = 3


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    save_files((ROOT / "docs" / "web.md").read_text(encoding="utf-8"), tmp_path)
    return tmp_path


@pytest.fixture
def nc(server: NatsServer, background_runtime: zio.Runtime) -> Iterator[nats_zio.Client]:
    """The rest of the world: a client of the test's own."""
    with nats_zio.connect(server.url) as client:
        yield client


@contextmanager
def running(folder: Path, server: NatsServer, *command: str, **env: str) -> Iterator[subprocess.Popen[str]]:
    """A program with all the processes that it makes; what it prints goes to the file `log`."""
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", *command],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            text=True,
            cwd=folder,
            env=environment(NATS_URL=server.url, HOME=str(folder), PYTHONWARNINGS="default", **env),
            start_new_session=True,
        )
    try:
        yield process
    except BaseException:
        print((folder / "log").read_text())
        raise
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


class UnixConnection(HTTPConnection):
    """To a web server that listens at a path."""

    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=PATIENCE)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(PATIENCE)
        self.sock.connect(os.fspath(self._path))


def ask(path: Path, method: str, url: str, body: bytes = b"") -> tuple[int, Any]:
    connection = UnixConnection(path)
    try:
        connection.request(method, url, body)
        response = connection.getresponse()
        return response.status, json.loads(response.read())
    finally:
        connection.close()


def wait_for(what: str, is_so: Any) -> None:
    """Of other processes: until it is so."""
    end = time.monotonic() + PATIENCE
    while not is_so():
        if time.monotonic() > end:
            pytest.fail(f"{what}: not within {PATIENCE} s")
        time.sleep(0.02)


@pytest.mark.slow
@pytest.mark.parametrize("used_before_the_fork", [False, True], ids=["first used in a worker", "used before the fork"])
def test_each_worker_of_gunicorn_has_a_connection_of_its_own(
    used_before_the_fork: bool, folder: Path, server: NatsServer, nc: nats_zio.Client
) -> None:
    with (folder / "app.py").open("a") as app:
        app.write(
            "\n\n@app.get('/prices')\ndef prices():\n"
            "    return {'pid': os.getpid(), 'prices': str(app.config.get('PRICES'))}\n"
        )
        if used_before_the_fork:
            app.write("\nnc.publish('parent', str(os.getpid()))\nnc.flush()\n")
    orders, parents = nc.subscribe("orders.new"), nc.subscribe("parent")
    nc.subscribe("stock.left", cb=lambda request: request.respond("7"))
    nc.flush()
    path = folder / "socket"
    arguments = ("--preload", "--workers", str(WORKERS), "--threads", "2", "--bind", f"unix:{path}", "app:app")
    with running(folder, server, "gunicorn", *arguments) as gunicorn:
        wait_for("listening", path.exists)
        if used_before_the_fork:
            assert parents.next(timeout=PATIENCE).data == b"%d" % gunicorn.pid

        # Each worker has subscribed, in post_worker_init; a message to all of them reaches all of them.
        def subscribers() -> int:
            page = server.monitor("/connz?subs=1")
            return sum("prices.changed" in link.get("subscriptions_list", ()) for link in page["connections"])

        wait_for("all workers subscribed", lambda: subscribers() == WORKERS)
        nc.publish("prices.changed", "new")
        seen: Counter[int] = Counter()

        def everyone_has_it() -> bool:
            status, answer = ask(path, "GET", "/prices")
            assert status == 200
            if answer["prices"] == "b'new'":
                seen[answer["pid"]] += 1
            return len(seen) == WORKERS

        wait_for("the new prices", everyone_has_it)
        assert gunicorn.pid not in seen

        for number in range(20):
            assert ask(path, "POST", "/orders", b"%d" % number) == (202, {"accepted": True})
            assert ask(path, "GET", "/stock/apples") == (200, {"item": "apples", "left": 7})
        assert sorted(int(orders.next(timeout=PATIENCE).data) for _ in range(20)) == list(range(20))

        gunicorn.terminate()
        assert gunicorn.wait(PATIENCE) == 0
    assert "Error" not in (folder / "log").read_text()


@pytest.mark.slow
def test_each_process_of_celery_has_a_connection_of_its_own_and_loses_nothing_at_its_end(
    folder: Path, server: NatsServer, nc: nats_zio.Client
) -> None:
    with (folder / "tasks.py").open("a") as tasks:
        # What a task publishes last, without flush, goes out when its process ends: here after each task.
        tasks.write(
            "\n\n@app.task\ndef burst(size):\n"
            "    for number in range(size):\n        nc.publish('burst', str(number))\n    return os.getpid()\n"
        )
    shipped, burst = nc.subscribe("orders.shipped"), nc.subscribe("burst")
    nc.subscribe("stock.take", cb=lambda request: request.respond("taken"))
    nc.flush()
    script = (
        "import tasks\n"
        "shipped = [tasks.ship.delay(str(number)) for number in range(4)]\n"
        "print([result.get(timeout=30) for result in shipped], flush=True)\n"
        "bursts = [tasks.burst.delay(1000) for _ in range(4)]\n"
        "print(len({result.get(timeout=30) for result in bursts}), flush=True)\n"
    )
    arguments = ("-A", "tasks", "worker", "--pool", "prefork", "--concurrency", "2", "--max-tasks-per-child", "1")
    with running(folder, server, "celery", *arguments, "--without-gossip", "--without-mingle"):
        caller = subprocess.run(
            [sys.executable, "-c", script],
            capture_output=True, text=True, timeout=100, cwd=folder, env=environment(NATS_URL=server.url), check=False,
        )  # fmt: skip
        assert (caller.stdout, caller.returncode) == ("['taken', 'taken', 'taken', 'taken']\n4\n", 0), caller.stderr
        assert sorted(shipped.next(timeout=PATIENCE).data for _ in range(4)) == [b"0", b"1", b"2", b"3"]
        numbers = Counter(burst.next(timeout=PATIENCE).data for _ in range(4000))
    assert set(numbers.values()) == {4}
    assert "Error" not in (folder / "log").read_text()
