"""What a program finds when it is started, and what it leaves when it ends: streams, clocks, daemon threads."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.zio.helpers_scripts import ROOT, run_script

SCRIPTS = Path(__file__).parent / "scripts"


@pytest.mark.parametrize("closed", ["<&- >&- 2>&-", "<&-", ">&- 2>&-"])
def test_closed_standard_streams_are_given_to_no_socket(tmp_path: Path, closed: str) -> None:
    seen = tmp_path / "seen"
    script = f'exec "$0" "$1" "$2" {closed}'
    if "<" not in closed:
        script += " </dev/null"
    subprocess.run(
        ["sh", "-c", script, sys.executable, str(SCRIPTS / "odd_streams.py"), str(seen)],
        cwd=ROOT,
        env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin"},
        timeout=60,
        check=True,
        capture_output=True,
    )
    assert seen.read_text() == "[True, b'through', 0, b'']"


@pytest.mark.parametrize("call", ["event", "sleep", "channel", "lock"])
def test_a_daemon_thread_that_waits_when_the_program_ends_says_nothing_and_delays_nothing(call: str) -> None:
    done = run_script("daemon_waits.py", call)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.parametrize("when", ["before", "after"])
def test_waits_time_out_while_a_test_library_holds_the_clocks(when: str) -> None:
    done = run_script("frozen_time.py", when)
    assert (done.returncode, done.stdout, done.stderr) == (0, "all timed out\n", "")
