"""The connection that mends itself: which server is next, the handshake, what goes out, whether the link is alive.

``session`` is the loop of it all; the other modules are its parts, one idea each.
"""

from .outbound import Outbound
from .session import Session, closed_error

__all__ = ["Outbound", "Session", "closed_error"]
