"""Fails every test in which a secret shows itself, whatever the test is about.

Looked through, for all secrets that the tests of the same file have used: log records of every level with their
errors; standard output and error; warnings; the errors of `nats_zio` when they are made; what `pytest.raises` catches
and what ends a test, with traceback, notes, causes, contexts, groups and attributes; every event of every client, with
its error; clients, options, servers, TLS and Auth as text. A conftest installs it: `secrecy_scan.install(config)`.

Tracebacks are looked through as they are printed. The variables of their frames are not: who has the frames has the
memory.
"""

from __future__ import annotations

import functools
import logging
import ssl
import threading
import traceback
import warnings
from collections.abc import Callable, Generator, Iterator, Mapping
from pathlib import Path
from typing import Any

import nkeys
import pytest

import nats_zio
from nats_zio import client, core, options, servers, tls
from nats_zio.protocol import Error
from nats_zio.transport.proxy import Proxy
from tests import secrecy

_MAX_EXCERPT = 300
_FOUND_LATE = "secrets found after the last test"

Undo = Callable[[], None]


class Scan:
    """The plugin. One for a run; several threads report to it."""

    def __init__(self) -> None:
        self._findings: list[str] = []
        self._lock = threading.Lock()
        self._busy = threading.local()
        self._path: Path | None = None

    # Looking.

    def text(self, channel: str, text: str) -> None:
        """Look through a text."""
        what = secrecy.find(text)
        if what is None:
            return
        hidden = secrecy.hide(text)
        at = max(hidden.find("<SECRET>") - _MAX_EXCERPT // 2, 0)
        with self._lock:
            self._findings.append(f"{what} in {channel}: {hidden[at : at + _MAX_EXCERPT]}")

    def error(self, channel: str, error: BaseException) -> None:
        """Look through an error: as it is printed, and what it holds."""
        self.text(channel, "".join(traceback.format_exception(error)))
        seen: set[int] = set()
        queue: list[BaseException | None] = [error]
        while queue:
            exc = queue.pop()
            if exc is None or id(exc) in seen:
                continue
            seen.add(id(exc))
            self.text(channel, f"{exc!r} {exc.args!r} {vars(exc) if hasattr(exc, '__dict__') else ''}")
            queue += [exc.__cause__, exc.__context__]
            if isinstance(exc, BaseExceptionGroup):
                queue += exc.exceptions
            queue += getattr(exc, "errors", {}).values() if isinstance(exc, nats_zio.NoServersError) else ()

    def shown(self, channel: str, *things: object) -> None:
        """Look through the things as text. What is being made may not be whole yet."""
        for thing in things:
            self.text(channel, f"{thing!r} {thing!s}")

    def event(self, inside: core.Core, event: object) -> None:
        """Look through an event, and the client that it came from."""
        nc = client.Client.__new__(client.Client)
        nc._core = inside
        self.shown("an event", event)
        error = getattr(event, "error", None)
        if isinstance(error, BaseException):
            self.error("the error of an event", error)
        self.shown("a client", nc, nc.options, nc.servers, nc.discovered_servers, nc.connected_url, nc.server_info)

    def look(self, fn: Callable[..., None], *args: Any) -> None:
        """Call one of the above; but not from within one of them: making a text of things may log, warn and raise."""
        if not getattr(self._busy, "now", False):
            self._busy.now = True
            try:
                fn(*args)
            finally:
                self._busy.now = False

    def take_findings(self) -> list[str]:
        with self._lock:
            found, self._findings = self._findings, []
        return list(dict.fromkeys(found))

    # Hooks.

    @pytest.hookimpl
    def pytest_collection_finish(self) -> None:
        secrecy.imported()

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_setup(self, item: pytest.Item) -> None:
        if item.path != self._path:
            self._path = item.path
            secrecy.forget()

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_makereport(
        self, item: pytest.Item, call: pytest.CallInfo[None]
    ) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        report = yield
        excinfo = call.excinfo
        if excinfo is not None and not excinfo.errisinstance((AssertionError, pytest.fail.Exception)):
            # Not the assertions: they show what a test that fails has compared.
            self.look(self.error, "the error that ended the test", excinfo.value)
        if report.when != "teardown":
            return report
        for name, text in report.sections:
            self.look(self.text, name.lower(), text)
        found = self.take_findings()
        if found:
            before = f"{report.longreprtext}\n" if report.failed else ""
            report.outcome = "failed"
            report.longrepr = f"{before}a secret has shown itself:\n  " + "\n  ".join(found)
        return report

    @pytest.hookimpl(wrapper=True, trylast=True)  # a worker's wrapper, further out, sends what is found here
    def pytest_sessionfinish(self, session: pytest.Session) -> Generator[None]:
        result = yield
        found = self.take_findings()  # of what went on between and after the tests
        output = getattr(session.config, "workeroutput", None)
        if output is not None:  # one of several processes: the first one tells, see below
            output[_FOUND_LATE] = found
        elif found:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED
            print("\na secret has shown itself after the last test:\n  " + "\n  ".join(found))
        return result

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any) -> None:
        """In the first of several processes, at the end of another one."""
        with self._lock:
            self._findings += getattr(node, "workeroutput", {}).get(_FOUND_LATE, ())


