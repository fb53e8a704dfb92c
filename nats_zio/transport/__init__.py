"""How bytes reach a server: by TCP or a unix socket, directly or through a proxy, bare or in a WebSocket.

Each way ends in a ``zio.net.Stream``. Plain TCP is the socket's own, with nothing of this package in between; TLS (see
``nats_zio.tls``) and WebSocket are streams over a stream. WebSocket needs the extra ``nats-zio[ws]``, whose library is
imported for such servers only.
"""

from .checks import check_servers, check_use
from .dial import dial
from .proxy import check_proxy
from .ws_headers import check_ws_headers

__all__ = ["check_proxy", "check_servers", "check_use", "check_ws_headers", "dial"]
