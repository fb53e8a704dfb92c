"""What CONNECT to a proxy and the upgrade to a WebSocket have in common."""

from __future__ import annotations

from http import HTTPStatus

from ..servers import authority


def host_header(host: str, port: int, default_port: int | None = None) -> str:
    """Host and port as HTTP wants them, without the port if it is ``default_port``. ValueError if that is no host."""
    try:
        encoded = host if ":" in host else host.encode("idna").decode()
    except UnicodeError:
        encoded = ""
    if not encoded or not encoded.isascii():
        raise ValueError(f"{host!r} cannot be a host name")
    whole = authority(encoded, port)
    return whole.removesuffix(f":{port}") if port == default_port else whole


def status_text(status: int) -> str:
    """A status with its meaning, in our own words: those of the answer may be anything."""
    try:
        return f"HTTP {status} ({HTTPStatus(status).phrase})"
    except ValueError:
        return f"HTTP {status}"