class _Handler(logging.Handler):
    """At the root of all loggers."""

    def __init__(self, scan: Scan) -> None:
        super().__init__(logging.NOTSET)
        self._scan = scan

    def emit(self, record: logging.LogRecord) -> None:
        self._scan.look(self._look, record)

    def _look(self, record: logging.LogRecord) -> None:
        self._scan.text("the log", f"{record.getMessage()} {record.args!r} {record.stack_info or ''}")
        if record.exc_info and record.exc_info[1] is not None:
            self._scan.error("an error in the log", record.exc_info[1])


def _after(owner: Any, name: str, act: Callable[..., None]) -> Undo:
    """After each call of `owner.name` that returns, `act` gets its arguments; returns what undoes that."""
    original = getattr(owner, name)
    own = name in vars(owner)

    @functools.wraps(original)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        result = original(*args, **kwargs)
        act(*args, **kwargs)
        return result

    setattr(owner, name, wrapper)
    return lambda: setattr(owner, name, original) if own else delattr(owner, name)


def _before(owner: Any, name: str, act: Callable[..., None]) -> Undo:
    """Like `_after`, before the call."""
    original = getattr(owner, name)
    own = name in vars(owner)

    @functools.wraps(original)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        act(*args, **kwargs)
        return original(*args, **kwargs)

    setattr(owner, name, wrapper)
    return lambda: setattr(owner, name, original) if own else delattr(owner, name)


def _record_fields(*names: str) -> Callable[[Any], None]:
    def record(thing: Any) -> None:
        for name in names:
            value = getattr(thing, name)
            if isinstance(value, (str, bytes)) and value:
                secrecy.record(value, name)

    return record


def _record_userinfo(urls: Any) -> None:
    """As it stands in the URLs: they may be none, or be encoded in an unusual way."""
    if not isinstance(urls, (str, list, tuple)):
        return
    given = [urls] if isinstance(urls, str) else urls
    texts = [str.__str__(url) for url in given if isinstance(url, str)]
    for url in [part for text in texts for part in text.split(",")] if isinstance(urls, str) else texts:
        if "@" in url:
            userinfo = url.rpartition("@")[0].rpartition("://")[2]
            secrecy.record(userinfo.partition(":")[2] or userinfo, "userinfo")
        if len(query := url.partition("?")[2]) >= secrecy.SHORTEST:
            secrecy.record(query, "query")


