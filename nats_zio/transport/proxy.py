"""Through an HTTP proxy, by CONNECT: a tunnel that carries whatever the server speaks.

The name of the server is resolved by the proxy. The proxy's credentials go to the proxy alone, and are shown nowhere;
neither are the words of its answer, which are not ours.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from zio.net import Stream

from ..errors import OptionError, ProxyError
from ..servers import authority
from ..user_functions import Raised, check_plain
from . import addresses
from .http import host_header, status_text

if TYPE_CHECKING:
    from random import Random

    from ..servers import Server
    from ..user_functions import UserFunctions

Dialer = Callable[[str, int], Stream]

MAX_ANSWER = 16 << 10  # bytes of the head of the proxy's answer
_STATUS = re.compile(rb"HTTP/1\.[01] ([1-5][0-9][0-9])(?: [^\r\n]*)?\r\n")
_RULE = "must be http://host:port, with user:password@ before the host if the proxy asks for them"


@dataclass(frozen=True, slots=True)
class Proxy:
    """An HTTP proxy. ``str()`` shows no secret."""

    host: str
    port: int
    user: str | None = field(default=None, repr=False)
    password: str = field(default="", repr=False)

    def __str__(self) -> str:
        return f"http://{authority(self.host, self.port)}"


def check_proxy(value: object) -> None:
    """OptionError if this cannot be the option ``proxy``."""
    if isinstance(value, str):
        _parse(value)
    elif value is not None and not callable(value):
        raise OptionError(f"proxy must be a URL or a function, not {type(value).__name__}")
    else:
        check_plain("proxy", value)


def ask_dialer(dialer: Dialer, server: Server, user_functions: UserFunctions) -> Stream:
    """A stream to ``server`` from the user's own function, called here; the exceptions that it raises."""
    try:
        stream: object = user_functions.call_here(dialer, server.host, server.port)
    except Raised as raised:
        if not isinstance(raised.error, Exception):
            raise ProxyError(f"proxy= raised {type(raised.error).__name__}") from raised.error
        error = raised.error
    else:
        if not isinstance(stream, Stream):
            raise OptionError(f"proxy= returned {type(stream).__name__}, not a zio.net.Stream")
        return stream
    try:
        raise error  # out here, so that its own cause and context stay
    finally:
        del error


def connect_through(proxy: str, server: Server, *, deadline: float, shuffle: Random | None) -> Stream:
    """A stream to ``server`` through the proxy. OSError; ProxyError is one."""
    parsed = _parse(proxy)
    try:
        stream = addresses.connect(parsed.host, parsed.port, deadline=deadline, shuffle=shuffle)
    except OSError as exc:
        raise ProxyError(f"the proxy {parsed} cannot be reached: {exc}") from exc
    try:
        _ask(stream, parsed, server)
    except BaseException:
        stream.close()
        raise
    return stream


def _ask(stream: Stream, proxy: Proxy, server: Server) -> None:
    """CONNECT, up to the end of the proxy's answer. What the server says behind it stays unread."""
    target = host_header(server.host, server.port).encode()
    request = b"CONNECT %b HTTP/1.1\r\nHost: %b\r\n" % (target, target)
    if proxy.user is not None:
        request += b"Proxy-Authorization: Basic %b\r\n" % base64.b64encode(f"{proxy.user}:{proxy.password}".encode())
    problem = ""
    try:
        stream.send_all(request + b"\r\n")
        head = stream.recv_until(b"\r\n\r\n", MAX_ANSWER)
    except OSError as exc:
        problem = f"broke the connection off: {exc}"
    except EOFError:
        problem = "closed the connection instead of answering"
    except ValueError:
        problem = f"gave an answer whose head does not end within {MAX_ANSWER} bytes"
    if problem:
        raise ProxyError(f"the proxy {proxy} {problem}")
    found = _STATUS.match(head)
    if found is None:
        raise ProxyError(f"the proxy {proxy} gave an answer that is not HTTP/1")
    status = int(found[1])
    if not 200 <= status < 300:
        raise ProxyError(f"the proxy {proxy} does not connect us to {server}: {status_text(status)}", status)


def _parse(url: str) -> Proxy:
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:  # its text may quote a part of a password
        parts = None
    if parts is None:
        raise OptionError(f"proxy {_RULE}")
    scheme = parts.scheme if "://" in url and parts.scheme.isalnum() else ""
    if scheme != "http":
        problem = f", not {scheme}://" if scheme else ""
        raise OptionError(f"proxy {_RULE}{problem}")
    if not parts.hostname or port == 0 or parts.path not in ("", "/") or parts.query or parts.fragment:
        raise OptionError(f"proxy {_RULE}")
    if re.search(r"[\x00-\x20\x7f]", url):
        raise OptionError("proxy: spaces and control characters of the URL must be percent-encoded")
    user = None if parts.username is None else unquote(parts.username)
    if user is not None and ":" in user:
        raise OptionError("proxy: there can be no colon in the name of a user")
    return Proxy(parts.hostname, port or 80, user, unquote(parts.password or ""))
