"""TLS streams: in memory, on sockets, against the standard library's and OpenSSL's own ends."""

from __future__ import annotations

import contextlib
import copy
import fcntl
import pickle
import shutil
import socket
import ssl
import struct
import subprocess
import termios
import threading
from collections.abc import Callable, Iterator
from typing import IO, Any, TypeVar

import pytest

import zio
from tests.zio.helpers_streams import stream_and_peer
from tests.zio.helpers_tls import AUTHORITY, CLIENT, NAME, SERVER, STRANGER, both, client_context, server_context
from zio.net.tls import TLSStream
from zio.testing import MemoryNetwork, SimNetwork, memory_stream_pair, run_virtual, wait_all_parked

T = TypeVar("T")


def run(fn: Callable[[], T]) -> T:
    """Run ``fn``, whose lost wake-ups end in a TimeoutError."""

    def limited() -> T:
        with zio.timeout(45):
            return fn()
        raise AssertionError

    return zio.run(limited)


@contextlib.contextmanager
def peer_in_thread(talk: Callable[[socket.socket], object], context: ssl.SSLContext = SERVER) -> Iterator[int]:
    """A TLS server of the standard library, one connection, in a thread; its port."""
    errors: list[BaseException] = []

    def serve() -> None:
        try:
            with listener.accept()[0] as sock:
                sock.settimeout(30)
                with context.wrap_socket(sock, server_side=True, suppress_ragged_eofs=False) as secure:
                    talk(secure)
        except BaseException as exc:
            errors.append(exc)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(30)
        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield listener.getsockname()[1]
        finally:
            thread.join(30)
            assert not thread.is_alive()
    if errors:
        raise errors[0]


def receive_all(sock: socket.socket) -> bytes:
    parts = []
    while part := sock.recv(65536):
        parts.append(part)
    return b"".join(parts)


def stream_all(stream: zio.net.Stream) -> bytes:
    parts = []
    while part := stream.recv(65536):
        parts.append(part)
    return b"".join(parts)


# Both ways.


def test_bytes_travel_both_ways_and_not_in_clear() -> None:
    def main() -> None:
        client, server = both()
        client.send_all(b"question")
        carried = server.raw.recv(1000)
        assert b"question" not in carried
        server.raw._rest = carried
        assert server.recv(100) == b"question"
        server.send_all(b"answer")
        assert client.recv(3) == b"ans"
        assert client.recv(100) == b"wer"

    run(main)


def test_it_tells_what_was_agreed_on() -> None:
    def main() -> None:
        client, server = both()
        assert client.version == server.version == "TLSv1.3"
        assert ssl.DER_cert_to_PEM_cert(client.peer_certificate() or b"").startswith("-----BEGIN")
        assert server.peer_certificate() is None
        assert client.ssl_object.cipher() == server.ssl_object.cipher()

    run(main)


@pytest.mark.parametrize("limit", [100, 5000, 1 << 20])
def test_large_data_goes_both_ways_at_once_through_a_narrow_pipe(limit: int) -> None:
    there, back = b"a" * 300_001, b"b" * 200_003

    def main() -> None:
        client, server = both(limit)

        def talk(stream: TLSStream, data: bytes) -> None:
            stream.send_all(data)
            stream.shutdown_write()

        with zio.TaskGroup() as group:
            group.spawn(talk, client, there)
            group.spawn(talk, server, back)
            received = group.spawn(stream_all, server), group.spawn(stream_all, client)
        assert received[0].join() == there
        assert received[1].join() == back

    run(main)


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_against_the_standard_library_as_a_server(version: ssl.TLSVersion) -> None:
    context = server_context()
    context.maximum_version = version
    data = bytes(range(256)) * 20_000

    def echo(sock: socket.socket) -> None:
        while part := sock.recv(100_000):
            sock.sendall(part)

    def main(port: int) -> None:
        with zio.net.connect("127.0.0.1", port, tls=CLIENT) as stream:
            assert isinstance(stream, TLSStream)
            sender = zio.spawn(stream.send_all, data)
            assert stream.recv_exactly(len(data)) == data
            sender.join()
            assert stream.version == version.name.replace("_", ".").replace("v1.", "v1.")

    with peer_in_thread(echo, context) as port:
        run(lambda: main(port))


