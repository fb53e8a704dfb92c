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
    return _parse(_text(url), shown_url(_text(url)))


def parse_servers(urls: str | list[str] | tuple[str, ...]) -> list[Server]:
    """Read one URL, several in one text separated by commas, or a list."""
    texts = urls.split(",") if isinstance(urls, str) else list(urls)
    # A comma in a password would have made two of one URL, and the first half would not look like a secret.
    doubtful = isinstance(urls, str) and len(texts) > 1 and "@" in urls
    servers = []
    for number, text in enumerate(texts, 1):
        if _text(text).strip():
            shown = f"number {number} of {len(texts)}" if doubtful and "@" not in text else shown_url(text)
            servers.append(_parse(text, shown))
    if not servers:
        raise OptionError(f"no server URL in {urls!r}")
    return servers


def shown_url(url: str) -> str:
    """What may be shown of a URL, be it one or not: all but what stands before the host."""
    scheme, found, rest = url.strip().partition("://")
    if not found:
        scheme, rest = "nats", scheme
    return repr(f"{scheme}://{rest.rpartition('@')[2]}")


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
    if not parts.hostname:
        raise OptionError(f"server URL {shown} has no host")
    if parts.path not in ("", "/") or parts.query or parts.fragment:
        raise OptionError(f"server URL {shown}: nothing may follow host and port")
    if port == 0:
        raise OptionError(f"server URL {shown}: port 0 cannot be connected to")
    user, password = userinfo
    if password and not user:
        raise OptionError(f"server URL {shown}: a password without a user")
    token = None
    if user is not None and password is None:
        user, token = None, user
    return Server(parts.hostname, port or _DEFAULT_PORT, user or None, password, token or None, parts.scheme)


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
