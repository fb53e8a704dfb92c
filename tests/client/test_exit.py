"""The end of a process: exit handlers that use a client, daemon threads, and what is lost reaches the log."""

from __future__ import annotations

import ast
import logging
import re
import sys
from pathlib import Path
from typing import Any

import pytest

import nats_zio
import zio
from nats_zio.testing import NatsServer, ScriptedServer
from tests.client.scripted import connected
from tests.client.scripting import Script, run_script

SCRIPTS = Path(__file__).parent / "scripts"
HANDLERS = ["after connect", "before connect", "before the import"]
FINALIZERS = ["a finalizer", "a late finalizer"]
STATUS = {"normal": 0, "exception": 1, "sys.exit": 3, "fork": 0, "forkserver": 0, "spawn": 0}
# A forked child drops the parent's; before Python 3.13 none of its own are asked either.
OLD = sys.version_info < (3, 13)
ASKED = {
    "fork": FINALIZERS + ([] if OLD else HANDLERS[:2]),
    "forkserver": FINALIZERS + ([] if OLD else HANDLERS),
    "spawn": FINALIZERS + HANDLERS,
}


def play(url: str, how: str, what: str) -> tuple[Script, list[str]]:
    """The script, and what its handlers have published."""
    with nats_zio.connect(url) as watching, watching.subscribe("bye") as sub:
        watching.subscribe("echo", cb=lambda message: message.respond(message.data))
        watching.flush()
        with Script("exit_handlers.py", url, how, what) as script:
            assert script.finish() == STATUS[how], script.stderr
        watching.flush()
        published = []
        while (message := sub.try_next()) is not None:
            published.append(message.data.decode())
    if how in ASKED:
        assert "the child's status: 0" in script.stdout
        assert published[-1:] == ["before the import"]  # the parent's own
        del published[-1]
    return script, published


@pytest.mark.parametrize("how", STATUS)
def test_what_any_exit_handler_publishes_goes_out(server: NatsServer, background_runtime: Any, how: str) -> None:
    script, published = play(server.url, how, "publish")
    assert sorted(published) == sorted(ASKED.get(how, HANDLERS))
    assert "messages (" not in script.stderr


@pytest.mark.parametrize("how", STATUS)
def test_any_exit_handler_may_ask_and_is_answered(server: NatsServer, background_runtime: Any, how: str) -> None:
    script, _ = play(server.url, how, "request")
    assert sorted(re.findall("^(.*) \\1$", script.stdout, re.MULTILINE)) == sorted(ASKED.get(how, HANDLERS))


@pytest.mark.parametrize("how", STATUS)
def test_an_exit_handler_may_make_a_client_or_is_told_that_it_is_too_late(
    server: NatsServer, background_runtime: Any, how: str
) -> None:
    """Python 3.12 starts no threads any more, so there can be no background runtime that was not there before."""
    script, published = play(server.url, how, "connect")
    refused = re.findall("^(.*): RuntimeClosed", script.stdout, re.MULTILINE)
    assert sorted(published + refused) == sorted(ASKED.get(how, HANDLERS))
    if sys.version_info < (3, 12):
        assert refused == []


def test_with_a_frozen_server_the_end_comes_and_each_lost_message_is_told_of_once(server: NatsServer) -> None:
    with Script("exit_handlers.py", server.url, "normal", "wait") as script:
        script.expect("published")
        server.pause()
        try:
            script.tell()
            assert script.finish() == 0, script.stderr
        finally:
            server.resume()
    counts = [int(count) for count in re.findall(r"with (\d+) messages", script.stderr)]
    assert sum(counts) == len(HANDLERS)


def test_both_looks_at_a_frozen_server_take_no_longer_than_a_close(caplog: pytest.LogCaptureFixture) -> None:
    """The first among the exit handlers, the second behind them."""

    def test(server: ScriptedServer, nc: nats_zio.Client) -> None:
        nc.publish("a", b"12345")
        server.pong = "drop"
        begin = zio.now()
        settled = zio.Event()
        nc.runtime.settle_before_exit(settled.set)
        settled.wait()
        nc.publish("a", b"1234567")  # of an exit handler
        nc.close()
        assert zio.now() - begin == pytest.approx(2.0, abs=0.1)

    with caplog.at_level(logging.WARNING, "nats_zio"):
        connected(test)
    first, second = (record.getMessage() for record in caplog.records)
    assert first.startswith("closing a client with 1 messages (5 bytes)")
    assert second.startswith("closing a client with 1 messages (7 bytes)")


def test_what_is_lost_reaches_log_handlers_that_keep_lines_until_the_log_is_shut_down(
    server: NatsServer, tmp_path: Path
) -> None:
    log = tmp_path / "log"
    with Script("exit_and_log.py", server.url, log) as script:
        script.expect("published")
        server.kill()
        script.tell()
        assert script.finish() == 0, script.stderr
    assert "closing a client with 3 messages (3 bytes)" in log.read_text()
    assert script.stderr == ""


def calls_of_daemon_threads() -> list[str]:
    for node in ast.walk(ast.parse((SCRIPTS / "daemon_threads.py").read_text())):
        if isinstance(node, ast.AnnAssign) and isinstance(node.value, ast.Dict):
            return [str(key.value) for key in node.value.keys if isinstance(key, ast.Constant)]
    raise AssertionError("the script has no table of calls")


@pytest.mark.parametrize("call", calls_of_daemon_threads())
def test_a_daemon_thread_that_is_in_a_call_at_the_end_of_the_program_says_nothing(
    server: NatsServer, call: str
) -> None:
    assert run_script("daemon_threads.py", server.url, call).stderr == ""
