"""A small NATS server that does what it is told: for tests of what a real one does seldom or never.

It serves clients properly (subscriptions with queue groups and limits, headers, no responders, verbose, permissions)
until a test tells it otherwise: any bytes, any error, writes split at every byte, PONGs held back, the end of a
connection at any moment. It runs as tasks of the runtime it is made in, on whatever network that has.

It reads commands by itself, not with the parser and the rules of the client: the same mistake must not be made twice.
"""

from .commands import Command, Violation
from .permissions import Permissions, User
from .served import ServedClient
from .server import ScriptedServer
from .subjects import covers, matches

__all__ = ["Command", "Permissions", "ScriptedServer", "ServedClient", "User", "Violation", "covers", "matches"]