def test_against_the_standard_library_as_a_client() -> None:
    data = bytes(range(256)) * 20_000

    def main() -> bytes:
        with zio.net.listen("127.0.0.1", 0) as listener:

            def client() -> bytes:
                with (
                    socket.create_connection(("127.0.0.1", listener.port), timeout=30) as sock,
                    CLIENT.wrap_socket(sock, server_hostname="127.0.0.1", suppress_ragged_eofs=False) as secure,
                ):
                    secure.sendall(data)
                    return receive_all(secure)

            task = zio.spawn(zio.to_thread, client)
            with listener.accept() as plain, plain.start_tls(SERVER) as stream:
                assert stream.recv_exactly(len(data)) == data
                stream.send_all(data)
            received: bytes = task.join()
            return received

    assert run(main) == data


def test_recv_into_fills_the_buffer() -> None:
    def main() -> None:
        client, server = both()
        client.send_all(b"0123456789")
        buffer = bytearray(4)
        assert server.recv_into(buffer) == 4
        assert buffer == b"0123"
        assert server.recv_into(memoryview(buffer)[1:3]) == 2
        assert buffer == b"0453"

    run(main)


def test_one_recv_returns_several_records() -> None:
    def main() -> None:
        client, server = both(1 << 20)
        client.send_all(b"x" * 3 * 16384)
        assert len(server.recv(1 << 20)) == 3 * 16384

    run(main)


def test_a_recv_with_decrypted_data_left_does_not_wait_for_the_peer() -> None:
    """The rest of a record is there although the stream beneath is drained."""

    def main() -> None:
        client, server = both()
        client.send_all(b"abc")
        assert [server.recv(1) for _ in range(3)] == [b"a", b"b", b"c"]

    run(main)


def test_a_recv_of_nothing_does_not_wait_for_the_peer() -> None:
    def main() -> None:
        client, server = both()
        client.send_all(b"abc")
        assert server.recv(10) == b"abc"
        with zio.timeout(10):
            assert server.recv(0) == b""
            assert server.recv_into(bytearray()) == 0

    run(main)


def test_tls_within_tls() -> None:
    def main() -> None:
        client, server = both()
        serving = zio.spawn(server.start_tls, SERVER)
        inner = client.start_tls(CLIENT, NAME)
        sender = zio.spawn(inner.send_all, b"x" * 200_000)
        assert len(serving.join().recv_exactly(200_000)) == 200_000
        sender.join()

    run(main)


# Whom to trust.


@pytest.mark.parametrize(
    ("server", "client", "name"),
    [
        (server_context(authority=STRANGER), CLIENT, NAME),
        (SERVER, CLIENT, "other.example"),
        (SERVER, CLIENT, "127.0.0.2"),
        (SERVER, ssl.create_default_context(), NAME),
    ],
    ids=["unknown authority", "wrong name", "wrong address", "default trust"],
)
def test_a_certificate_that_does_not_fit_is_refused(server: ssl.SSLContext, client: ssl.SSLContext, name: str) -> None:
    def main() -> None:
        ours, theirs = memory_stream_pair()
        serving = zio.spawn(theirs.start_tls, server)
        with pytest.raises(ssl.SSLCertVerificationError):
            ours.start_tls(client, name)
        with pytest.raises(ssl.SSLError):  # it is told why
            serving.join()
        for stream in (ours, theirs):
            with pytest.raises(zio.Closed):
                stream.send_some(b"in clear")

    run(main)


def test_connect_refuses_an_unknown_certificate_by_default_and_leaves_nothing_open() -> None:
    def main() -> None:
        with zio.net.listen("127.0.0.1", 0) as listener:

            def serve() -> None:
                with listener.accept() as plain, pytest.raises(ssl.SSLError):
                    plain.start_tls(SERVER)

            serving = zio.spawn(serve)
            with pytest.raises(ssl.SSLCertVerificationError):
                zio.net.connect("127.0.0.1", listener.port, tls=True)
            serving.join()

    run(main)


def test_connect_takes_nothing_for_a_context_that_is_none() -> None:
    bad: Any = "yes"
    with pytest.raises(TypeError, match="SSLContext"):
        run(lambda: zio.net.connect("127.0.0.1", 1, tls=bad))