def _record_transport(checked: options.Options) -> None:
    if isinstance(checked.proxy, str):
        userinfo = checked.proxy.rpartition("@")[0].rpartition("://")[2]
        if len(password := userinfo.partition(":")[2]) >= secrecy.SHORTEST:
            secrecy.record(password, "password of the proxy")
    if isinstance(checked.ws_headers, Mapping):
        for name, value in checked.ws_headers.items():
            if name.lower() in {"authorization", "cookie"} and isinstance(value, str):
                secrecy.record(value, name.lower())


def _record_key(_context: object, certfile: Any, keyfile: Any = None, *_: Any, **__: Any) -> None:
    file = Path(keyfile if keyfile is not None else certfile)
    if file.is_file() and b"PRIVATE KEY" in (data := file.read_bytes()):
        secrecy.record(data)


def _record_seed(seed: bytes) -> None:
    secrecy.record(bytes(seed), "seed")


def _record_credentials(checked: options.Options) -> None:
    if isinstance(checked.credentials, bytes):
        secrecy.record(checked.credentials, "credentials")


def _what_is_secret() -> Iterator[Undo]:
    yield _before(client, "parse_servers", _record_userinfo)
    yield _after(servers.Server, "__init__", lambda self, *_, **__: _record_fields("password", "token")(self))
    yield _before(options.Options, "__post_init__", _record_fields("password", "token", "nkey_seed"))
    yield _before(options.Options, "__post_init__", _record_credentials)
    yield _before(options.Options, "__post_init__", _record_transport)
    yield _before(nats_zio.Auth, "__post_init__", _record_fields("password", "token", "jwt"))
    yield _after(Proxy, "__init__", lambda self, *_, **__: _record_fields("password")(self))
    yield _before(nkeys, "from_seed", _record_seed)
    yield _before(ssl.SSLContext, "load_cert_chain", _record_key)


def _where_it_must_not_be(scan: Scan) -> Iterator[Undo]:
    yield _after(options.Options, "__post_init__", lambda self: scan.look(scan.shown, "options", self))
    yield _after(tls.TLS, "__post_init__", lambda self: scan.look(scan.shown, "a TLS", self))
    yield _after(nats_zio.Auth, "__post_init__", lambda self: scan.look(scan.shown, "an Auth", self))
    yield _after(servers.Server, "__init__", lambda self, *_, **__: scan.look(scan.shown, "a server", self))
    yield _after(Proxy, "__init__", lambda self, *_, **__: scan.look(scan.shown, "a proxy", self))
    yield _after(core.Core, "emit", lambda self, event: scan.look(scan.event, self, event))

    def init(self: Error, *args: Any, **options: Any) -> None:
        super(Error, self).__init__(*args, **options)
        scan.look(scan.shown, "an error that was made", self, self.args)

    type.__setattr__(Error, "__init__", init)
    yield lambda: type.__delattr__(Error, "__init__")

    def look_at_caught(_self: object, _kind: object, error: BaseException | None, _traceback: object) -> None:
        if error is not None:
            scan.look(scan.error, "an error that a test has caught", error)

    yield _before(pytest.RaisesExc, "__exit__", look_at_caught)
    yield _before(pytest.RaisesGroup, "__exit__", look_at_caught)

    def look_at_warning(_self: object, message: object, *_: Any, **__: Any) -> None:
        scan.look(scan.shown, "a warning", message)

    yield _before(warnings.WarningMessage, "__init__", look_at_warning)


def install(config: pytest.Config) -> None:
    """Scan this run of tests."""
    scan = Scan()
    for undo in (*_what_is_secret(), *_where_it_must_not_be(scan)):
        config.add_cleanup(undo)
    handler = _Handler(scan)
    logging.getLogger().addHandler(handler)
    config.add_cleanup(lambda: logging.getLogger().removeHandler(handler))
    for name in ("nats_zio", "zio"):
        logging.getLogger(name).setLevel(logging.DEBUG)
    config.pluginmanager.register(scan, "secrecy-scan")
