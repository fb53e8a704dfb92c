"""Runs tests with one option of the client ignored: they should fail. See `tests/test_options_matter.py`.

As a program: for each line `["connect:NAME" or "subscribe:NAME", [arguments of pytest]]` on its standard input it
prints a line `[exit status, output]`. Each run is a forked child, so that pytest is imported once.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from typing import Any

import pytest


class Ignoring:
    """A pytest plugin: the client ignores one option. Its value is checked all the same."""

    def __init__(self, option: str) -> None:
        self._call, _, self._name = option.partition(":")

    def pytest_configure(self, config: pytest.Config) -> None:
        from nats_zio import client, options

        if self._call == "connect":

            def make_options(values: dict[str, Any]) -> options.Options:
                options.make_options(values)
                return options.make_options(self._without(values))

            client.make_options = make_options  # type: ignore[attr-defined]
        else:
            subscribe = client.Client.subscribe

            def subscribe_otherwise(nc: client.Client, subject: str, **values: Any) -> Any:
                return subscribe(nc, subject, **self._without(values))

            client.Client.subscribe = subscribe_otherwise  # type: ignore[method-assign, assignment]

    def _without(self, values: dict[str, Any]) -> dict[str, Any]:
        return {key: value for key, value in values.items() if key != self._name}


def run(option: str, arguments: list[str]) -> tuple[int, str]:
    """Exit status and output of pytest, in a forked child, with the option ignored."""
    with tempfile.TemporaryFile("w+") as output:
        pid = os.fork()
        if pid == 0:
            os.dup2(output.fileno(), 1)
            os.dup2(output.fileno(), 2)
            status = pytest.main(arguments, plugins=[Ignoring(option)])
            sys.stdout.flush()
            os._exit(status)
        _, status = os.waitpid(pid, 0)
        output.seek(0)
        return os.waitstatus_to_exitcode(status), output.read()


if __name__ == "__main__":
    import asyncio  # noqa: F401
    import logging  # noqa: F401
    import subprocess  # noqa: F401

    for line in sys.stdin:
        print(json.dumps(run(*json.loads(line))), flush=True)
