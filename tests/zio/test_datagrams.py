"""UDP and unix datagrams: they arrive whole, or cut off and told so; who refuses is told; sockets close cleanly."""

from __future__ import annotations

import errno
import os
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import pytest

import zio
from zio.net import Datagram
from zio.testing import wait_all_parked

T = TypeVar("T")

linux_only = pytest.mark.skipif(sys.platform != "linux", reason="abstract names exist on Linux only")


def run(fn: Callable[[], T]) -> T:
    def limited() -> T:
        with zio.timeout(45):
            return fn()
        raise AssertionError

    return zio.run(limited)


def bound(**options: Any) -> zio.net.DatagramSocket:
    return zio.net.udp("127.0.0.1", **options)


# Boundaries.


def test_each_datagram_arrives_as_it_was_sent_with_its_sender() -> None:
    def main() -> None:
        with bound() as one, bound() as other:
            for data in (b"first", b"", b"x" * 60_000, b"last"):
                one.send_to(data, other.address)
                assert other.recv() == Datagram(data, one.address, False)

    run(main)


def test_datagrams_that_are_there_already_come_one_by_one() -> None:
    def main() -> None:
        with bound() as one, bound() as other:
            for number in range(10):
                one.send_to(b"%d" % number, other.address)
            assert [other.recv().data for _ in range(10)] == [b"%d" % number for number in range(10)]

    run(main)


def test_what_is_longer_than_asked_for_is_cut_off_and_told() -> None:
    def main() -> None:
        with bound() as one, bound() as other:
            for data in (b"12345", b"1234", b"next"):
                one.send_to(data, other.address)
            assert [other.recv(4)[::2] for _ in range(3)] == [(b"1234", True), (b"1234", False), (b"next", False)]

    run(main)


def test_a_parked_reader_gets_the_datagram_that_comes() -> None:
    def main() -> None:
        with bound() as one, bound() as other:
            reader = zio.spawn(other.recv)
            wait_all_parked()
            one.send_to(b"hello", other.address)
            assert reader.join().data == b"hello"

    run(main)


def test_a_cancelled_reader_takes_no_datagram() -> None:
    def main() -> None:
        with bound() as one, bound() as other:
            reader = zio.spawn(other.recv)
            wait_all_parked()
            one.send_to(b"hello", other.address)
            reader.cancel()
            with pytest.raises(zio.Cancelled):
                reader.join()
            assert other.recv().data == b"hello"

    run(main)


def test_one_that_is_too_large_is_refused_with_its_size() -> None:
    def main() -> None:
        with bound() as one, pytest.raises(OSError, match="65600 bytes") as caught:
            one.send_to(b"x" * 65_600, one.address)
        assert caught.value.errno == errno.EMSGSIZE

    run(main)


def test_buffers_of_any_kind_are_sent() -> None:
    def main() -> None:
        with bound() as one, bound(remote=one.address) as other:
            for data in (bytearray(b"data"), memoryview(b"data")):
                other.send(data)
                assert one.recv().data == b"data"

    run(main)


# Connected and not.


def test_a_connected_socket_sends_without_an_address_and_hears_its_peer_alone() -> None:
    def main() -> None:
        with bound() as peer, bound() as stranger, zio.net.udp(remote=peer.address) as one:
            one.send(b"question")
            question = peer.recv()
            stranger.send_to(b"lie", question.address)
            peer.send_to(b"answer", question.address)
            assert one.recv() == Datagram(b"answer", peer.address, False)

    run(main)


def test_a_socket_can_be_bound_and_connected() -> None:
    def main() -> None:
        with bound() as peer, bound(remote=peer.address) as one:
            one.send(b"question")
            assert peer.recv().address == one.address

    run(main)


def test_a_socket_that_is_not_connected_cannot_send_without_an_address() -> None:
    def main() -> None:
        with bound() as one, pytest.raises(OSError, match="estination") as caught:
            one.send(b"data")
        assert caught.value.errno == errno.EDESTADDRREQ

    run(main)


def test_without_an_address_it_is_bound_to_a_free_port_of_all_interfaces() -> None:
    def main() -> None:
        with zio.net.udp() as one, bound() as other:
            assert one.address == ("0.0.0.0", one.port)
            assert one.port
            other.send_to(b"hello", ("127.0.0.1", one.port))
            assert one.recv().data == b"hello"

    run(main)


def test_a_port_alone_is_that_of_all_interfaces() -> None:
    def main() -> None:
        with bound() as peer:
            with zio.net.udp() as one:
                port = one.port
            with zio.net.udp(port=port) as one, zio.net.udp(port=0, remote=peer.address):
                assert one.address == ("0.0.0.0", port)
            with zio.net.udp(port=port, remote=peer.address) as one:
                assert one.port == port

    run(main)


