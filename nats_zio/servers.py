"""Server addresses: URLs read into parts, and shown without their secrets."""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from ipaddress import ip_address
from urllib.parse import unquote, urlsplit

from .errors import OptionError

_DEFAULT_PORT = 4222
_BLANK = re.compile(r"[\s\x00-\x20\x7f]")
_SCHEMES = ("nats", "tls")


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

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}:{self.port}"


def parse_server(url: str) -> Server:
    """Read one URL; scheme and port may be left out. OptionError (without the credentials) if it is none."""
    text = _text(url).strip()
    if "://" not in text:
        text = f"nats://{text}"
    shown = _without_userinfo(text)
    if _BLANK.search(shown):  # urlsplit takes blanks, and drops line ends without a word
        raise OptionError(f"server URL {shown!r}: no whitespace or control characters")
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError as exc:
        raise OptionError(f"server URL {shown!r}: {exc}") from None
    if parts.scheme not in _SCHEMES:
        raise OptionError(f"server URL {shown!r}: the scheme must be one of {', '.join(_SCHEMES)}")
    if not parts.hostname:
        raise OptionError(f"server URL {shown!r} has no host")
    if parts.path not in ("", "/") or parts.query or parts.fragment:
        raise OptionError(f"server URL {shown!r}: nothing may follow host and port")
    if port == 0:
        raise OptionError(f"server URL {shown!r}: port 0 cannot be connected to")
    user = None if parts.username is None else unquote(parts.username)
    password = None if parts.password is None else unquote(parts.password)
    token = None
    if user is not None and password is None:
        user, token = None, user
    return Server(parts.hostname, port or _DEFAULT_PORT, user or None, password, token or None, parts.scheme)


def parse_servers(urls: str | list[str] | tuple[str, ...]) -> list[Server]:
    """Read one URL, several in one text separated by commas, or a list."""
    texts = urls.split(",") if isinstance(urls, str) else list(urls)
    servers = [parse_server(text) for text in texts if _text(text).strip()]
    if not servers:
        raise OptionError(f"no server URL in {urls!r}")
    return servers


def discovered_server(address: str, connected: Server, encrypted: bool) -> Server | None:
    """The server of an ``address`` (``host:port``) in the INFO of the ``connected`` one; None if it is no address."""
    try:
        found = parse_server(f"{connected.scheme}://{address}")
    except OptionError:
        return None
    name = connected.tls_name or connected.host
    return replace(
        found,
        user=connected.user,
        password=connected.password,
        token=connected.token,
        scheme="tls" if encrypted else connected.scheme,
        # Certificates are for names: a number goes by the name of the server that told us.
        tls_name=name if _is_ip(found.host) and not _is_ip(name) else None,
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
    return url


def _without_userinfo(text: str) -> str:
    scheme, _, rest = text.partition("://")
    return f"{scheme}://{rest.rpartition('@')[2]}"
