"""Certificates for tests, and TLS streams over memory."""

from __future__ import annotations

import ssl

import trustme

import zio
from zio.net.tls import TLSStream
from zio.testing import memory_stream_pair

NAME = "host.example"
AUTHORITY = trustme.CA()
STRANGER = trustme.CA()


def server_context(*names: str, authority: trustme.CA = AUTHORITY) -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert(*(names or (NAME, "127.0.0.1"))).configure_cert(context)
    return context


def client_context(authority: trustme.CA = AUTHORITY) -> ssl.SSLContext:
    context = ssl.create_default_context()
    authority.configure_trust(context)
    return context


SERVER = server_context()
CLIENT = client_context()


def both(
    limit: int = 65536, server: ssl.SSLContext = SERVER, client: ssl.SSLContext = CLIENT
) -> tuple[TLSStream, TLSStream]:
    """Client and server over streams in memory that hold ``limit`` bytes."""
    ours, theirs = memory_stream_pair(limit)
    serving = zio.spawn(theirs.start_tls, server)
    return ours.start_tls(client, NAME), serving.join()
