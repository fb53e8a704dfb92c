"""The options of ``connect``, checked before anything is opened."""

from __future__ import annotations

import os
from dataclasses import dataclass, field, fields
from numbers import Real
from typing import TYPE_CHECKING, Any, Literal, get_args

from .auth import Auth, check_credentials, check_seed, is_no_path
from .errors import OptionError
from .protocol import BadSubjectError, check_inbox_prefix, plain
from .tls import TLS, check_tls
from .transport import check_proxy, check_ws_headers
from .user_functions import check_plain

if TYPE_CHECKING:
    from collections.abc import Callable
    from ssl import SSLContext

    from .auth import AuthSource
    from .events import Event
    from .protocol import ServerInfo
    from .transport.proxy import Dialer
    from .transport.ws_headers import HeaderSource

    # The servers' URLs and the last INFO in; out the URL to try next and the seconds to wait before, or one, or none.
    NextServer = Callable[[list[str], ServerInfo], tuple[str | None, float | None] | str | None]

Overflow = Literal["drop_new", "drop_old", "block", "error"]
RunCallbacks = Literal["task", "thread"]

_TEXTS = (
    "name",
    "user",
    "password",
    "token",
    "nkey_seed",
    "credentials",
    "proxy",
    "inbox_prefix",
    "run_callbacks",
    "overflow",
)
_SWITCHES = (
    "allow_reconnect",
    "abort_on_auth_error",
    "retry_on_failed_connect",
    "lazy",
    "ignore_discovered_servers",
    "no_randomize",
    "no_echo",
    "verbose",
    "pedantic",
    "skip_subject_validation",
    "ws_compression",
)
OVERFLOWS: tuple[str, ...] = get_args(Overflow)


class _LeftOut:
    """In place of an argument that was left out: what the client's options say."""

    def __repr__(self) -> str:
        return "<the client's>"


