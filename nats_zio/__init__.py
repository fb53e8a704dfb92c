"""A NATS client whose calls block only the current task, or the current thread.

    import nats_zio

    with nats_zio.connect("nats://127.0.0.1:4222") as nc:
        nc.publish("greetings", b"hello")

The names are loaded when first used: pytest imports this package for its plugin in every environment.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from .auth import Auth
    from .client import Client, Stats, connect
    from .closed_reason import ClosedReason
    from .core import Status
    from .draining import DrainReport
    from .errors import (
        AuthError,
        BadSubjectError,
        ConnectionClosedError,
        CredentialsError,
        DisconnectedError,
        DrainingError,
        Error,
        HeaderError,
        HeadersNotSupportedError,
        MaxPayloadError,
        NoRespondersError,
        NoServersError,
        OptionError,
        PermissionDeniedError,
        ProtocolError,
        ProxyError,
        ReconnectBufferFullError,
        ServerError,
        SlowConsumerError,
        StaleConnectionError,
        SubscriptionClosedError,
        SubscriptionLostError,
        TimeoutError,
        TLSRequiredError,
        WebSocketError,
    )
    from .message import Message
    from .options import Options
    from .protocol import Headers, ServerInfo
    from .protocol import Status as MessageStatus
    from .requests import Replies
    from .subscriptions import Subscription, SubscriptionSnapshot
    from .tls import TLS

_HOMES = {
    "auth": ("Auth",),
    "client": ("Client", "Stats", "connect"),
    "core": ("Status",),
    "closed_reason": ("ClosedReason",),
    "draining": ("DrainReport",),
    "errors": (
        "AuthError",
        "BadSubjectError",
        "ConnectionClosedError",
        "CredentialsError",
        "DisconnectedError",
        "DrainingError",
        "Error",
        "HeaderError",
        "HeadersNotSupportedError",
        "MaxPayloadError",
        "NoRespondersError",
        "NoServersError",
        "OptionError",
        "PermissionDeniedError",
        "ProtocolError",
        "ProxyError",
        "ReconnectBufferFullError",
        "ServerError",
        "SlowConsumerError",
        "StaleConnectionError",
        "SubscriptionClosedError",
        "SubscriptionLostError",
        "TLSRequiredError",
        "TimeoutError",
        "WebSocketError",
    ),
    "message": ("Message",),
    "options": ("Options",),
    "protocol": ("Headers", "ServerInfo"),
    "requests": ("Replies",),
    "subscriptions": ("Subscription", "SubscriptionSnapshot"),
    "tls": ("TLS",),
}
_HOME_OF = {name: module for module, names in _HOMES.items() for name in names}
_MODULES = ("events", "protocol", "testing")


def __getattr__(name: str) -> Any:
    if name in _HOME_OF or name == "events":  # what needs the runtime: is it ours?
        import_module(f"{__name__}._zio_guard").check()
    if name in _MODULES:
        return import_module(f"{__name__}.{name}")
    if name == "MessageStatus":
        value = import_module(f"{__name__}.protocol").Status
    elif name in _HOME_OF:
        value = getattr(import_module(f"{__name__}.{_HOME_OF[name]}"), name)
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOME_OF, *_MODULES, "MessageStatus"})


__all__ = [
    "Auth",
    "AuthError",
    "BadSubjectError",
    "Client",
    "ClosedReason",
    "ConnectionClosedError",
    "CredentialsError",
    "DisconnectedError",
    "DrainReport",
    "DrainingError",
    "Error",
    "HeaderError",
    "Headers",
    "HeadersNotSupportedError",
    "MaxPayloadError",
    "Message",
    "MessageStatus",
    "NoRespondersError",
    "NoServersError",
    "OptionError",
    "Options",
    "PermissionDeniedError",
    "ProtocolError",
    "ProxyError",
    "ReconnectBufferFullError",
    "Replies",
    "ServerError",
    "ServerInfo",
    "SlowConsumerError",
    "StaleConnectionError",
    "Stats",
    "Status",
    "Subscription",
    "SubscriptionClosedError",
    "SubscriptionLostError",
    "SubscriptionSnapshot",
    "TLS",
    "TLSRequiredError",
    "TimeoutError",
    "WebSocketError",
    "connect",
]
