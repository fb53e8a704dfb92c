"""The end of a plain script that says nothing about it: no flush, no close."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

import pytest

from nats_zio.testing import NatsServer
from tests.client.scripting import Script

COUNT = 10_000


@pytest.fixture
def patient_server() -> Iterator[NatsServer]:
    """A server that does not cut off a collector that is slower than the publisher."""
    with NatsServer(config="max_pending: 512MB") as server:
        yield server


def lost(stderr: str) -> tuple[int, int]:
    """Messages and bytes that the warning counts."""
    found = re.findall(r"(\d+) messages \((\d+) bytes\)", stderr)
    assert found, f"no warning:\n{stderr}"
    return sum(int(msgs) for msgs, _ in found), sum(int(size) for _, size in found)


@pytest.mark.slow
@pytest.mark.parametrize("size", [10, 32 << 10], ids=["10-bytes", "32-KiB"])
@pytest.mark.parametrize(("how", "status"), [("normal", 0), ("exception", 1), ("sys.exit", 3)])
def test_everything_published_before_the_end_of_a_script_is_delivered(
    patient_server: NatsServer, how: str, status: int, size: int
) -> None:
    count = COUNT if size == 10 else COUNT // 10  # a busy machine has two seconds for them as well
    with Script("collect.py", patient_server.url, "numbers", count) as collector:
        collector.expect("ready")
        with Script("publish_and_end.py", patient_server.url, how, count, size) as script:
            assert script.finish() == status, script.stderr
        assert "messages (" not in script.stderr
        assert ("RuntimeError: the end" in script.stderr) == (how == "exception")
        assert json.loads(collector.line()) == {"count": count, "in_order": True, "sizes": [size]}
        collector.finish()


@pytest.mark.slow
def test_what_an_exit_handler_publishes_is_delivered_though_no_thread_can_be_started_any_more(
    patient_server: NatsServer,
) -> None:
    # The script's own handler of these messages would need one; Python 3.12 starts none at that point.
    with Script("collect.py", patient_server.url, "numbers", COUNT) as collector:
        collector.expect("ready")
        with Script("publish_and_end.py", patient_server.url, "atexit:normal", COUNT, 1024) as script:
            assert script.finish() == 0, script.stderr
        assert "Traceback" not in script.stderr
        assert json.loads(collector.line())["in_order"]
        collector.finish()


@pytest.mark.slow
@pytest.mark.parametrize(("how", "status"), [("wait:normal", 0), ("wait:exception", 1), ("wait:sys.exit", 3)])
def test_with_a_dead_server_a_script_ends_in_time_and_counts_what_may_be_lost(
    server: NatsServer, how: str, status: int
) -> None:
    with Script("publish_and_end.py", server.url, how, 1000, 10) as script:
        script.expect("published")
        server.kill()
        script.tell()
        assert script.finish() == status, script.stderr
    assert lost(script.stderr) == (1000, 10_000)


@pytest.mark.slow
@pytest.mark.parametrize("clients", [1, 4])
def test_with_a_frozen_server_a_script_ends_in_time_and_counts_what_may_be_lost(
    server: NatsServer, clients: int
) -> None:
    with Script("publish_and_end.py", server.url, "wait:normal", 1000, 10, clients) as script:
        script.expect("published")
        server.pause()
        try:
            script.tell()
            assert script.finish() == 0, script.stderr
        finally:
            server.resume()
    assert lost(script.stderr) == (1000 * clients, 10_000 * clients)


@pytest.mark.slow
def test_what_the_server_has_confirmed_is_not_counted_as_lost(server: NatsServer) -> None:
    with Script("flush_then_publish.py", server.url, 700, 300) as script:
        script.expect("published")
        server.kill()
        script.tell()
        assert script.finish() == 0, script.stderr
    assert lost(script.stderr) == (300, 3000)
