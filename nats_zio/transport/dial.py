"""The first stream to a server, over which all else goes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import zio
from zio.lowlevel import here

from . import addresses
from .proxy import ask_dialer, connect_through

if TYPE_CHECKING:
    from zio.net import Stream

    from ..options import Options
    from ..servers import Server
    from ..user_functions import UserFunctions


def dial(server: Server, options: Options, user_functions: UserFunctions) -> Stream:
    """Connect to ``server``, directly or through the proxy. OSError (ProxyError is one) if that fails."""
    if server.scheme == "unix":
        return zio.net.connect_unix(server.path)
    deadline = zio.now() + options.connect_timeout
    shuffle = None if options.no_randomize else here().loop.runtime.random
    if options.proxy is not None:
        if not isinstance(options.proxy, str):
            return ask_dialer(options.proxy, server, user_functions)
        return connect_through(options.proxy, server, deadline=deadline, shuffle=shuffle)
    return addresses.connect(server.host, server.port, deadline=deadline, shuffle=shuffle)
