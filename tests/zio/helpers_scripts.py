"""Run one of the scripts beside the tests in an interpreter of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def run_script(name: str, *args: str, timeout: float = 100, **env: str) -> subprocess.CompletedProcess[str]:
    """The finished process, with what it printed."""
    path = os.pathsep.join(filter(None, [os.environ.get("PYTHONPATH"), str(ROOT)]))
    return subprocess.run(
        [sys.executable, "-W", "error", str(Path(__file__).parent / "scripts" / name), *args],
        env={**os.environ, "PYTHONPATH": path, **env},
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )
