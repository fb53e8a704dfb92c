"""Another package named zio in the way of ours: nats_zio says so, and what to do."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
CURE = "pip uninstall zio && pip install --force-reinstall nats-zio"


def python(code: str, *paths: Path) -> subprocess.CompletedProcess[str]:
    path = os.pathsep.join(map(str, (*paths, ROOT)))
    return subprocess.run(
        [sys.executable, "-P", "-W", "error", "-c", code],
        capture_output=True, text=True, timeout=100, check=False, env={**os.environ, "PYTHONPATH": path},
    )  # fmt: skip


def install(site: Path, files: dict[str, str]) -> None:
    """What pip would leave of a foreign zio 2.1.3."""
    for name, text in {**files, "zio-2.1.3.dist-info/METADATA": "Name: zio\nVersion: 2.1.3\n"}.items():
        file = site / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)


FOREIGN = {
    "a module": {"zio.py": "def zio(target): ...\n"},
    "a package": {"zio/__init__.py": "from .net import zio\n", "zio/net.py": "def zio(target): ...\n"},
    "one that fails to import here": {"zio.py": "import module_of_python_2\n"},
    "what an uninstall left over": {"zio/_core/waiter.py": "", "zio/net/stream.py": ""},
}


@pytest.mark.parametrize("use", ["nats_zio.connect()", "from nats_zio import events", "nats_zio.TimeoutError"])
@pytest.mark.parametrize("files", FOREIGN.values(), ids=FOREIGN.keys())
def test_a_foreign_zio_is_named_with_the_cure(tmp_path: Path, files: dict[str, str], use: str) -> None:
    install(tmp_path, files)
    # Ours, wherever it is on the path, must not win over a folder without __init__.
    without_ours = (
        "sys.path[:] = [p for p in sys.path if not os.path.exists(os.path.join(p, 'zio/_core/scheduler.py'))]"
    )
    done = python(f"import os, sys, nats_zio; {without_ours}\n{use}", tmp_path)
    assert done.returncode == 1
    last = done.stderr.splitlines()[-1]
    assert last.startswith("ImportError: the package zio at "), done.stderr
    assert "is not the one of nats-zio" in last
    assert "the unrelated project zio 2.1.3 is installed" in last
    assert CURE in last


def test_a_file_named_zio_that_no_distribution_owns(tmp_path: Path) -> None:
    (tmp_path / "zio.py").write_text("")
    done = python("import nats_zio; nats_zio.connect()", tmp_path)
    assert f"the package zio at {tmp_path / 'zio.py'} is not the one of nats-zio" in done.stderr
    assert "a file of that name on sys.path" in done.stderr


def test_ours_is_taken_also_where_the_other_is_installed_but_not_imported(tmp_path: Path) -> None:
    install(tmp_path, {})
    done = python("import nats_zio, zio; nats_zio.connect; print(zio.__distribution__)", tmp_path)
    assert (done.stdout, done.stderr) == ("nats-zio\n", "")


def test_something_missing_that_ours_needs_is_not_blamed_on_the_other(tmp_path: Path) -> None:
    (tmp_path / "greenlet.py").write_text(
        "raise ModuleNotFoundError(\"No module named 'greenlet'\", name='greenlet')\n"
    )
    done = python("import nats_zio; nats_zio.connect()", tmp_path)
    assert done.stderr.splitlines()[-1] == "ModuleNotFoundError: No module named 'greenlet'"


def test_importing_nats_zio_or_its_test_server_does_not_load_the_runtime() -> None:
    done = python(
        "import sys, nats_zio, nats_zio.testing.plugin; nats_zio.testing.NatsServer; print('zio' in sys.modules)"
    )
    assert (done.stdout, done.stderr) == ("False\n", "")
