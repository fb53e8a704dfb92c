"""kill -9 and restart, twenty times, under publish, subscribe and request load: nothing is lost without a report."""

from __future__ import annotations

import pytest

import zio
from nats_zio.testing import NatsServer
from tests.client.load import Load

KILLS = 20


def survive(server: NatsServer, load: Load) -> None:
    load.survive(KILLS, kill=server.kill, freeze=server.pause, start=server.start)
    load.finish()


@pytest.mark.slow
def test_twenty_kills_under_the_load_of_tasks(server: NatsServer, subject: str) -> None:
    def main() -> None:
        with Load([server.url], subject, reconnect_wait=0.01, reconnect_max_wait=0.05) as load:
            survive(server, load)

    zio.run(main)


@pytest.mark.slow
def test_twenty_kills_under_the_load_of_plain_threads(
    server: NatsServer, subject: str, background_runtime: object
) -> None:
    with Load([server.url], subject, threads=True, reconnect_wait=0.01, reconnect_max_wait=0.05) as load:
        survive(server, load)
