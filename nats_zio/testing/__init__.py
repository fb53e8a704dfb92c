"""Helpers for tests of programs that use NATS."""

from __future__ import annotations

from .server import NatsCluster, NatsServer, NatsServerError, NatsServerNotFoundError, find_nats_server

__all__ = ["NatsCluster", "NatsServer", "NatsServerError", "NatsServerNotFoundError", "find_nats_server"]
