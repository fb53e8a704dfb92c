"""What can go wrong with a server for tests."""

from __future__ import annotations


class NatsServerError(RuntimeError):
    """A server did not start, did not stop, or is not in the state that a call needs. The text ends with its log."""


class NatsServerNotFoundError(NatsServerError):
    """There is no ``nats-server`` binary."""


class PortInUseError(NatsServerError):
    """Another process has the port."""