def test_ipv6() -> None:
    def main() -> None:
        with zio.net.udp("::1") as one, zio.net.udp(remote=("::1", one.port)) as other:
            other.send(b"hello")
            assert one.recv().data == b"hello"

    run(main)


def test_names_are_looked_up_in_the_family_of_the_socket(monkeypatch: pytest.MonkeyPatch) -> None:
    real = socket.getaddrinfo

    def getaddrinfo(host: str, port: int, *args: Any, **kwargs: Any) -> Any:
        if host != "site.example":
            return real(host, port, *args, **kwargs)
        if kwargs.get("flags"):
            raise socket.gaierror(socket.EAI_NONAME, "not a number")
        return [
            (socket.AF_INET6, socket.SOCK_STREAM, 6, "", ("::1", port, 0, 0)),
            (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port)),
        ]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)

    def main() -> None:
        with bound() as one, bound(remote=("site.example", one.port)) as other, zio.net.udp("::1") as six:
            other.send(b"hello")
            assert one.recv().address == other.address
            other.send_to(b"again", ("site.example", one.port))
            assert one.recv().data == b"again"
            six.send_to(b"me", ("site.example", six.port))
            assert six.recv().data == b"me"

    run(main)


def test_addresses_of_two_families_do_not_go_together() -> None:
    def main() -> None:
        with pytest.raises(OSError, match=r"127\.0\.0\.1 and ::1 have no family of addresses in common") as caught:
            bound(remote=("::1", 1))
        assert caught.value.errno == errno.EAFNOSUPPORT

    run(main)


def test_an_address_in_use_is_an_error_that_leaves_nothing_open() -> None:
    def main() -> None:
        with bound() as one, pytest.raises(OSError, match="in use"):
            bound(port=one.port)

    run(main)


# Refused.


def nobody() -> tuple[str, int]:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        address: tuple[str, int] = sock.getsockname()
        return address


@pytest.mark.parametrize("parked", [True, False])
def test_who_waits_for_an_answer_of_nobody_is_told(parked: bool) -> None:
    def main() -> None:
        with zio.net.udp(remote=nobody()) as one:
            if parked:
                reader = zio.spawn(one.recv)
                wait_all_parked()
                one.send(b"question")
                with pytest.raises(ConnectionRefusedError):
                    reader.join()
            else:
                one.send(b"question")
                with pytest.raises(ConnectionRefusedError):
                    one.recv()

    run(main)


def test_the_next_send_is_told_and_the_socket_can_be_used_on() -> None:
    def main() -> None:
        address = nobody()
        with zio.net.udp(remote=address) as one:
            one.send(b"question")
            with pytest.raises(ConnectionRefusedError):
                one.send(b"again")
            with zio.net.udp(*address) as peer:
                one.send(b"third")
                assert peer.recv().data == b"third"
                peer.send_to(b"answer", one.address)
                assert one.recv().data == b"answer"

    run(main)


# One reader; the end.


def test_a_second_reader_is_told_who_reads() -> None:
    def main() -> None:
        with bound() as one:
            reader = zio.spawn(one.recv, name="the first")
            wait_all_parked()
            with pytest.raises(zio.Busy, match="the first"):
                one.recv()
            reader.cancel()

    run(main)


def test_close_ends_a_parked_reader_with_closed() -> None:
    def main() -> None:
        one = bound()
        reader = zio.spawn(one.recv)
        wait_all_parked()
        one.close()
        with pytest.raises(zio.Closed):
            reader.join()
        one.close()

    run(main)


@pytest.mark.parametrize("call", ["recv", "send", "send_to"])
def test_a_closed_socket_says_so(call: str) -> None:
    def main() -> None:
        with bound() as peer:
            one = bound(remote=peer.address)
            one.close()
            arguments = {"recv": (), "send": (b"data",), "send_to": (b"data", peer.address)}[call]
            with pytest.raises(zio.Closed):
                getattr(one, call)(*arguments)

    run(main)


def test_iterating_receives_until_it_is_closed() -> None:
    def main() -> None:
        with bound() as one, bound(remote=one.address) as other:
            for data in (b"a", b"b", b"end"):
                other.send(data)
            received = []
            for datagram in one:
                received.append(datagram.data)
                if datagram.data == b"end":
                    one.close()
            assert received == [b"a", b"b", b"end"]

    run(main)


def test_a_negative_size_is_refused() -> None:
    def main() -> None:
        with bound() as one, pytest.raises(ValueError, match="max_bytes=-1"):
            one.recv(-1)

    run(main)


def test_only_tasks_of_its_runtime_may_use_it() -> None:
    def main() -> None:
        with bound() as one:
            for call in (one.recv, one.close):
                with pytest.raises(RuntimeError, match=r"zio\.run"):
                    zio.to_thread(call)

    run(main)
    with pytest.raises(RuntimeError, match=r"zio\.net\.udp needs a running zio task"):
        zio.net.udp()


