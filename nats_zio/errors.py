"""The exceptions of the client. All derive from :class:`Error`."""

from __future__ import annotations

import builtins
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import zio

from .protocol import BadSubjectError, Error, HeaderError, MaxPayloadError, ProtocolError

__all__ = [
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
]


class TimeoutError(Error, builtins.TimeoutError):  # the public name; also the builtin's subclass
    """The call's time has passed."""


class OptionError(Error, ValueError):
    """An option that does not exist, or has a value it cannot have."""


class NoServersError(Error, ConnectionError):
    """No server could be reached. The errors of the attempts are in ``errors``, by server."""

    errors: Mapping[str, BaseException] = MappingProxyType({})

    def __init__(self, text: str, errors: dict[str, BaseException] | None = None) -> None:
        super().__init__(text)
        self.errors = errors or {}


class DisconnectedError(Error, ConnectionError):
    """The connection broke before the answer came; whether the server acted on the request is not known."""


class StaleConnectionError(DisconnectedError):
    """The server has not answered as many pings as allowed."""


class ConnectionClosedError(Error, ConnectionError):
    """The client is closed."""


class DrainingError(Error):
    """The client is draining: it takes no new subscriptions and, at the end, no new messages."""


class ReconnectBufferFullError(Error):
    """Disconnected, and the buffer for the time until the reconnect has no room for the message."""


class NoRespondersError(Error):
    """Nobody is subscribed to the subject of a request."""

    def __init__(self, subject: str) -> None:
        super().__init__(f"no responders: nobody is subscribed to {subject!r}")
        self.subject = subject


class ServerError(Error):
    """An error that the server sent; ``text`` is its words."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.text = text


class AuthError(ServerError):
    """The server refused the credentials, or they have expired."""


class CredentialsError(AuthError):
    """There are no credentials to show: their file is missing or wrong, or ``auth=`` failed. Nothing was sent."""


class TLSRequiredError(Error):
    """TLS was wanted, and the server does not offer it. Nothing was sent: no credentials, not even our name."""


class WebSocketError(Error, ConnectionError):
    """The server does not speak WebSocket, or not to us; ``status`` is that of its HTTP answer, if it gave one."""

    def __init__(self, text: str, status: int | None = None) -> None:
        super().__init__(text)
        self.status = status


class ProxyError(Error, ConnectionError):
    """The proxy cannot be reached, or does not connect us; ``status`` is that of its HTTP answer, if it gave one."""

    def __init__(self, text: str, status: int | None = None) -> None:
        super().__init__(text)
        self.status = status


class PermissionDeniedError(ServerError):
    """The server refused to publish or subscribe to ``subject``."""

    def __init__(self, text: str, subject: str | None = None) -> None:
        super().__init__(text)
        self.subject = subject


class HeadersNotSupportedError(Error):
    """The server does not support message headers."""


class SlowConsumerError(Error):
    """A subscription had more messages pending than its limit allows; ``dropped`` were dropped."""

    def __init__(self, subject: str, dropped: int) -> None:
        super().__init__(f"slow consumer on {subject!r}: {dropped} messages dropped")
        self.subject = subject
        self.dropped = dropped


class SubscriptionClosedError(Error, zio.ChannelClosed):
    """The subscription has ended and has no more messages; ``reason`` says why, ``source`` is the subscription."""

    def __init__(self, subject: str, reason: Any, source: object = None) -> None:
        super().__init__(f"the subscription to {subject!r} has ended: {reason}", source=source)
        self.subject = subject
        self.reason = reason


class SubscriptionLostError(SubscriptionClosedError, ConnectionClosedError):
    """The subscription has ended because its client is closed."""
