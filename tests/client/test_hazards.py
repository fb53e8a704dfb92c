"""What may be called from where: each row of the table in docs/hazards.md."""

from __future__ import annotations

import json
import sys
from typing import Any

import nats_zio
from nats_zio.testing import NatsServer
from tests.client.hazard_rows import row, rows_of_the_page, tested
from tests.client.scripting import run_script

NEVER = dict.fromkeys(("publish", "subscribe", "try_next", "set", "try_send", "cancel"), "done")
WORKS = dict.fromkeys(("flush", "request", "next", "wait", "sleep"), "done")
REFUSED = dict.fromkeys(WORKS, "BlockingNotAllowed")


def play(server: NatsServer, place: str) -> dict[str, Any]:
    """What became of each call that was made at that place."""
    said: dict[str, Any] = json.loads(run_script("hazards.py", server.url, place).stdout)
    return said


def test_each_row_of_the_page_has_a_test_and_each_test_a_row() -> None:
    assert list(tested) == list(rows_of_the_page())


# Signals.


@row("a signal handler, plain")
def test_a_signal_handler_of_a_plain_thread(server: NatsServer) -> None:
    assert play(server, "signal") == {"never": NEVER, "waits": WORKS}


@row("a signal handler amid a call that waits, plain")
def test_a_signal_handler_amid_a_call_that_waits(server: NatsServer) -> None:
    said = play(server, "signal in a call")
    assert said == {"never": NEVER, "waits": WORKS, "interrupted": {"next": "done", "flush": "done"}}


@row("a signal handler in a task's own code, in a run")
def test_a_signal_handler_in_a_tasks_own_code(server: NatsServer) -> None:
    assert play(server, "run: signal in a task") == {"never": NEVER, "waits": WORKS}


@row("a signal handler while all tasks wait, in a run")
def test_a_signal_handler_while_all_tasks_wait(server: NatsServer) -> None:
    assert play(server, "run: signal in the hub") == {"never": NEVER, "waits": REFUSED}


# Finalizers.


@row("a finalizer (`__del__`, a `weakref` callback), plain")
def test_a_finalizer_in_a_plain_thread(server: NatsServer) -> None:
    assert play(server, "finalizer") == {"never": NEVER, "waits": WORKS}


@row("a finalizer in a task's own code, in a run")
def test_a_finalizer_in_a_tasks_own_code(server: NatsServer) -> None:
    assert play(server, "run: finalizer in a task") == {"never": NEVER, "waits": WORKS}


@row("a finalizer in the loop itself, in a run")
def test_a_finalizer_in_the_loop_of_a_run(server: NatsServer) -> None:
    assert play(server, "run: finalizer in the hub") == {"never": NEVER, "waits": REFUSED}


@row("a finalizer in the thread of the background runtime")
def test_a_finalizer_in_the_thread_of_the_background_runtime(server: NatsServer) -> None:
    assert play(server, "finalizer in the loop") == {"never": NEVER, "waits": REFUSED}


# Logging and tracing.


@row("a log handler, called by code of yours")
def test_a_log_handler_called_by_the_users_code(server: NatsServer) -> None:
    assert play(server, "log handler") == {"never": NEVER, "waits": WORKS}


@row("a log handler, called with a line of ours")
def test_a_log_handler_called_with_a_line_of_the_client(server: NatsServer) -> None:
    assert play(server, "handler of our lines") == {"never": NEVER, "waits": WORKS}


@row("a trace or profile function, plain")
def test_a_profile_function(server: NatsServer) -> None:
    assert play(server, "profile function") == {"never": NEVER, "waits": WORKS}


# Forks; those with other threads, tasks and handlers about are in test_fork_hooks.py.


@row("a fork hook `before`")
def test_a_hook_before_a_fork(server: NatsServer) -> None:
    assert play(server, "before a fork") == {"never": NEVER, "waits": WORKS}


@row("a fork hook `after_in_parent`")
def test_a_hook_in_the_parent(server: NatsServer) -> None:
    assert play(server, "parent after a fork") == {"never": NEVER, "waits": WORKS}


FORKED = {
    "never": {**NEVER, "publish": "ForkedError", "subscribe": "ForkedError", "try_next": "ForkedError"},
    # An event that was made there, and a sleep, are the child's.
    "waits": {**dict.fromkeys(WORKS, "ForkedError"), "wait": "done", "sleep": "done"},
}


@row("a fork hook `after_in_child`, for what is the parent's")
def test_a_hook_in_the_child(server: NatsServer) -> None:
    assert play(server, "child") == FORKED


@row("the same, registered before `nats_zio` was imported")
def test_a_hook_in_the_child_that_runs_before_ours(server: NatsServer) -> None:
    assert play(server, "early child") == FORKED


@row("a fork hook `after_in_child`, for a `lazy=True` client")
def test_a_hook_in_the_child_with_a_lazy_client(server: NatsServer) -> None:
    said = play(server, "lazy child")
    assert said["never"] == {**NEVER, "try_next": "ForkedError"}  # of a subscription of the parent's
    assert said["waits"] == {**WORKS, "next": "ForkedError"}


# The end; all ways to end are in test_exit.py.


@row("an exit handler, wherever it was registered")
def test_an_exit_handler(server: NatsServer, background_runtime: Any) -> None:
    with nats_zio.connect(server.url) as watching, watching.subscribe("y") as sub:
        watching.flush()
        assert play(server, "exit handler") == {"never": NEVER, "waits": WORKS}
        watching.flush()
        message = sub.try_next()
        assert message is not None
        assert message.data == b"1"


@row("an exit handler that makes the first client of the program")
def test_an_exit_handler_that_makes_the_first_client(server: NatsServer) -> None:
    said = play(server, "first client at the exit")
    assert said["connect"] == "done" or (sys.version_info >= (3, 12) and said["connect"] == "RuntimeClosed")


@row("a daemon thread, when the last exit handler has run")
def test_a_daemon_thread_at_the_very_end(server: NatsServer) -> None:
    """It would say so if its call came back; see also test_exit.py."""
    script = run_script("hazards.py", server.url, "daemon thread")
    assert (script.stdout, script.stderr) == ("{}\n", "")


# Other libraries.


@row("a callback of `asyncio`")
def test_a_callback_of_asyncio(server: NatsServer) -> None:
    assert play(server, "asyncio") == {"never": NEVER, "waits": WORKS, "warnings": 1}


@row("a greenlet of another library, plain")
def test_a_greenlet_of_another_library(server: NatsServer) -> None:
    assert play(server, "greenlet") == {"never": NEVER, "waits": WORKS}


@row("a greenlet that is no task, in a run")
def test_a_greenlet_that_is_no_task(server: NatsServer) -> None:
    assert play(server, "run: greenlet in a run") == {"never": NEVER, "waits": REFUSED}


@row("a thread that C code has started")
def test_a_thread_that_c_code_has_started(server: NatsServer) -> None:
    assert play(server, "C thread") == {"never": NEVER, "waits": WORKS}
