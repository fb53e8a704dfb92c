"""Arguments that make no sense: an error that names the value and the rule, before anything is done."""

from __future__ import annotations

import re
import ssl
from collections.abc import Callable
from typing import Any

import pytest

import zio
from tests.zio.helpers_tls import CLIENT
from zio.testing import SimNetwork, memory_stream_pair, run_virtual

L = "127.0.0.1"
CONTEXT: ssl.SSLContext = CLIENT


def sending_to(address: Any) -> None:
    with zio.net.udp(L) as udp:
        udp.send_to(b"x", address)


def serving(handler: Any) -> None:
    with zio.net.listen(L, 0) as listener:
        try:
            listener.serve(handler)
        finally:
            listener.close()


def with_stream(use: Callable[[Any], object]) -> None:
    one, other = memory_stream_pair()
    with one, other:
        try:
            use(one)
        finally:
            one.send_all(b"open still")
            assert other.recv(100) == b"open still"


CALLS: list[tuple[Callable[[], object], type[Exception], str]] = [
    (lambda: with_stream(lambda stream: stream.send_file(5.5)), TypeError, "file=5.5 must be a path or a binary file"),
    (lambda: sending_to(None), TypeError, "address=None must be (host, port)"),
    (lambda: sending_to((L,)), TypeError, "address=('127.0.0.1',) must be (host, port)"),
    (lambda: sending_to("abc"), TypeError, "address='abc' must be (host, port)"),
    (lambda: sending_to((5, L)), TypeError, "address=(5, '127.0.0.1') must be (host, port): text and a number"),
    (lambda: zio.net.udp(remote=(L,)), TypeError, "remote=('127.0.0.1',) must be (host, port)"),  # type: ignore[arg-type]
    (lambda: with_stream(lambda stream: stream.start_tls(5, "x")), TypeError, "context=5 must be an ssl.SSLContext"),
    (lambda: with_stream(lambda stream: stream.start_tls(CONTEXT, 5)), TypeError, "server_hostname=5 must be text"),
    (lambda: zio.Runtime(clock=5), TypeError, "clock=5 must be a clock"),  # type: ignore[arg-type]
    (lambda: zio.Runtime(on_unhandled=5), TypeError, "on_unhandled=5 must be callable"),  # type: ignore[arg-type]
    (lambda: zio.net.listen(L, 0, backlog=-1), ValueError, "backlog=-1 must be 0 or more"),
    (lambda: zio.net.listen_unix("\0nowhere", backlog=-1), ValueError, "backlog=-1 must be 0 or more"),
    (lambda: zio.net.listen(L, 0, backlog="a"), TypeError, "backlog='a' must be a whole number"),  # type: ignore[arg-type]
    (lambda: serving(None), TypeError, "handler=None must be callable"),
    (lambda: zio.fs.atomic_write(""), ValueError, "path='' must be the path of a file"),
]


@pytest.mark.parametrize("number", range(len(CALLS)), ids=[text for _, _, text in CALLS])
def test_on_the_real_network(number: int) -> None:
    call, kind, text = CALLS[number]

    def main() -> None:
        with zio.timeout(45), pytest.raises(kind, match=re.escape(text)):
            call()

    zio.run(main)


@pytest.mark.parametrize("address", [None, (L,), "abc", (5, L)])
def test_addresses_on_a_simulated_network(address: Any) -> None:
    def main() -> None:
        with pytest.raises(TypeError, match=re.escape(f"address={address!r} must be (host, port)")):
            sending_to(address)

    run_virtual(main, network=SimNetwork(1))