DEFAULT: Any = _LeftOut()


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What ``connect`` accepts. Times are seconds, sizes bytes.

    ``run_callbacks``: handlers run as tasks of the client's loop (``task``, the default inside a runtime) or on
    worker threads, one per active subscription (``thread``, the default from plain threads). Limits of None
    mean no limit.

    Reconnecting: the first round through the servers begins at once; before each further one there is a wait, of
    ``reconnect_wait``, doubled each time up to ``reconnect_max_wait``, plus up to ``reconnect_jitter`` of it; or of
    ``reconnect_delay(round)``, rounds counted from 1. ``next_server(urls, info)`` may choose the server to try and the
    wait before. A server that has failed ``max_reconnect_attempts`` times since its last success is given up; with none
    left the client closes. ``on_event`` is called with each event, one at a time, where handlers run.

    With ``skip_subject_validation`` subjects are checked only for what would break the protocol: they are not empty and
    have no whitespace; what their tokens mean is left to the server.

    Who we are is one of ``user`` and ``password``, ``token``, ``nkey_seed``, ``credentials`` (the path of a file, or
    its bytes) and ``auth``, a function called as ``auth(server_info)`` for each connection that returns an
    :class:`nats_zio.Auth`. Files are read again for each connection. The credentials of a URL win for that server.

    ``proxy``: the URL of an HTTP proxy, ``http://user:password@host:port``, through which all servers but unix sockets
    are reached; or a function called as ``proxy(host, port)`` in the client's own loop, which returns the
    ``zio.net.Stream`` to use. ``ws_headers``: headers of the WebSocket upgrade, a mapping or a function called for each
    connection that returns one. ``ws_compression`` asks for permessage-deflate.
    """

    name: str | None = None
    user: str | None = field(default=None, repr=False)
    password: str | None = field(default=None, repr=False)
    token: str | None = field(default=None, repr=False)
    nkey_seed: str | bytes | None = field(default=None, repr=False)
    credentials: str | os.PathLike[str] | bytes | None = field(default=None, repr=False)
    auth: AuthSource | Auth | None = field(default=None, repr=False)
    abort_on_auth_error: bool = True
    tls: TLS | SSLContext | bool | None = None
    proxy: str | Dialer | None = field(default=None, repr=False)
    ws_headers: HeaderSource | None = field(default=None, repr=False)
    ws_compression: bool = False
    connect_timeout: float = 5.0
    request_timeout: float = 5.0
    ping_interval: float = 30.0
    max_outstanding_pings: int = 2
    run_callbacks: RunCallbacks | None = None
    allow_reconnect: bool = True
    max_reconnect_attempts: int | None = None
    reconnect_wait: float = 0.1
    reconnect_max_wait: float = 8.0
    reconnect_jitter: float = 0.1
    reconnect_delay: Callable[[int], float] | None = None
    reconnect_buffer_size: int = 8 << 20
    retry_on_failed_connect: bool = False
    lazy: bool = False
    next_server: NextServer | None = None
    ignore_discovered_servers: bool = False
    on_event: Callable[[Event], object] | None = None
    no_randomize: bool = False
    no_echo: bool = False
    verbose: bool = False
    pedantic: bool = False
    skip_subject_validation: bool = False
    inbox_prefix: str = "_INBOX"
    pending_msgs: int | None = 65_536
    pending_bytes: int | None = 64 << 20
    overflow: Overflow = "drop_new"

    def __post_init__(self) -> None:
        for name in _TEXTS:
            value = getattr(self, name)
            if isinstance(value, str) and type(value) is not str:  # a member of an Enum, say
                object.__setattr__(self, name, plain(value))
        for name in ("connect_timeout", "request_timeout", "ping_interval"):
            self._positive(name)
        for name in ("reconnect_wait", "reconnect_max_wait", "reconnect_jitter", "reconnect_buffer_size"):
            value = getattr(self, name)
            if not _is_number(value) or value < 0:
                raise OptionError(f"{name}={value!r}: must be a number from 0 up")
        for name in ("max_outstanding_pings", "pending_msgs", "pending_bytes"):
            check_limit(name, getattr(self, name), none_allowed=name != "max_outstanding_pings")
        attempts: object = self.max_reconnect_attempts
        if attempts is not None and (not isinstance(attempts, int) or isinstance(attempts, bool) or attempts < -1):
            raise OptionError(f"max_reconnect_attempts={attempts!r}: must be None or -1 (no limit), or a count")
        for name in ("name", "user", "password", "token"):
            value = getattr(self, name)
            if value is not None and not isinstance(value, str):
                raise OptionError(f"{name} must be a str, not {type(value).__name__}")
        for name in _SWITCHES:
            value = getattr(self, name)
            if not isinstance(value, bool):
                raise OptionError(f"{name}={value!r}: must be True or False")
        for name in ("reconnect_delay", "next_server", "on_event"):
            value = getattr(self, name)
            if value is not None and not callable(value):
                raise OptionError(f"{name} must be a function, not {type(value).__name__}")
            check_plain(name, value)
        self._check_auth()
        check_tls(self.tls)
        check_proxy(self.proxy)
        check_ws_headers(self.ws_headers)
        if self.password is not None and self.user is None:
            raise OptionError("password without user")
        if self.run_callbacks not in (None, "task", "thread"):
            raise OptionError(f"run_callbacks={self.run_callbacks!r}: must be 'task' or 'thread'")
        check_overflow(self.overflow)
        try:
            check_inbox_prefix(self.inbox_prefix)
        except BadSubjectError as exc:
            raise OptionError(str(exc)) from None

    def _check_auth(self) -> None:
        ways = {
            "user and password": self.user if self.user is not None else self.password,
            "token": self.token,
            "nkey_seed": self.nkey_seed,
            "credentials": self.credentials,
            "auth": self.auth,
        }
        given = [name for name, value in ways.items() if value is not None]
        if len(given) > 1:
            raise OptionError(f"{' and '.join(given)} exclude each other")
        # Errors are raised outside of the except clauses, so that no secret hangs on them.
        problem = ""
        if isinstance(self.nkey_seed, (str, bytes)):
            try:
                check_seed(self.nkey_seed)
            except ValueError as exc:
                problem = f"nkey_seed: {exc}"
        elif self.nkey_seed is not None:
            problem = f"nkey_seed must be a str or bytes, not {type(self.nkey_seed).__name__}"
        if isinstance(self.credentials, bytes):
            try:
                check_credentials(self.credentials)
            except ValueError as exc:
                problem = f"credentials: {exc}"
        elif isinstance(self.credentials, (str, os.PathLike)):
            if is_no_path(str(self.credentials)):
                problem = "credentials: a str is the path of a file; give its text as bytes"
        elif self.credentials is not None:
            problem = f"credentials must be a path or bytes, not {type(self.credentials).__name__}"
        if self.auth is not None and not isinstance(self.auth, Auth) and not callable(self.auth):
            problem = f"auth must be a function or a nats_zio.Auth, not {type(self.auth).__name__}"
        if problem:
            raise OptionError(problem)
        check_plain("auth", self.auth)

    def _positive(self, name: str) -> None:
        value = getattr(self, name)
        if not _is_number(value) or not value > 0:
            raise OptionError(f"{name}={value!r}: must be a number of seconds above 0")


_NAMES = frozenset(item.name for item in fields(Options))


def make_options(values: dict[str, Any]) -> Options:
    """The options from keyword arguments; OptionError for names that do not exist."""
    unknown = sorted(set(values) - _NAMES)
    if unknown:
        raise OptionError(f"unknown option {', '.join(unknown)}; there are: {', '.join(sorted(_NAMES))}")
    return Options(**values)


def check_limit(name: str, value: object, *, none_allowed: bool = True) -> None:
    """A limit is a whole number from 1 up, or None for no limit."""
    if value is None and none_allowed:
        return
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise OptionError(f"{name}={value!r}: must be a whole number from 1 up" + ", or None" * none_allowed)


def check_timeout(value: object) -> None:
    """A number of seconds, or None for no limit. One below zero has passed already."""
    if value is None:
        return
    if not isinstance(value, Real) or isinstance(value, bool) or value != value:  # a NaN
        raise OptionError(f"timeout={value!r}: must be a number of seconds, or None")


def check_overflow(value: object) -> None:
    if value not in OVERFLOWS:
        raise OptionError(f"overflow={value!r}: must be one of {', '.join(OVERFLOWS)}")


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and value == value  # not NaN
