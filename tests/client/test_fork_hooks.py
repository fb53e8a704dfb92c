"""Calls from the hooks around a fork, also those that run before our own: none reaches the parent's connection."""

from __future__ import annotations

import json
from typing import Any

import pytest

import nats_zio
from nats_zio.testing import NatsServer
from tests.client.scripting import run_script

QUIET = {"PYTHONWARNINGS": "ignore::DeprecationWarning"}  # Python 3.12 warns of any fork beside threads


def play(server: NatsServer, where: str, how: str, lazy: str) -> tuple[dict[str, Any], list[bytes]]:
    """What the script said, and what its hooks have published."""
    with nats_zio.connect(server.url) as watching, watching.subscribe("hook") as sub:
        watching.flush()
        script = run_script("fork_hooks.py", server.url, where, how, lazy, env=QUIET, timeout=30)
        watching.flush()
        published = []
        while (message := sub.try_next()) is not None:
            published.append(message.data)
        return json.loads(script.stdout), published


@pytest.mark.parametrize("how", ["fork", "process", "preexec"])
@pytest.mark.parametrize("where", ["thread", "task", "handler", "job"])
def test_a_hook_of_the_child_that_runs_before_ours_is_refused_and_the_parent_notices_nothing(
    server: NatsServer, background_runtime: Any, where: str, how: str
) -> None:
    said, published = play(server, where, how, "plain")
    assert (said["child"], said["status"], said["reconnects"]) == ("ForkedError", 0, 0)
    assert published == [b"before", b"parent"]


def test_in_a_child_that_c_code_has_forked_without_any_hook_publish_is_refused(
    server: NatsServer, background_runtime: Any
) -> None:
    said, published = play(server, "task", "C", "plain")
    assert (said["child"], said["status"], said["reconnects"]) == ("ForkedError", 0, 0)
    assert published == []


@pytest.mark.parametrize("how", ["fork", "process", "preexec"])
@pytest.mark.parametrize("where", ["thread", "handler"])
def test_a_lazy_client_publishes_from_such_a_hook_over_a_connection_of_the_child(
    server: NatsServer, background_runtime: Any, where: str, how: str
) -> None:
    said, published = play(server, where, how, "lazy")
    assert said["child"].startswith("sent by ")
    assert said["child"] != said["parent"]
    assert (said["status"], said["reconnects"]) == (0, 0)
    assert sorted(published) == [b"before", b"child", b"parent"]
