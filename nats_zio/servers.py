"""Server addresses: URLs read into parts, and shown without their secrets."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from ipaddress import ip_address
from typing import TYPE_CHECKING
from urllib.parse import SplitResult, quote, unquote, urlsplit

from .errors import OptionError
from .protocol import plain

if TYPE_CHECKING:
    from .protocol import ServerInfo

_PORTS = {"nats": 4222, "tls": 4222, "ws": 80, "wss": 443}
_SCHEMES = (*_PORTS, "unix")
_BLANK = re.compile(r"[\s\x00-\x20\x7f]")


@dataclass(frozen=True, slots=True)
class Server:
    """One server to connect to. Credentials of its URL win over the options. ``str()`` shows no secret."""

    host: str
    port: int
    user: str | None = field(default=None, repr=False)
    password: str | None = field(default=None, repr=False)
    token: str | None = field(default=None, repr=False)
    scheme: str = "nats"
    tls_name: str | None = None  # what its certificate is for, where that is not its host
    target: str = field(default="", repr=False)  # ws and wss: path and query, which may hold a secret
    path: str = ""  # unix: of the socket; then there is no host

    def __str__(self) -> str:
        if self.scheme == "unix":
            return f"unix://{quote(self.path)}"
        return f"{self.scheme}://{authority(self.host, self.port)}{self.target.partition('?')[0]}"

    @property
    def websocket(self) -> bool:
        return self.scheme in ("ws", "wss")


def authority(host: str, port: int) -> str:
    """Host and port as they stand in a URL."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def parse_server(url: str) -> Server:
    """Read one URL; scheme and port may be left out. OptionError (without the credentials) if it is none."""
    text = _text(url)
    return _parse(text, shown_url(text))


def parse_servers(urls: str | list[str] | tuple[str, ...]) -> list[Server]:
    """Read one URL, several in one text separated by commas, or a list."""
    if isinstance(urls, (bytes, bytearray, Mapping)) or not isinstance(urls, Iterable):
        # Not the value itself: it may have a password in it.
        raise OptionError(f"servers must be a URL, several separated by commas, or a list, not {type(urls).__name__}")
    urls = plain(urls)
    texts = urls.split(",") if isinstance(urls, str) else list(map(_text, urls))
    # A comma in a password would have made two of one URL, and the first half would not look like a secret.
    doubtful = isinstance(urls, str) and len(texts) > 1 and "@" in urls
    servers = []
    for number, text in enumerate(texts, 1):
        if text.strip():
            shown = f"number {number} of {len(texts)}" if doubtful and "@" not in text else shown_url(text)
            servers.append(_parse(text, shown))
    if not servers:
        raise OptionError(f"no server URL in {urls!r}")
    return servers


def shown_url(url: str) -> str:
    """What may be shown of a URL, be it one or not: all but what stands before the host, and the query."""
    scheme, found, rest = url.strip().partition("://")
    if not found:
        scheme, rest = "nats", scheme
    before, _, after = rest.rpartition("@")
    if "?" in before:  # a password that was not encoded, or a query with an @ in it
        return repr(f"{scheme}://...")
    return repr(f"{scheme}://{after.partition('?')[0]}")


def _parse(text: str, shown: str) -> Server:
    text = text.strip()
    if "://" not in text:
        text = f"nats://{text}"
    if _BLANK.search(text):  # urlsplit takes blanks, and drops line ends without a word
        raise OptionError(f"server URL {shown}: no whitespace or control characters; %20 is a blank")
    try:
        parts = urlsplit(text)
        port = parts.port
        userinfo = [
            None if part is None else unquote(part, errors="strict") for part in (parts.username, parts.password)
        ]
    except ValueError:  # its text may quote a part of a password
        parts = None
    if parts is None:
        raise OptionError(
            f"server URL {shown}: not scheme://user:password@host:port, with a port up to 65535 and, in user and "
            f"password, everything but letters and digits percent-encoded as UTF-8"
        )
    if parts.scheme not in _SCHEMES:
        raise OptionError(f"server URL {shown}: the scheme must be one of {', '.join(_SCHEMES)}")
    if port == 0:
        raise OptionError(f"server URL {shown}: port 0 cannot be connected to")
    if parts.fragment:
        raise OptionError(f"server URL {shown}: it ends in a fragment, which means nothing here")
    user, password = userinfo
    if password and not user:
        raise OptionError(f"server URL {shown}: a password without a user")
    token = None
    if user is not None and password is None:
        user, token = None, user
    user, token = user or None, token or None
    if parts.scheme == "unix":
        return Server("", 0, user, password, token, "unix", path=_socket_path(parts, port, shown))
    if not parts.hostname:
        raise OptionError(f"server URL {shown} has no host")
    target = _target(parts, shown)
    return Server(parts.hostname, port or _PORTS[parts.scheme], user, password, token, parts.scheme, target=target)


def _target(parts: SplitResult, shown: str) -> str:
    """Path and query; empty for the path that is there anyway."""
    target = parts.path + (f"?{parts.query}" if parts.query else "")
    if target in ("", "/"):
        return ""
    if parts.scheme not in ("ws", "wss"):
        raise OptionError(f"server URL {shown}: nothing may follow host and port")
    if not target.isascii():
        raise OptionError(f"server URL {shown}: the path must be percent-encoded")
    return target if target.startswith("/") else f"/{target}"


def _socket_path(parts: SplitResult, port: int | None, shown: str) -> str:
    path = unquote(parts.path)
    if parts.hostname or port or parts.query or path.endswith("/") or not path or "\0" in path:
        raise OptionError(f"server URL {shown}: not unix:// and the absolute path of a socket, unix:///run/nats.sock")
    return path


def advertised(info: ServerInfo, connected: Server) -> tuple[str, ...]:
    """The addresses that INFO names for connections like the one to ``connected``.

    None for unix: who was told to use a socket (of a sidecar, say) does not go around it.
    """
    if connected.scheme == "unix":
        return ()
    if connected.websocket:  # where the server itself speaks WebSocket, it puts those addresses into connect_urls
        return info.ws_connect_urls or info.connect_urls
    return info.connect_urls


def discovered_server(address: str, connected: Server, encrypted: bool) -> Server | None:
    """The server of an ``address`` (``host:port``) in the INFO of the ``connected`` one; None if it is no address."""
    scheme = connected.scheme
    if encrypted:
        scheme = "wss" if connected.websocket else "tls"
    try:
        found = parse_server(f"{scheme}://{address}")
    except OptionError:
        return None
    name = connected.tls_name or connected.host
    return replace(
        found,
        user=connected.user,
        password=connected.password,
        token=connected.token,
        # Certificates are for names: a number goes by the name of the server that told us.
        tls_name=name if _is_ip(found.host) and not _is_ip(name) else None,
        target=connected.target,
    )


def _is_ip(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True


def _text(url: object) -> str:
    if not isinstance(url, str):
        raise OptionError(f"a server URL must be a str, not {type(url).__name__}")
    return plain(url)
