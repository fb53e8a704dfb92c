"""No Deadlock is raised while a live client could still wake somebody."""

from __future__ import annotations

import subprocess
import sys
from urllib.parse import urlsplit

import nats_zio
import zio
from nats_zio.testing import NatsServer

DELAY = 0.2

PUBLISH_LATER = f"""
import socket, sys, time
with socket.create_connection((sys.argv[1], int(sys.argv[2]))) as link:
    time.sleep({DELAY})
    link.sendall(b"CONNECT {{}}\\r\\nPUB " + sys.argv[3].encode() + b" 5\\r\\nhello\\r\\nPING\\r\\n")
    while b"PONG" not in link.recv(4096):
        pass
"""


def published_later(server: NatsServer, subject: str) -> subprocess.Popen[bytes]:
    """By another process, so that nothing here waits for it but the client."""
    where = urlsplit(server.url)
    return subprocess.Popen([sys.executable, "-c", PUBLISH_LATER, str(where.hostname), str(where.port), subject])


def test_while_all_wait_for_what_a_client_of_the_same_runtime_may_bring(nats_server: NatsServer, subject: str) -> None:
    """T59"""

    def main() -> bytes:
        event = zio.Event()
        with nats_zio.connect(nats_server.url) as nc:
            handled = nc.subscribe(subject, cb=lambda message: event.set())
            waiting = nc.subscribe(subject)
            nc.flush()
            with published_later(nats_server, subject):
                event.wait()
                assert handled.delivered == 1
                return waiting.next(timeout=None).data

    assert zio.run(main) == b"hello"


def test_while_a_client_in_the_background_may_set_what_all_wait_for(
    nats_server: NatsServer, subject: str, background_runtime: zio.Runtime
) -> None:
    """T59: its handlers run on threads that belong to a runtime, but not to this one."""
    with nats_zio.connect(nats_server.url) as nc:

        def main() -> bool:
            event = zio.Event()
            nc.subscribe(subject, cb=lambda message: event.set())
            nc.flush()
            with published_later(nats_server, subject):
                return event.wait()

        assert zio.run(main)
