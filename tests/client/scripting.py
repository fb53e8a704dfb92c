"""Programs of their own, for what only a whole process shows: its end, its forks, its threads.

They are the files in `scripts/`. Arguments and results are text: a script prints lines, and the test reads them.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Self

import nats_zio

_SCRIPTS = Path(__file__).parent / "scripts"
_SOURCE = Path(nats_zio.__file__).parent.parent


class Script:
    """A running script; `with` kills it if it has not ended."""

    def __init__(self, name: str, *args: object, env: dict[str, str] | None = None) -> None:
        path = os.pathsep.join(filter(None, (str(_SOURCE), os.environ.get("PYTHONPATH", ""))))
        self._process = subprocess.Popen(
            [sys.executable, str(_SCRIPTS / name), *map(str, args)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,  # so that its children can be ended with it
            env={**os.environ, "PYTHONPATH": path, "PYTHONUNBUFFERED": "1", **(env or {})},
        )
        self.pid = self._process.pid
        self.stdout = ""
        self.stderr = ""

    def line(self) -> str:
        """Wait for the next line that it prints; empty at its end."""
        assert self._process.stdout is not None
        return self._process.stdout.readline().rstrip("\n")

    def expect(self, text: str) -> None:
        """Wait for a line that must be `text`."""
        line = self.line()
        if line != text:
            self._kill()
            self.finish()
            raise AssertionError(f"{line!r} instead of {text!r}; the script said:\n{self.stdout}{self.stderr}")

    def tell(self, text: str = "") -> None:
        """Send a line to its standard input."""
        assert self._process.stdin is not None
        self._process.stdin.write(text + "\n")
        self._process.stdin.flush()

    def signal(self, number: int) -> None:
        self._process.send_signal(number)

    def finish(self, timeout: float = 100.0) -> int:
        """Wait for its end; the exit status. What it printed since is in `stdout` and `stderr`."""
        try:
            self.stdout, self.stderr = self._process.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            self._kill()
            self.stdout, self.stderr = self._process.communicate()
            raise AssertionError(f"the script did not end in {timeout} s:\n{self.stdout}{self.stderr}") from None
        return self._process.returncode

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._kill()
        if self._process.poll() is None:
            self._process.communicate()

    def _kill(self) -> None:
        """End it, and children that it has left."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)


def run_script(name: str, *args: object, timeout: float = 100.0, env: dict[str, str] | None = None) -> Script:
    """Run a script to its end, which must be a good one; it printed what is in `.stdout`."""
    with Script(name, *args, env=env) as script:
        status = script.finish(timeout)
    assert status == 0, f"exit status {status}:\n{script.stdout}{script.stderr}"
    return script