def test_a_name_is_required_where_it_is_checked() -> None:
    def main() -> None:
        ours, _theirs = memory_stream_pair()
        with pytest.raises(ValueError, match="server_hostname"):
            ours.start_tls(CLIENT)

    run(main)


def test_mutual_tls() -> None:
    server, client = server_context(), client_context()
    server.verify_mode = ssl.CERT_REQUIRED
    AUTHORITY.configure_trust(server)
    AUTHORITY.issue_cert("client.example").configure_cert(client)

    def main() -> None:
        ours, theirs = both(server=server, client=client)
        assert theirs.peer_certificate()
        ours.send_all(b"hello")
        assert theirs.recv(10) == b"hello"

        # Without one: the client has shaken hands before the server says no.
        plain, their_plain = memory_stream_pair()
        serving = zio.spawn(their_plain.start_tls, server)
        stream = plain.start_tls(CLIENT, NAME)
        with pytest.raises(ssl.SSLError, match=r"(?i)certificate.required"):
            stream.recv(10)
        with pytest.raises(ssl.SSLError):
            serving.join()

    run(main)


# What comes in clear.


def test_bytes_that_came_in_clear_and_are_unread_are_refused() -> None:
    def main() -> None:
        ours, theirs = memory_stream_pair()
        theirs.send_all(b"INFO\r\ninjected")
        assert ours.recv_until(b"\r\n", 100) == b"INFO\r\n"
        with pytest.raises(ssl.SSLError, match="8 bytes came in clear"):
            ours.start_tls(CLIENT, NAME)
        ours.close()
        assert theirs.recv(100) == b"", "the handshake has begun"

    run(main)


def test_a_peer_that_speaks_no_tls_ends_the_handshake() -> None:
    def main() -> None:
        ours, theirs = memory_stream_pair()
        theirs.send_all(b"INFO {}\r\nPING\r\n")
        with pytest.raises(ssl.SSLError):
            ours.start_tls(CLIENT, NAME)
        with pytest.raises(zio.Closed):
            ours.recv(1)

    run(main)


# Ends.


def test_an_announced_end_is_an_end_again_and_again() -> None:
    def main() -> None:
        client, server = both()
        client.send_all(b"last words")
        client.close()
        assert server.recv(100) == b"last words"
        assert server.recv(100) == b""
        assert server.recv(100) == b""

    run(main)


@pytest.mark.parametrize("allowed", [False, True])
@pytest.mark.parametrize("within", [False, True], ids=["between records", "within a record"])
def test_an_end_that_is_not_announced_is_an_error_unless_allowed(allowed: bool, within: bool) -> None:
    def main() -> None:
        ours, theirs = memory_stream_pair()
        serving = zio.spawn(lambda: theirs.start_tls(SERVER, allow_ragged_eof=allowed))
        client = ours.start_tls(CLIENT, NAME)
        server = serving.join()
        client.send_all(b"whole")
        if within:
            first = theirs.recv(1000)
            client.send_all(b"cut off")
            theirs._rest = first + theirs.recv(1000)[:-1]
        ours.shutdown_write()
        assert server.recv(100) == b"whole"
        for _ in range(2):
            if allowed:
                assert server.recv(100) == b""
            else:
                with pytest.raises(ssl.SSLEOFError, match="cut short"):
                    server.recv(100)

    run(main)


def test_an_end_during_the_handshake() -> None:
    def main() -> None:
        ours, theirs = memory_stream_pair()
        theirs.close()
        with pytest.raises((ConnectionError, ssl.SSLEOFError)):
            ours.start_tls(CLIENT, NAME)
        with pytest.raises(zio.Closed):
            ours.recv(1)
        ours, theirs = memory_stream_pair()
        theirs.shutdown_write()
        with pytest.raises(ssl.SSLEOFError, match="during the TLS handshake"):
            ours.start_tls(CLIENT, NAME)

    run(main)


def test_our_own_errors_say_their_reason_as_those_of_the_ssl_module_do_and_so_do_their_copies() -> None:
    def main() -> ssl.SSLError:
        ours, theirs = memory_stream_pair()
        theirs.shutdown_write()
        with pytest.raises(ssl.SSLEOFError) as caught:
            ours.start_tls(CLIENT, NAME)
        return caught.value

    error = run(main)
    for one in (error, copy.copy(error), pickle.loads(pickle.dumps(error))):
        assert (one.library, one.reason) == ("SSL", "UNEXPECTED_EOF_WHILE_READING")


