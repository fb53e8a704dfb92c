"""Whether the servers can be reached in the ways asked for, found out before anything is opened."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..errors import OptionError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ..options import Options
    from ..servers import Server


def check_servers(servers: Iterable[Server]) -> None:
    """OptionError if one of them needs a package that is not there."""
    if any(server.websocket for server in servers):
        missing = False
        try:
            import wsproto  # noqa: F401
        except ImportError:
            missing = True
        if missing:
            raise OptionError("ws:// and wss:// servers need the package wsproto: pip install 'nats-zio[ws]'")


def check_use(servers: Iterable[Server], options: Options) -> None:
    """OptionError for an option that would do nothing with any of these servers."""
    schemes = {server.scheme for server in servers}
    if not schemes & {"ws", "wss"}:
        for name, default in (("ws_headers", None), ("ws_compression", False)):
            if getattr(options, name) != default:
                raise OptionError(f"{name} is for ws:// and wss:// servers, and none is given")
    if schemes == {"unix"} and options.proxy is not None:
        raise OptionError(
            "proxy is for servers reached by TCP, and none is given: unix sockets are connected to directly"
        )
