"""What holds for every test of this repository.

No test leaves anything behind: the fixture `leak_check` is in force everywhere and compares threads, open file
descriptors and child processes before and after each test. It never waits: what a test started must be *gone*, not
going, when the test ends. Tests that need an exception say so:

* the process-wide background runtime (a plain thread that calls `nats_zio.connect`, `zio.background()`) is started once
  and stays, by design. A test that uses it asks for the fixture `background_runtime`, which closes it afterwards; our
  `nats_client` does that too.
* `leak_check.at_end(function)` runs a function just before the comparison, in a test's own words.
* `@pytest.mark.leaks("reason")` switches the comparison off.

No test lets a secret show itself: see `tests.secrecy_scan`.

What a session-scoped fixture starts exists before the first comparison and so is no leak.
"""

from __future__ import annotations

import _thread
import contextlib
import gc
import os
import signal
import sys
import threading
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import settings

from nats_zio.testing import NatsServer
from tests import secrecy_scan
from zio.lowlevel import wait_logged

# Deadlines make tests fail on a busy machine; the time limit of each test is what guards against hangs.
settings.register_profile("nats-zio", deadline=None, print_blob=True)
settings.load_profile("nats-zio")

# Shells have programs in the background ignore Control-C, and children inherit that: tests of it would fail.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

_failed = pytest.StashKey[bool]()
_TOLD = "told"


def pytest_configure(config: pytest.Config) -> None:
    secrecy_scan.install(config)
    if hasattr(config, "workerinput"):
        _disregard_threads_of_the_worker()


def _disregard_threads_of_the_worker() -> None:
    """One of several processes has a thread that hears from the first one: for the tests, it cannot wake anybody."""
    from zio._core import native_threads

    there = {int(entry) for entry in os.listdir("/proc/self/task")} if sys.platform == "linux" else set()  # noqa: PTH208
    number = _thread._count()
    unknown = native_threads._without_watchdog
    native_threads._without_watchdog = lambda threads: unknown(threads - there)
    native_threads._thread = SimpleNamespace(_count=lambda: _thread._count() - number)  # type: ignore[assignment, attr-defined]


def _open_files() -> dict[int, str]:
    """fd -> what it is; the numbers alone would miss a file closed and another opened under its number."""
    found: dict[int, str] = {}
    where = "/proc/self/fd" if sys.platform == "linux" else "/dev/fd"
    for name in os.listdir(where):  # noqa: PTH208  (Path would be slower, and this runs twice for every test)
        # The fd of the listing itself is closed by now.
        with contextlib.suppress(OSError):
            found[int(name)] = (
                str(Path(f"{where}/{name}").readlink()) if sys.platform == "linux" else str(os.fstat(int(name)))
            )
    return found


def _threads() -> dict[int, str]:
    """Thread id -> name, also of threads that the threading module did not start."""
    names = {thread.ident: repr(thread) for thread in threading.enumerate()}
    return {ident: names.get(ident, f"<thread {ident}>") for ident in sys._current_frames()}


def _children() -> dict[int, str]:
    """Process id -> command of every child, zombies included."""
    if sys.platform != "linux":
        return {}
    found: dict[int, str] = {}
    for task in os.listdir("/proc/self/task"):  # noqa: PTH208
        with contextlib.suppress(OSError):
            for pid in Path(f"/proc/self/task/{task}/children").read_text().split():
                found[int(pid)] = _command(pid)
    return found


def _command(pid: str) -> str:
    try:
        command = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode("utf-8", "replace").strip()
    except OSError:
        command = ""
    return command or "<zombie>"


class LeakCheck:
    """State before a test, and what must be done before it is compared with the state after."""

    def __init__(self) -> None:
        self._at_end: list[Callable[[], object]] = []
        self._before = self._look()

    def at_end(self, function: Callable[[], object]) -> None:
        """Call `function` before the comparison; the last one added goes first."""
        self._at_end.append(function)

    def finish(self) -> None:
        while self._at_end:
            self._at_end.pop()()

    def leaks(self) -> list[str]:
        wait_logged()
        found = self._compare()
        if found:
            gc.collect()  # cycles that hold a file are no leak
            found = self._compare()
        return found

    @staticmethod
    def _look() -> dict[str, dict[int, str]]:
        return {"thread": _threads(), "child process": _children(), "fd": _open_files()}

    def _compare(self) -> list[str]:
        # The name of a thread and the command of a process may change; the identity of an fd is what it points to.
        return [
            f"{kind} {number}: {what}"
            for kind, after in self._look().items()
            for number, what in after.items()
            if number not in (before := self._before[kind]) or (kind == "fd" and before[number] != what)
        ]


class LoggedLines:
    """pytest's `caplog`; whoever looks at it finds all that was put aside to be logged."""

    def __init__(self, caplog: pytest.LogCaptureFixture) -> None:
        self._caplog = caplog

    def __getattr__(self, name: str) -> Any:
        wait_logged()
        return getattr(self._caplog, name)


@pytest.fixture
def caplog(caplog: pytest.LogCaptureFixture) -> LoggedLines:
    return LoggedLines(caplog)


@pytest.fixture(autouse=True)
def leak_check(request: pytest.FixtureRequest) -> Iterator[LeakCheck]:
    """Fail the test if it leaves a thread, an open file or a child process behind."""
    check = LeakCheck()
    yield check
    check.finish()
    if request.node.get_closest_marker("leaks") is not None:
        return
    leaks = check.leaks()
    # The traceback of a failed test keeps its objects alive: one report is enough.
    if leaks and not request.node.stash.get(_failed, False):
        pytest.fail("the test left behind:\n  " + "\n  ".join(leaks), pytrace=False)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if report.failed and call.when != "teardown":
        item.stash[_failed] = True
    return report


@pytest.fixture
def tell(request: pytest.FixtureRequest) -> Callable[[str], None]:
    """Have a text shown at the end of the run, also of a test that passes and in whatever process it ran."""
    return lambda text: request.node.user_properties.append((_TOLD, text))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    for reports in terminalreporter.stats.values():
        for report in reports:
            if getattr(report, "when", "") == "call":
                for text in (text for kind, text in report.user_properties if kind == _TOLD):
                    terminalreporter.section(report.nodeid)
                    terminalreporter.write_line(text)


@pytest.fixture
def in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tasks run in the order in which they became ready, though the suite may run with a seed."""
    monkeypatch.delenv("ZIO_SCHED_SEED", raising=False)


@pytest.fixture
def background_runtime() -> Iterator[Any]:
    """`zio.background()`, closed after the test so that its thread and descriptors are gone."""
    import zio

    runtime = zio.background()
    yield runtime
    runtime.close()


@pytest.fixture
def server() -> Iterator[NatsServer]:
    """A nats-server of the test's own, to stop, kill, freeze and restart. No JetStream."""
    with NatsServer() as started:
        yield started


@pytest.fixture
def js_server() -> Iterator[NatsServer]:
    """As `server`, with JetStream."""
    with NatsServer(jetstream=True) as started:
        yield started


@pytest.fixture
def nats_client(nats_server: NatsServer, background_runtime: Any) -> Iterator[Any]:
    """The plugin's `nats_client`, without the background runtime that it would leave behind."""
    import nats_zio

    client = nats_zio.connect(nats_server.url)
    try:
        yield client
    finally:
        client.close()