def test_our_end_leaves_receiving_open() -> None:
    def main() -> None:
        client, server = both()
        server.send_all(b"early ")
        client.send_all(b"request")
        wait_all_parked()
        assert client.recv(1) == b"e"  # so that the engine holds the rest of it
        client.shutdown_write()
        client.shutdown_write()
        assert server.recv(100) == b"request"
        assert server.recv(100) == b""
        server.send_all(b"late")
        server.close()
        assert client.recv_exactly(9) == b"arly late"
        assert client.recv(100) == b""
        with pytest.raises(BrokenPipeError):
            client.send_all(b"more")

    run(main)


def test_data_that_came_before_our_end_is_not_lost() -> None:
    def main() -> None:
        client, server = both()
        client.send_all(b"question")
        server.send_all(b"x")
        received = client.raw.recv(1000)
        with client._lock:  # received, and not decrypted yet
            client._incoming.write(received)
        client.shutdown_write()
        server.send_all(b"y")
        assert client.recv(1) + client.recv(1) == b"xy"

    run(main)


def test_the_end_announced_to_the_standard_library() -> None:
    received: list[bytes] = []

    def main(port: int) -> None:
        with zio.net.connect("127.0.0.1", port, tls=CLIENT) as stream:
            stream.send_all(b"all of it")

    with peer_in_thread(lambda sock: received.append(receive_all(sock))) as port:  # an unannounced end would raise
        run(lambda: main(port))
    assert received == [b"all of it"]


def tcp_pair() -> tuple[TLSStream, TLSStream]:
    with zio.net.listen("127.0.0.1", 0) as listener:
        ours = zio.net.connect("127.0.0.1", listener.port)
        theirs = listener.accept()
    serving = zio.spawn(theirs.start_tls, SERVER)
    return ours.start_tls(CLIENT, NAME), serving.join()


def test_a_peer_that_reads_late_gets_all_from_a_client_that_never_reads() -> None:
    """Its tickets are unread then, for which systems reset a connection that is closed."""

    def main() -> None:
        client, server = tcp_pair()
        assert client.version == "TLSv1.3"
        client.send_all(b"x" * 200_000)  # more than the peer's system takes before it is read
        client.close()
        with server:
            assert stream_all(server) == b"x" * 200_000

    run(main)


def test_closing_with_tickets_unread_resets_no_simulated_connection() -> None:
    network = SimNetwork(1, latency=0)

    def main() -> None:
        with zio.net.listen("server", 1) as listener:
            ours = zio.net.connect("server", 1)
            serving = zio.spawn(listener.accept().start_tls, SERVER)
        client, server = ours.start_tls(CLIENT, NAME), serving.join()
        client.close()
        assert server.recv(1) == b""
        assert network.coverage()["end sent"] == 1
        assert not network.coverage()["reset sent"]
        server.close()

    run_virtual(main, network=network)


def test_closing_takes_no_more_than_a_bounded_part_of_what_the_peer_sends() -> None:
    def main() -> None:
        client, server = tcp_pair()
        writer = zio.spawn(server.send_all, b"y" * (64 << 20))
        wait_all_parked()
        taken = 0
        raw: Any = client.raw
        receive = raw._recv

        def counted(n: int) -> bytes:
            nonlocal taken
            data: bytes = receive(n)
            taken += len(data)
            return data

        raw._recv = counted
        client.close()
        assert 0 < taken <= 1 << 20
        with pytest.raises(OSError):  # noqa: PT011  (a reset or a broken pipe)
            writer.join()
        server.close()

    run(main)


def test_a_closed_stream_says_so_and_wakes_its_reader() -> None:
    def main() -> None:
        client, _server = both()
        reader = zio.spawn(client.recv, 10)
        wait_all_parked()
        client.close()
        client.close()
        with pytest.raises(zio.Closed):
            reader.join()
        for call in (lambda: client.recv(1), lambda: client.send_all(b"x"), lambda: client.send_some(b"x")):
            with pytest.raises(zio.Closed):
                call()

    run(main)


def test_closing_wakes_who_waits_for_room() -> None:
    def main() -> None:
        client, _server = both(1000)
        writer = zio.spawn(client.send_all, b"x" * 100_000)
        wait_all_parked()
        client.close()
        with pytest.raises(zio.Closed):
            writer.join()

    run(main)