# Unix.


def test_unix_datagrams_keep_their_boundaries_and_tell_their_sender(tmp_path: Path) -> None:
    def main() -> None:
        one_path, other_path = tmp_path / "one", str(tmp_path / "other")
        with zio.net.unix_datagram(one_path) as one, zio.net.unix_datagram(other_path) as other:
            one.send_to(b"hello", other_path)
            one.send_to(b"truncated", other_path)
            assert other.recv() == Datagram(b"hello", str(one_path), False)
            assert other.recv(5) == Datagram(b"trunc", str(one_path), True)
            assert one.address == str(one_path)
            with pytest.raises(AttributeError, match="no port"):
                _ = one.port

    run(main)


def test_a_unix_socket_without_a_path_has_no_address(tmp_path: Path) -> None:
    def main() -> None:
        path = tmp_path / "one"
        with zio.net.unix_datagram(path) as one, zio.net.unix_datagram(remote=path) as other:
            other.send(b"hello")
            assert one.recv() == Datagram(b"hello", None, False)
            assert other.address is None

    run(main)


@pytest.mark.parametrize("connected", [True, False])
def test_who_sends_faster_than_the_other_receives_waits_and_nothing_is_lost(tmp_path: Path, connected: bool) -> None:
    def main() -> None:
        path = tmp_path / "one"
        with (
            zio.net.unix_datagram(path) as one,
            zio.net.unix_datagram(remote=path if connected else None) as other,
            zio.TaskGroup() as group,
        ):

            def send() -> None:
                for number in range(500):
                    data = b"%d" % number
                    if connected:
                        other.send(data)
                    else:
                        other.send_to(data, path)

            sender = group.spawn(send)
            zio.sleep(0.01)
            assert not sender.done
            assert [one.recv().data for _ in range(500)] == [b"%d" % number for number in range(500)]

    run(main)


def test_the_file_goes_with_the_socket_that_made_it(tmp_path: Path) -> None:
    def main() -> None:
        path = tmp_path / "one"
        with zio.net.unix_datagram(path) as one:
            with pytest.raises(OSError, match="in use: binding to"):
                zio.net.unix_datagram(path)
            assert path.exists()
            path.unlink()
            path.touch()
            one.close()
            assert path.exists()  # it is another one
            path.unlink()
        with zio.net.unix_datagram(path):
            assert path.exists()
        assert not path.exists()

    run(main)


def test_what_cannot_be_connected_leaves_no_file(tmp_path: Path) -> None:
    def main() -> None:
        with pytest.raises(FileNotFoundError, match=r"connecting to .*nobody"):
            zio.net.unix_datagram(tmp_path / "one", remote=tmp_path / "nobody")
        assert not list(tmp_path.iterdir())

    run(main)


# Abstract names.


@linux_only
def test_unix_datagrams_between_abstract_names() -> None:
    def main() -> None:
        names = [f"\0zio-test-{os.getpid()}-{number}" for number in range(2)]
        with zio.net.unix_datagram(names[0]) as one, zio.net.unix_datagram(names[1], remote=names[0]) as other:
            other.send(b"hello")
            assert one.recv() == Datagram(b"hello", names[1], False)
            one.send_to(b"answer", names[1])
            assert other.recv().data == b"answer"

    run(main)


@linux_only
def test_an_abstract_name_is_exactly_as_long_as_given() -> None:
    """The standard library's sockets find it, with NULs in it and to its full length."""

    def main() -> None:
        for name in (f"\0zio-{os.getpid()}\0x", f"\0{os.getpid()}".ljust(108, "y")):
            with zio.net.unix_datagram(name) as one, socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as other:
                other.sendto(b"hello", name)
                assert one.recv().data == b"hello"
                assert one.address == name

    run(main)


@linux_only
def test_streams_at_an_abstract_name() -> None:
    def main() -> None:
        name = f"\0zio-test-{os.getpid()}"
        with (
            zio.net.listen_unix(name) as listener,
            zio.net.connect_unix(name) as one,
            listener.accept() as other,
        ):
            assert listener.path == name
            other.send_all(b"hello")
            assert one.recv_exactly(5) == b"hello"
            with pytest.raises(OSError, match="@zio-test"):
                zio.net.listen_unix(name)
        with pytest.raises(ConnectionRefusedError, match="connecting to @zio-test"):
            zio.net.connect_unix(name)

    run(main)


@linux_only
def test_nothing_is_no_name() -> None:
    def main() -> None:
        for call in (zio.net.unix_datagram, zio.net.connect_unix, zio.net.listen_unix):
            with pytest.raises(ValueError, match="is no path"):
                call("\0")

    run(main)
