"""The examples, each as a program of its own: what it prints, how it ends, and what a service does with SIGTERM."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import nats_zio
import zio
from nats_zio.testing import NatsServer

ROOT = Path(__file__).resolve().parent.parent


def command(name: str, *args: str) -> list[str]:
    return [sys.executable, "-W", "error", str(ROOT / "examples" / name), *args]


def environment(url: str | None) -> dict[str, str]:
    env = {key: value for key, value in os.environ.items() if key != "NATS_URL"}
    env["PYTHONPATH"] = os.pathsep.join(filter(None, (str(ROOT), env.get("PYTHONPATH"))))
    return env if url is None else {**env, "NATS_URL": url}


def output(name: str, *args: str, url: str | None = None) -> str:
    """What an example prints; it must end by itself, in order and without a word on stderr."""
    done = subprocess.run(
        command(name, *args), capture_output=True, text=True, timeout=100, env=environment(url), check=False
    )
    assert (done.returncode, done.stderr) == (0, ""), done.stdout + done.stderr
    return done.stdout


@pytest.fixture(params=["embedded", "NATS_URL"])
def url(request: pytest.FixtureRequest) -> Iterator[str | None]:
    if request.param == "embedded":
        yield None
    else:
        with NatsServer() as server:
            yield server.url


def test_publish_subscribe(url: str | None) -> None:
    assert output("publish_subscribe.py", url=url) == (
        "next: weather.oslo rain, weather.rome sun\n"
        "a header: Station=LIRU\n"
        "loop: news.local.today story 0\n"
        "loop: news.local.today story 1\n"
        "loop: news.local.today story 2\n"
        "the loop has ended: limit reached\n"
        "handler: first\n"
        "handler: last\n"
        "closed: True\n"
    )


def test_fan_in(url: str | None) -> None:
    printed = output("fan_in.py", url=url)
    assert re.findall("event: (.+)", printed) == ["Disconnected", "Reconnected"]
    reports = [(int(a), int(b)) for a, b in re.findall(r"report \d: (\d+) orders, (\d+) payments", printed)]
    assert len(reports) == 3
    assert reports == sorted(reports)
    orders, payments = reports[-1]
    assert orders > 10  # it went on after the reconnect
    # Half as many; what was on its way when the link broke may be missing, of either.
    assert abs(payments - orders / 2) <= 3


def test_monitoring(url: str | None) -> None:
    printed = output("monitoring.py", url=url)
    assert re.match(r"connected to nats://\S+, nats-server \d", printed)
    assert "\n'readings' is read too slowly\n" in printed
    assert len(re.findall(r"\nlost the connection, and at most \d+ messages with it: ", printed)) == 1
    assert len(re.findall(r"\nconnected again to nats://", printed)) == 1
    assert re.search(r"\nhealthy, [\d.]+ ms; [\d,]+ published, 1 reconnects\n", printed)
    if url is None:
        assert "\nnot healthy (reconnecting): " in printed
    assert printed.endswith("dropped by the slow subscription: some\n")


def test_flask_shop(url: str | None) -> None:
    nobody = "(503, {'error': \"no responders: nobody is subscribed to 'stock.left'\"})"
    assert output("flask_shop.py", url=url) == (
        f"without the stock service: {nobody}\n"
        "after eight customers: (200, {'apples': 12})\n"
        f"after the stock service has ended: {nobody}\n"
    )


def test_plain_script() -> None:
    assert "left in stock: {'apples': 10, 'pears': 0}\n" in output("plain_script.py")


def test_plain_script_delivers_what_it_published_before_it_ended(server: NatsServer) -> None:
    def main() -> tuple[str, list[bytes]]:
        with nats_zio.connect(server.url) as nc:
            log = nc.subscribe("shop.log")
            nc.flush()
            printed = zio.to_thread(lambda: output("plain_script.py", url=server.url))
            return printed, [log.next(timeout=30).data for _ in range(1000)]

    printed, lines = zio.run(main)
    assert printed == (
        "8 reports: " + ", ".join(f"customer {number} has 5" for number in range(8)) + "\n"
        "left in stock: {'apples': 10, 'pears': 0}\n"
        "published 1000 lines and ended without flush or close\n"
    )
    assert lines == [b"line %d" % number for number in range(1000)]


def test_demo(url: str | None) -> None:
    printed = output("demo.py", "--quick", url=url)
    assert re.search(r"2,000 requests in .* s: [\d,]+ requests/s\n", printed)
    assert re.search(r"10,000 messages of 100 bytes in .* s: [\d,]+ messages/s\n", printed)
    assert ("the server is killed" if url is None else "the connections are dropped") in printed
    assert re.search(r"without a connection for \d", printed)
    assert printed.count("    ok    ") == 10
    assert "FAIL" not in printed
    assert printed.splitlines()[-1].startswith("all checks passed")


def test_demo_says_so_and_fails_when_something_is_missing(tmp_path: Path) -> None:
    """A subscriber that misses a message makes it exit with 1."""
    source = (ROOT / "examples" / "demo.py").read_text()
    # One message less than is waited for, and one more than is counted.
    broken = source.replace(
        "received = sum(1 for message in sub ", "next(iter(sub)); received = sum(1 for message in sub "
    )
    assert broken != source
    for name, text in (("demo.py", broken), ("_server.py", (ROOT / "examples" / "_server.py").read_text())):
        (tmp_path / name).write_text(text)
    done = subprocess.run(
        [sys.executable, str(tmp_path / "demo.py"), "--quick"],
        capture_output=True, text=True, timeout=100, env=environment(None), check=False,
    )  # fmt: skip
    assert done.returncode == 1, done.stderr
    assert "FAIL  9,999 messages received" in done.stdout
    assert "\n1 checks failed" in done.stdout


@contextmanager
def service(url: str | None) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        command("service.py"), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment(url)
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_service_stopped_while_requests_are_in_flight_loses_none(number: signal.Signals, server: NatsServer) -> None:
    outcomes: Counter[str] = Counter()
    wrong: list[tuple[int, bytes]] = []

    def ask(nc: nats_zio.Client, first: int, half_way: zio.Event) -> None:
        for value in range(first, 1_000_000, 32):
            try:
                reply = nc.request("square", str(value), timeout=30)
            except nats_zio.NoRespondersError:
                outcomes["refused"] += 1
                return
            outcomes["answered"] += 1
            if int(reply.data) != value**2:
                wrong.append((value, reply.data))
            if outcomes["answered"] >= 100:
                half_way.set()

    def main(process: subprocess.Popen[str]) -> None:
        with nats_zio.connect(server.url) as nc, zio.TaskGroup() as group:
            half_way = zio.Event()
            for first in range(32):  # eight times what the service works on at once: there is always a queue
                group.spawn(ask, nc, first, half_way)
            assert half_way.wait(timeout=30)
            process.send_signal(number)

    with service(server.url) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == f"answering requests on 'square' at {server.url}\n"
        zio.run(main, process)  # a request without an answer would end it with TimeoutError
        printed, errors = process.communicate(timeout=30)
        assert (process.returncode, errors) == (0, "")
    assert not wrong
    assert outcomes["refused"] == 32
    assert outcomes["answered"] > 100 + 4  # those in flight too
    assert printed == (
        f"{number.name}: no new requests, finishing those that are here\nanswered {outcomes['answered']} requests\n"
    )


def test_service_with_a_server_of_its_own_answers_and_ends() -> None:
    def ask(url: str) -> tuple[bytes, str | None]:
        with nats_zio.connect(url) as nc:
            return nc.request("square", "12").data, nc.request("square", "many").headers.get("Error")

    with service(None) as process:
        assert process.stdout is not None
        url = process.stdout.readline().split()[-1]
        assert zio.run(ask, url) == (b"144", "not a number")
        process.terminate()
        printed, errors = process.communicate(timeout=30)
        assert (process.returncode, errors) == (0, "")
    assert printed.endswith("answered 2 requests\n")
