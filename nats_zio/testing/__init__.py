"""Helpers for tests of programs that use NATS."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .binary import find_nats_server
from .cluster import NatsCluster
from .errors import NatsServerError, NatsServerNotFoundError
from .ports import free_port
from .server import NatsServer

if TYPE_CHECKING:
    from .scripted import ScriptedServer

__all__ = [
    "NatsCluster",
    "NatsServer",
    "NatsServerError",
    "NatsServerNotFoundError",
    "ScriptedServer",
    "find_nats_server",
    "free_port",
]


def __getattr__(name: str) -> Any:
    if name == "ScriptedServer":  # needs the runtime; pytest loads this package in every project
        from .scripted import ScriptedServer

        return ScriptedServer
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