def test_two_readers_or_two_writers_are_refused() -> None:
    def main() -> None:
        client, server = both(1000)
        reader = zio.spawn(server.recv, 10)
        wait_all_parked()
        with pytest.raises(zio.Busy):
            server.recv(10)
        reader.cancel()
        writer = zio.spawn(client.send_all, b"x" * 100_000)
        wait_all_parked()
        with pytest.raises(zio.Busy):
            client.send_all(b"y")
        with pytest.raises(zio.Busy):
            client.wait_writable()
        assert server.recv_exactly(100_000) == b"x" * 100_000
        writer.join()

    run(main)


# Handshakes that do not end.


def test_a_handshake_that_times_out_closes_the_connection() -> None:
    def main() -> None:
        with stream_and_peer() as (stream, peer):
            with pytest.raises(TimeoutError), zio.timeout(0.05):
                stream.start_tls(CLIENT, NAME)
            peer.settimeout(30)
            assert peer.recv(1)[0] == 22  # the handshake had begun
            receive_all(peer)
            with pytest.raises(zio.Closed):
                stream.recv(1)

    run(main)


def test_connect_limits_connecting_and_the_handshake_together() -> None:
    def main() -> None:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            with pytest.raises(TimeoutError):
                zio.net.connect("127.0.0.1", listener.getsockname()[1], tls=CLIENT, timeout=0.05)
            with listener.accept()[0] as peer:
                peer.settimeout(30)
                receive_all(peer)

    run(main)


def test_a_cancelled_handshake_closes_the_connection() -> None:
    def main() -> None:
        with stream_and_peer() as (stream, peer):
            task = zio.spawn(stream.start_tls, CLIENT, NAME)
            wait_all_parked()
            task.cancel()
            with pytest.raises(zio.Cancelled):
                task.join()
            peer.settimeout(30)
            receive_all(peer)

    run(main)


# Sending what there is room for.


def test_send_some_takes_what_has_room_and_sees_to_the_rest_itself() -> None:
    def main() -> None:
        client, server = both(1000)
        data = b"x" * 200_000
        taken = client.send_some(data)
        assert 0 < taken < len(data)
        assert client.send_some(data) == 0
        # Nobody calls the client any more.
        assert server.recv_exactly(taken) == data[:taken]
        client.wait_writable()
        assert client.send_some(b"more") == 4
        assert server.recv(10) == b"more"

    run(main)


def test_what_has_gone_out_before_an_error_counts_as_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    """Or whoever keeps what was not taken for another connection would send it twice."""

    def main() -> None:
        ours, theirs = memory_stream_pair(1 << 20)
        serving = zio.spawn(theirs.start_tls, SERVER)
        client = ours.start_tls(CLIENT, NAME)
        server = serving.join()
        send_some, calls = type(ours).send_some, 0

        def fails_at_the_second(stream: Any, data: Any) -> int:
            nonlocal calls
            calls += stream is ours
            if stream is ours and calls == 2:
                raise ConnectionResetError("the link broke")
            return send_some(stream, data)

        monkeypatch.setattr(type(ours), "send_some", fails_at_the_second)
        taken = client.send_some(bytes(300_000))
        assert 0 < taken < 300_000
        for _ in range(2):
            with pytest.raises(ConnectionResetError, match="the link broke"):
                client.send_some(b"more")
        assert len(server.recv_exactly(taken)) == taken
        with zio.move_on_after(0.05):  # and no more than that
            pytest.fail(f"{len(server.recv(1))} bytes more")

    run(main)


def test_wait_writable_waits_until_there_is_room() -> None:
    def main() -> None:
        client, server = both(1000)
        taken = client.send_some(b"x" * 5000)
        waiter = zio.spawn(client.wait_writable)
        wait_all_parked()
        assert not waiter.done
        server.recv_exactly(taken)
        waiter.join()

    run(main)


def test_a_cancelled_send_leaves_whole_records() -> None:
    def main() -> None:
        client, server = both(1000)
        with zio.move_on_after(0.01) as scope:
            client.send_all(b"x" * 500_000)
        assert scope.expired

        def send() -> None:
            client.send_all(b"END")
            client.shutdown_write()

        sender = zio.spawn(send)
        data = stream_all(server)
        sender.join()
        assert data.endswith(b"xEND")
        assert len(data) < 500_000

    run(main)


