"""Listening at all interfaces."""

from __future__ import annotations

import socket

import pytest

import zio
from zio.testing import MemoryNetwork

EVERYWHERE = [None, "", "*"]


@pytest.mark.parametrize("host", EVERYWHERE)
def test_a_listener_at_all_interfaces_is_reached_by_both_families_at_one_port(host: str | None) -> None:
    def main() -> None:
        with zio.net.listen(host, 0) as listener:
            for number in ["127.0.0.1", "::1"] if socket.has_dualstack_ipv6() else ["127.0.0.1"]:
                with zio.net.connect(number, listener.port), listener.accept():
                    pass

    zio.run(main)


def test_without_ipv6_it_is_reached_by_ipv4(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "has_dualstack_ipv6", lambda: False)

    def main() -> str:
        with zio.net.listen(None, 0) as listener, zio.net.connect("127.0.0.1", listener.port):
            return str(listener.address[0])

    assert zio.run(main) == "0.0.0.0"


@pytest.mark.parametrize("host", EVERYWHERE)
def test_a_udp_socket_at_all_interfaces(host: str | None) -> None:
    def main() -> bytes:
        with zio.net.udp(host, 0) as ours, zio.net.udp("127.0.0.1") as theirs:
            theirs.send_to(b"x", ("127.0.0.1", ours.port))
            return ours.recv().data

    assert zio.run(main) == b"x"


def test_a_simulated_network_knows_no_host_as_well() -> None:
    def main() -> None:
        with zio.net.listen(None, 4222) as listener, zio.net.connect("any", 4222), listener.accept():
            pass

    zio.testing.run_virtual(main, network=MemoryNetwork())


def test_a_port_that_is_none_is_refused() -> None:
    with pytest.raises(ValueError, match="port 65536"):
        zio.run(zio.net.listen, None, 65536)
