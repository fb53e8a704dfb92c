"""Children forked beside a client: they get ForkedError at once or just leave, and the parent notices nothing."""

from __future__ import annotations

import os

import pytest

from nats_zio.testing import NatsServer
from tests.client.scripting import run_script

pytestmark = pytest.mark.slow

# Python 3.12 warns of any fork in a process with threads; that it works beside ours is the point here.
QUIET = {"PYTHONWARNINGS": "ignore::DeprecationWarning"}

SEEDS = max(2, int(os.environ.get("NATS_ZIO_SEEDS", "15")) // 25)


@pytest.mark.parametrize("seed", range(SEEDS))
def test_forks_at_any_moment_lose_nothing_of_the_parents(server: NatsServer, seed: int) -> None:
    script = run_script("fork_anywhere.py", server.url, seed, env=QUIET)
    assert script.stdout == "the parent is well\n"
    assert "Traceback" not in script.stderr, script.stderr


@pytest.mark.parametrize("where", ["thread", "task"])
@pytest.mark.parametrize("what", ["uses", "ends", "exits", "raises", "leaves", "connects"])
def test_a_forked_child_neither_hangs_nor_disturbs_its_parent(server: NatsServer, where: str, what: str) -> None:
    script = run_script("forker.py", server.url, where, what, env=QUIET)
    assert script.stdout == "the parent is well\n"
    assert "Traceback" not in script.stderr, script.stderr


@pytest.mark.parametrize("what", ["mp-uses", "mp-ends", "mp-exits", "mp-raises", "mp-connects"])
def test_a_child_of_multiprocessing_neither_hangs_nor_disturbs_its_parent(server: NatsServer, what: str) -> None:
    script = run_script("forker.py", server.url, "thread", what, env=QUIET)
    assert script.stdout == "the parent is well\n"
    if what != "mp-raises":
        assert "Traceback" not in script.stderr, script.stderr


def test_a_child_that_returns_from_the_handler_that_has_forked_it_handles_no_more_messages(server: NatsServer) -> None:
    script = run_script("fork_in_handler.py", server.url, env=QUIET, timeout=30)
    lines = script.stdout.splitlines()
    assert [line for line in lines if line.startswith("parent")] == [f"parent {number}" for number in range(5)]
    assert [line for line in lines if line.startswith("child")] == ["child 0"]
    assert lines[-1] == "the child's status: 0"


@pytest.mark.parametrize("what", ["connects", "returns"])
def test_a_child_forked_amid_a_request_leaves_the_reply_to_its_parent(server: NatsServer, what: str) -> None:
    """The thread that has forked was reading the socket itself: that is the parent's business in the child."""
    script = run_script("fork_amid_request.py", server.url, what, env=QUIET)
    assert script.stdout == "the child's status: 0\nfor the parent\n"
    assert "Traceback" not in script.stderr, script.stderr
