"""The pytest plugin: fixtures `nats_server` and `nats_client`.

Installing nats-zio makes pytest load this module at every start, in every project. So it imports nothing but pytest's
names for annotations; all else is imported when a fixture is used.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from nats_zio import Client
    from nats_zio.testing.server import NatsServer


class ExternalServer:
    """Stands in for a `NatsServer` when ``NATS_URL`` names a server that runs already."""

    def __init__(self, url: str) -> None:
        self.url = url

    def __repr__(self) -> str:
        return "<ExternalServer from NATS_URL>"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addini("nats_server_config", "configuration file of the nats_server fixture", type="paths", default=[])


@pytest.fixture(scope="session")
def nats_server(pytestconfig: pytest.Config) -> Iterator[NatsServer | ExternalServer]:
    """A NATS server for the whole run, with JetStream: ``nats_server.url``.

    It is a real nats-server on a free port, started at the first use (`nats_zio.testing.NatsServer`). Where the
    environment variable ``NATS_URL`` is set, it is the server there. A test that stops, freezes or reconfigures a
    server makes one of its own: ``with NatsServer() as server``.
    """
    url = os.environ.get("NATS_URL")
    if url:
        yield ExternalServer(url)
        return
    from nats_zio.testing.server import NatsServer

    paths = pytestconfig.getini("nats_server_config")
    with NatsServer(jetstream=True, config=paths[0] if paths else None) as server:
        yield server


@pytest.fixture
def nats_client(nats_server: NatsServer | ExternalServer) -> Iterator[Client]:
    """A client connected to `nats_server`, for one test. The server is shared: choose subjects of your own."""
    import nats_zio

    client = nats_zio.connect(nats_server.url)
    try:
        yield client
    finally:
        client.close()