def test_a_write_that_fails_later_is_reported_by_the_next_one() -> None:
    def main() -> None:
        client, server = both(1000)
        assert client.send_some(b"x" * 5000)
        waiter = zio.spawn(client.wait_writable)
        wait_all_parked()
        server.raw.close()  # in the middle of a record
        with pytest.raises((BrokenPipeError, ConnectionResetError)) as failed:
            waiter.join()
        with pytest.raises(type(failed.value)):
            client.send_all(b"y")

    run(main)


def test_a_thread_sends_while_a_task_receives() -> None:
    """Both sides of the engine are in use at once: a plain thread sends, a task of the loop receives the echo."""
    count = 3000
    message = b"%06d" + b"." * 500

    def echo(sock: socket.socket) -> None:
        while part := sock.recv(65536):
            sock.sendall(part)

    def main(port: int) -> None:
        with zio.net.connect("127.0.0.1", port, tls=CLIENT) as stream:
            assert isinstance(stream, TLSStream)
            failed: list[BaseException] = []

            def send() -> None:
                try:
                    for number in range(count):
                        data = memoryview(message % number)
                        while data:
                            data = data[stream.send_some(data) :]
                except BaseException as exc:
                    failed.append(exc)

            thread = threading.Thread(target=send)
            thread.start()
            try:
                for number in range(count):
                    assert stream.recv_exactly(506) == message % number
            finally:
                thread.join()
            assert not failed

    with peer_in_thread(echo) as port:
        run(lambda: main(port))


def test_other_threads_may_not_receive() -> None:
    def main() -> None:
        client, _server = both()

        def wrong() -> None:
            with pytest.raises(RuntimeError, match=r"zio\.run"):
                client.recv(1)
            with pytest.raises(RuntimeError, match=r"zio\.run"):
                client.close()
            with pytest.raises(zio.WrongLoop):
                zio.run(client.recv, 1)

        zio.to_thread(wrong)

    run(main)


# What the peer wants to agree on later.


@pytest.mark.parametrize("full", [False, True])
def test_a_certificate_may_be_asked_for_after_the_handshake(full: bool) -> None:
    """Receiving makes the engine answer, behind what waits to go out."""
    server, client = server_context(), client_context()
    AUTHORITY.configure_trust(server)
    AUTHORITY.issue_cert("client.example").configure_cert(client)
    client.post_handshake_auth = True
    server.verify_mode = ssl.CERT_REQUIRED
    server.post_handshake_auth = True

    def main() -> None:
        ours, theirs = both(2000, server=server, client=client)
        assert theirs.peer_certificate() is None
        pending = ours.send_some(b"x" * 5000) if full else 0
        reader = zio.spawn(ours.recv, 100)
        theirs.ssl_object.verify_client_post_handshake()
        theirs.send_all(b"who are you?")
        assert reader.join() == b"who are you?"
        assert theirs.recv_exactly(pending) == b"x" * pending
        listener = zio.spawn(theirs.recv, 100)
        wait_all_parked()
        assert theirs.peer_certificate()
        ours.send_all(b"me")
        assert listener.join() == b"me"

    run(main)


class Stubborn:
    """An engine that wants to receive before it sends, as during a renegotiation."""

    def __init__(self, engine: ssl.SSLObject) -> None:
        self.engine = engine
        self.refusals = 1

    def __getattr__(self, name: str) -> Any:
        return getattr(self.engine, name)

    def write(self, data: Any) -> int:
        if self.refusals:
            raise ssl.SSLWantReadError
        return self.engine.write(data)

    def read(self, n: int) -> bytes:
        self.refusals = 0
        return self.engine.read(n)


@pytest.mark.parametrize("reading", ["nobody reads", "a task reads"])
def test_a_send_that_must_receive_first(reading: str) -> None:
    def main() -> None:
        client, server = both()
        engine: Any = Stubborn(client.ssl_object)
        client._object = engine
        reader = zio.spawn(client.recv, 100) if reading == "a task reads" else None
        wait_all_parked()
        engine.refusals = 1
        assert client.send_some(b"no") == 0
        sender = zio.spawn(client.send_all, b"data")
        wait_all_parked()
        assert not sender.done
        if reader is None:
            engine.refusals = 0  # the engine deals with what comes in by writing, too
        server.send_all(b"go on")
        sender.join()
        assert server.recv(100) == b"data"
        assert (reader.join() if reader else client.recv(100)) == b"go on"

    run(main)


