"""The search for secrets finds them: a leak through each channel makes its test fail, and says where it was."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from tests.secrecy import forget, hide, secret

ROOT = Path(__file__).parent.parent

CHANNELS = {
    "test_log_message": "in the log",
    "test_log_arguments": "in the log",
    "test_log_error": "in an error in the log",
    "test_log_of_others": "in the log",
    "test_standard_output": "in captured stdout call",
    "test_standard_error": "in captured stderr call",
    "test_warning": "in a warning",
    "test_warning_that_is_expected": "in a warning",
    "test_error_made_and_thrown_away": "in an error that was made",
    "test_error_text": "in an error that a test has caught",
    "test_error_arguments": "in an error that a test has caught",
    "test_error_attribute": "in an error that a test has caught",
    "test_error_note": "in an error that a test has caught",
    "test_error_cause": "in an error that a test has caught",
    "test_error_context_that_is_not_printed": "in an error that a test has caught",
    "test_error_in_a_group": "in an error that a test has caught",
    "test_error_of_a_server": "in an error that a test has caught",
    "test_error_that_ends_the_test": "in the error that ended the test",
    "test_event": "in an event",
    "test_event_error": "in the error of an event",
    "test_text[Client]": "in a client",
    "test_text[Options]": "in options",
    "test_text[Server]": "in a server",
    "test_text[Auth]": "in an Auth",
    "test_text[TLS]": "in a TLS",
    "test_text[ServerInfo]": "in a client",
    "test_in_a_fixture": "in the log",
    "test_form[quoted]": "stdout",
    "test_form[all-quoted]": "stdout",
    "test_form[repr]": "stdout",
    "test_form[bytes]": "stdout",
    "test_form[hex]": "stdout",
    "test_form[base64]": "stdout",
    "test_form[base64-inside]": "stdout",
    "test_form[base64-within]": "stdout",
    "test_recorded_password": "the password in",
    "test_recorded_token": "the token in",
    "test_recorded_url": "the password in",
    "test_recorded_url_as_it_stands": "the userinfo in",
    "test_recorded_userinfo_of_a_proxy": "the password of the proxy in",
    "test_recorded_headers": "the authorization in",
    "test_recorded_query": "the query in",
    "test_recorded_nkey_seed": "the seed in",
    "test_recorded_credentials[jwt]": "the nats user jwt in",
    "test_recorded_credentials[seed]": "the seed in",
    "test_recorded_credentials_file[jwt]": "the jwt in",
    "test_recorded_credentials_file[seed]": "the seed in",
    "test_recorded_part_of_a_jwt": "a part of the jwt in",
    "test_recorded_private_key": "private key in",
    "test_too_short": "could turn up by chance",
}


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Test -> what is said of its failure, "" if it passed."""
    folder = tmp_path_factory.mktemp("planted")
    (folder / "pytest.ini").write_text("[pytest]\naddopts = --import-mode=importlib\n")
    (folder / "conftest.py").write_text(
        "from tests import secrecy_scan\n\n\ndef pytest_configure(config):\n    secrecy_scan.install(config)\n"
    )
    (folder / "test_planted.py").write_text((ROOT / "tests/planted_leaks.py").read_text())
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", f"--junitxml={folder}/report.xml", "."],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )
    assert done.returncode == 1, done.stdout + done.stderr
    found: dict[str, str] = {}
    for case in ET.parse(folder / "report.xml").iter("testcase"):
        told = [f"{part.get('message')}\n{part.text}" for part in case if part.tag in ("failure", "error")]
        name = str(case.get("name"))
        found[name] = found.get(name, "") + "\n".join(told)
    return found


@pytest.mark.parametrize("name", CHANNELS)
def test_a_leak_is_found(results: dict[str, str], name: str) -> None:
    assert CHANNELS[name] in results[name]


def test_every_planted_leak_is_looked_for_and_only_they_fail(results: dict[str, str]) -> None:
    assert {name for name, told in results.items() if told} == set(CHANNELS)
    assert not results["test_nothing"]


@pytest.mark.parametrize("processes", [0, 2])
def test_what_shows_itself_after_the_last_test_fails_the_run(tmp_path: Path, processes: int) -> None:
    (tmp_path / "conftest.py").write_text(
        "import logging\nfrom tests import secrecy, secrecy_scan\n\n\n"
        "def pytest_configure(config):\n    secrecy_scan.install(config)\n\n\n"
        "def pytest_sessionfinish(session):\n"
        f"    if hasattr(session.config, 'workeroutput') == bool({processes}):\n"
        "        logging.getLogger('x').warning(secrecy.secret(odd=True))\n"
    )
    (tmp_path / "test_it.py").write_text("def test_it():\n    pass\n")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-n", str(processes), str(tmp_path)],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )
    assert done.returncode == pytest.ExitCode.TESTS_FAILED, done.stdout + done.stderr
    assert "a secret has shown itself after the last test" in done.stdout


def test_the_report_of_a_leak_does_not_repeat_it() -> None:
    password = secret(odd=True)
    assert hide(f"a {password} b {password!r}") == "a <SECRET> b '<SECRET>'"


def test_each_file_has_its_own_secrets() -> None:
    password = secret()
    forget()
    assert hide(password) == password