def test_a_reader_that_leaves_does_not_strand_a_sender_that_must_receive_first() -> None:
    def main() -> None:
        client, server = both()
        engine: Any = Stubborn(client.ssl_object)
        client._object = engine
        reader = zio.spawn(client.recv, 100)
        wait_all_parked()
        engine.refusals = 1
        sender = zio.spawn(client.send_all, b"data")
        wait_all_parked()
        assert not sender.done
        reader.cancel()
        wait_all_parked()
        engine.refusals = 0
        server.send_all(b"go on")
        sender.join()
        assert server.recv(100) == b"data"

    run(main)


def test_a_send_that_must_receive_first_ends_with_the_stream() -> None:
    def main() -> None:
        client, server = both()
        client._object = Stubborn(client.ssl_object)  # type: ignore[assignment]
        server.raw.shutdown_write()
        with pytest.raises(ssl.SSLEOFError):
            client.send_all(b"data")

    run(main)


def unread(pipe: IO[bytes] | None) -> int:
    """Bytes that the other end of a pipe has not read yet."""
    assert pipe is not None
    (count,) = struct.unpack("i", fcntl.ioctl(pipe, termios.FIONREAD, struct.pack("i", 0)))
    return int(count)


@pytest.mark.skipif(shutil.which("openssl") is None, reason="needs the openssl command")
@pytest.mark.parametrize(
    ("version", "command"),
    [("-tls1_3", "K"), ("-tls1_3", "k"), ("-tls1_2", "r")],
    ids=["key update asked for", "key update", "renegotiation"],
)
def test_new_keys_and_renegotiation(version: str, command: str, tmp_path: Any) -> None:
    """OpenSSL's own server asks for it between two messages, while a task receives and another sends."""
    cert = AUTHORITY.issue_cert("127.0.0.1")
    cert.private_key_and_cert_chain_pem.write_to_path(tmp_path / "cert.pem")
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    arguments = ["-accept", f"127.0.0.1:{port}", "-cert", str(tmp_path / "cert.pem"), "-naccept", "1", version]
    server = subprocess.Popen(
        ["openssl", "s_server", *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    assert server.stdin is not None
    assert server.stdout is not None
    lines = b"".join(b"line %d\n" % number for number in range(2000))

    def say(text: bytes) -> None:
        assert server.stdin is not None
        server.stdin.write(text)
        server.stdin.flush()

    def connect() -> zio.net.Stream:
        while True:
            try:
                return zio.net.connect("127.0.0.1", port, tls=CLIENT)
            except ConnectionRefusedError:
                zio.sleep(0.01)

    def main() -> None:
        with connect() as stream:
            say(b"before\n")
            assert stream.recv_exactly(7) == b"before\n"
            sender = zio.spawn(stream.send_all, lines[:10_000])
            say(command.encode() + b"\n")  # its own read of the terminal must see the letter alone
            while unread(server.stdin):
                zio.sleep(0.001)
            sender.join()
            receiver = zio.spawn(stream.recv_exactly, 6)
            stream.send_all(lines[10_000:])
            say(b"after\n")
            assert receiver.join() == b"after\n"

    try:
        run(main)
        output = server.communicate(timeout=30)[0]
    finally:
        server.kill()
        server.communicate()
    assert lines in b"".join(line for line in output.splitlines(keepends=True) if line.startswith(b"line "))


# In a simulated network.


def test_connect_works_in_a_network_of_its_own() -> None:
    def main() -> bytes:
        listener = zio.net.listen(NAME, 4443)

        def serve() -> None:
            with listener.accept() as plain, plain.start_tls(SERVER) as stream:
                stream.send_all(b"hello")

        serving = zio.spawn(serve)
        with zio.net.connect(NAME, 4443, tls=CLIENT, timeout=5) as stream:
            data = stream.recv(100)
        serving.join()
        listener.close()
        return data

    assert zio.testing.run_virtual(main, network=MemoryNetwork()) == b"hello"
