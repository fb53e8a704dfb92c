"""The examples of the runtime, each as a program that ends within five seconds; and the HTTP server put to the test."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

import zio
from zio.testing import MemoryNetwork, run_virtual, wait_all_parked

FOLDER = Path(__file__).resolve().parent.parent / "examples" / "runtime"
CAP = 5  # seconds that an example may take
ENVIRONMENT = {
    **os.environ,
    "PYTHONPATH": os.pathsep.join(filter(None, (str(FOLDER.parent.parent), os.environ.get("PYTHONPATH")))),
}


def output(name: str, *args: str, status: int = 0) -> str:
    done = subprocess.run(
        [sys.executable, "-W", "error", str(FOLDER / name), *args],
        capture_output=True,
        text=True,
        timeout=CAP,
        env=ENVIRONMENT,
        check=False,
    )
    assert (done.returncode, done.stderr) == (status, ""), done.stdout + done.stderr
    return done.stdout


@contextlib.contextmanager
def program(name: str, *args: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A program that serves, and its first line; at the end it is told to stop, and must do so in order."""
    process = subprocess.Popen(
        [sys.executable, "-W", "error", str(FOLDER / name), *args],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=ENVIRONMENT,
    )
    try:
        assert process.stdout is not None
        yield process, process.stdout.readline()
        process.send_signal(signal.SIGTERM)
        _, errors = process.communicate(timeout=30)
        assert (process.returncode, errors) == (0, "")
    finally:
        process.kill()
        process.communicate()


def test_every_example_is_run_here() -> None:
    source = Path(__file__).read_text()
    assert [path.name for path in FOLDER.glob("*.py") if f'"{path.name}"' not in source] == []


def test_every_example_is_in_the_list_of_examples() -> None:
    listed = (FOLDER.parent / "README.md").read_text()
    programs = [path for path in FOLDER.parent.rglob("*.py") if not path.name.startswith("_")]
    assert len(programs) > 10
    assert [path.name for path in programs if f"]({path.relative_to(FOLDER.parent).as_posix()})" not in listed] == []


def test_echo() -> None:
    assert output("echo.py") == "100 clients, 2,000,000 bytes echoed\n"


def test_echo_as_a_server() -> None:
    with program("echo.py", "serve", "0") as (_, line):
        port = int(line.rpartition(":")[2])

        def main() -> bytes:
            with zio.net.connect("127.0.0.1", port) as stream:
                stream.send_all(b"hello")
                stream.shutdown_write()
                return stream.recv_exactly(5) + stream.recv(1)

        assert zio.run(main) == b"hello"


def test_chat() -> None:
    assert output("chat.py") == (
        "bob reads: ann: hello everybody\n"
        "cleo reads: ann: hello everybody | bob: hello ann\n"
        "ann reads: *: cleo has left\n"
    )


def test_a_guest_of_the_chat_who_does_not_read_holds_up_nobody_and_is_told_what_was_missed() -> None:
    chat = example("chat")

    def main() -> tuple[bytes, str]:
        with zio.net.listen("chat", 1) as listener:
            serving = zio.spawn(listener.serve, chat.Room().guest)
            lazy, talker = zio.net.connect("chat", 1), zio.net.connect("chat", 1)
            lazy.send_all(b"lazy\n")
            wait_all_parked()
            talker.send_all(b"talker\n")
            for _ in range(1000):
                talker.send_all(b"x" * 900 + b"\n")
                wait_all_parked()
            missed = b""
            while b"missed" not in missed:
                missed = lazy.recv_until(b"\n", 2000)
            talker.close()
            lazy.close()
            listener.close()
            serving.join()
            return missed, "all said"

    missed, said = run_virtual(main, network=MemoryNetwork())
    assert re.fullmatch(rb"\* you have missed \d+ lines\n", missed)
    assert said == "all said"


def test_ntp() -> None:
    assert output("ntp.py") == "127.0.0.1: our clock is +42.0 s behind\n"


def test_ntp_takes_no_answer_to_another_question_and_gives_up_on_a_silent_server() -> None:
    ntp = example("ntp")
    assert ntp.offset_in(b"short", 1.0, 2.0) is None
    assert ntp.offset_in(ntp.PACKET.pack(0x24, 2, 0, 0, *[0] * 11), 1.0, 2.0) is None

    def main() -> None:
        with zio.net.udp("127.0.0.1") as silent, pytest.raises(TimeoutError, match="none of 5 questions"):
            ntp.ask("127.0.0.1", silent.port)

    zio.run(main)


def test_parallel_grep(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    for number in range(50):
        (tmp_path / "deep" / f"file{number}.py").write_text(f"one\ntwo needle {number}\nthree\n")
    (tmp_path / "other.txt").write_text("needle\n")
    *hits, last = output("parallel_grep.py", "nee.le", str(tmp_path)).splitlines()
    assert sorted(hits) == sorted(f"{tmp_path}/deep/file{n}.py:2: two needle {n}" for n in range(50))
    assert last == "50 lines in 50 files"
    assert output("parallel_grep.py", "nowhere", str(tmp_path), status=1) == "0 lines in 50 files\n"


def test_producer_consumer() -> None:
    assert output("producer_consumer.py") == (
        f"300 jobs done by 4 consumers, sum of squares {sum(n * n for n in range(300))}\n"
    )


def test_http_client() -> None:
    assert output("http_client.py") == "b'hello\\n'\n200 6 b''\nb'in three pieces'\nb'1\\n2\\n3\\n4\\n'\n404\n"


def test_http_server_as_a_program() -> None:
    with program("http_server.py", "0") as (_, line):
        assert "200 {" in output("http_client.py", line.strip() + "/headers")


# The HTTP server, in virtual time and in memory.


def example(name: str) -> Any:
    sys.path.insert(0, str(FOLDER))
    try:
        return import_module(name)
    finally:
        sys.path.remove(str(FOLDER))


http = example("http_server")
client = example("http_client")


def serving(test: Callable[..., Any], handler: Any = None, **limits: Any) -> Any:
    """What ``test(server)`` returns while the server serves at http:80, which ends in order afterwards."""

    def main() -> Any:
        server = http.HTTPServer(handler or http.handle, **limits)
        with zio.net.listen("http", 80) as listener:
            running = zio.spawn(server.serve, listener)
            result = test(server)
            server.stop()
            running.join()
            return result

    return run_virtual(main, network=MemoryNetwork())


def said(data: bytes, *, end: bool = True) -> bytes:
    """All that the server says to these bytes until it closes the connection."""
    with zio.net.connect("http", 80) as stream:
        stream.send_all(data)
        if end:
            stream.shutdown_write()
        answer = b""
        while part := stream.recv(65536):
            answer += part
        return answer


def get(path: str, *headers: str) -> bytes:
    return "\r\n".join((f"GET {path} HTTP/1.1", "host: http", *headers, "", "")).encode()


def test_requests_sent_ahead_are_answered_one_by_one_in_order() -> None:
    answers = serving(lambda _: said(get("/slow?2") + get("/") + get("/nowhere") + get("/", "connection: close")))
    assert re.findall(rb"HTTP/1.1 (\d+) ", answers) == [b"200", b"200", b"404", b"200"]
    assert re.findall(rb"\r\n\r\n([^\n]*)\n", answers) == [b"at last", b"hello", b"not found", b"hello"]


def test_a_body_sent_in_chunks_is_put_together_and_one_of_unknown_length_sent_in_chunks() -> None:
    def test(_: Any) -> tuple[Any, Any, bytes]:
        with client.HTTPClient("http") as http_client:
            echo = http_client.request("POST", "/echo", iter([b"in ", b"", b"pieces"]))
            stream = http_client.stream
            count = http_client.request("GET", "/count?3")
            assert http_client.stream is stream  # kept alive
        return echo, count, said(b"GET /count?2 HTTP/1.0\r\n\r\n")

    echo, count, old = serving(test)
    assert echo.body == b"in pieces"
    assert (count.body, count.headers["transfer-encoding"]) == (b"1\n2\n3\n", "chunked")
    assert old.endswith(b"\r\n\r\n1\n2\n")  # HTTP/1.0 knows no chunks: the end of the connection is the end


def test_head_has_the_headers_of_get_and_no_body() -> None:
    answers = serving(lambda _: said(b"HEAD / HTTP/1.1\r\nhost: http\r\n\r\n" + get("/count?1", "connection: close")))
    head, _, rest = answers.partition(b"\r\n\r\n")
    assert b"content-length: 6" in head.lower()
    assert rest.startswith(b"HTTP/1.1 200 OK")


def test_a_client_that_waits_for_leave_to_send_its_body_gets_it() -> None:
    request = b"POST /echo HTTP/1.1\r\nhost: http\r\nexpect: 100-continue\r\ncontent-length: 4\r\n\r\n"

    def test(_: Any) -> tuple[bytes, bytes]:
        with zio.net.connect("http", 80) as stream:
            stream.send_all(request)
            leave = stream.recv_until(b"\r\n\r\n", 1000)
            stream.send_all(b"body")
            stream.recv_until(b"\r\n\r\n", 1000)
            return leave, stream.recv_exactly(4)

    leave, body = serving(test)
    assert leave.startswith(b"HTTP/1.1 100 ")
    assert body == b"body"


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"rubbish\r\n\r\n", b"400"),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" * 3, b"400"),  # TLS
        (b"GET / HTTP/1.1\r\n\r\n", b"400"),  # no host
        (b"GET / HTTP/1.1\r\nhost: http\r\nbad header\r\n\r\n", b"400"),
        (get("/count?many"), b"400"),
        (b"POST /echo HTTP/1.1\r\nhost: http\r\ncontent-length: 10\r\n\r\nshort", b"400"),
        (b"POST /echo HTTP/1.1\r\nhost: http\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n", b"400"),
        (get("/", "x: " + "y" * 2000), b"431"),
        (b"G" * 5000, b"431"),
        (b"POST /echo HTTP/1.1\r\nhost: http\r\ncontent-length: 20000\r\n\r\n" + b"x" * 20000, b"413"),
        # Still being sent when it is refused: the answer must not be lost by a reset.
        (b"POST /echo HTTP/1.1\r\nhost: http\r\ncontent-length: 300000\r\n\r\n" + b"x" * 300_000, b"413"),
    ],
)
def test_what_cannot_be_answered_is_refused_and_the_server_goes_on(data: bytes, status: bytes) -> None:
    def test(_: Any) -> tuple[bytes, bytes]:
        return said(data), said(get("/", "connection: close"))

    refused, after = serving(test, header_limit=1000, body_limit=10_000)
    assert refused.split(b" ", 2)[:2] == [b"HTTP/1.1", status]
    assert after.startswith(b"HTTP/1.1 200 OK")


def test_a_handler_that_fails_is_a_500_and_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    def handler(request: Any) -> Any:
        raise ZeroDivisionError("mine")

    assert serving(lambda _: said(get("/a", "connection: close")), handler).startswith(b"HTTP/1.1 500 ")
    assert [(record.getMessage(), record.exc_info is not None) for record in caplog.records] == [("GET /a", True)]


def test_slow_clients_are_let_go() -> None:
    def test(_: Any) -> list[tuple[bytes, float]]:
        results = []
        for data in (b"", b"GET / HT", b"POST /echo HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\n\r\nab"):
            begin = zio.now()
            answer = said(data, end=False)
            results.append((answer[:12], zio.now() - begin))
        return results

    assert serving(test, idle_timeout=30, receive_timeout=10) == [
        (b"", 30),  # nothing was asked
        (b"HTTP/1.1 408", 10),
        (b"HTTP/1.1 408", 10),
    ]


def test_a_client_that_does_not_read_is_let_go() -> None:
    def endless(_request: Any) -> Any:
        return http.Response(body=(b"x" * 10_000 for _ in range(1_000_000)))

    def test(_: Any) -> int:
        with zio.net.connect("http", 80) as stream:
            stream.send_all(get("/"))
            zio.sleep(11)
            total = 0
            while (part := stream.recv(65536)) and total < 1_000_000:
                total += len(part)
            return total

    assert 10_000 < serving(test, endless, send_timeout=10) < 1_000_000


def test_a_stop_closes_idle_connections_at_once_and_answers_requests_that_are_here() -> None:
    def test(server: Any) -> tuple[bytes, bytes, float]:
        begin = zio.now()
        with zio.net.connect("http", 80) as idle, zio.net.connect("http", 80) as busy:
            idle.send_all(get("/"))
            idle.recv_until(b"hello\n", 1000)
            busy.send_all(get("/slow?5"))
            wait_all_parked()
            server.stop()
            end = idle.recv(100)
            assert zio.now() == begin
            with pytest.raises(ConnectionRefusedError):
                zio.net.connect("http", 80)
            answer = b""
            while part := busy.recv(65536):
                answer += part
            return end, answer, zio.now() - begin

    end, answer, took = serving(test)
    assert end == b""
    assert answer.startswith(b"HTTP/1.1 200 OK")
    assert b"connection: close" in answer.lower()
    assert answer.endswith(b"at last\n")
    assert took == 5


def test_the_client_repeats_what_it_may_when_a_kept_connection_has_ended() -> None:
    def test(_: Any) -> tuple[bytes, str]:
        with client.HTTPClient("http", timeout=100) as http_client:
            http_client.request("GET", "/")
            zio.sleep(31)  # the server has closed it meanwhile
            again = http_client.request("GET", "/").body
            zio.sleep(31)
            with pytest.raises((OSError, EOFError)) as caught:
                http_client.request("POST", "/echo", b"once only")
            return again, type(caught.value).__name__

    again, _error = serving(test)
    assert again == b"hello\n"


def test_the_client_limits_what_it_waits_for_and_takes() -> None:
    def test(_: Any) -> None:
        with client.HTTPClient("http", timeout=2, body_limit=5) as http_client:
            with pytest.raises(TimeoutError):
                http_client.request("GET", "/slow?3")
            with pytest.raises(ValueError, match="more than 5 bytes"):
                http_client.request("GET", "/")
            assert http_client.request("HEAD", "/").status == 200

    serving(test)


# Under load, over TCP.

CONNECTIONS = 50


@pytest.mark.slow
def test_ten_seconds_of_load_without_an_error() -> None:
    """wrk where it is installed, else fifty connections of our own, of which some send three requests ahead."""
    with program("http_server.py", "0") as (_, line):
        url = line.strip()
        load = wrk if shutil.which("wrk") else own_load
        answered, problems = load(url)
    print(f"{answered} requests answered by {load.__name__}, {answered / 10:.0f} a second")
    assert problems == []
    assert answered > 500


def wrk(url: str) -> tuple[int, list[str]]:
    command = ["wrk", "-t1", f"-c{CONNECTIONS}", "-d10s", "--timeout", "8s", f"{url}/"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=40, check=True)
    found = re.search(r"(\d+) requests in", done.stdout)
    assert found is not None, done.stdout
    return int(found[1]), re.findall(r"(?:Socket errors|Non-2xx).*", done.stdout)


def own_load(url: str, seconds: float = 10.0) -> tuple[int, list[str]]:
    port = int(url.rpartition(":")[2])
    problems: list[str] = []
    answered, end = 0, 0.0

    def keep_asking(ahead: int) -> None:
        nonlocal answered
        with zio.net.connect("127.0.0.1", port) as stream:
            while zio.now() < end and not problems:
                stream.send_all(get("/") * ahead)
                for _ in range(ahead):
                    head = stream.recv_until(b"\r\n\r\n", 1000)
                    body = stream.recv_exactly(6)
                    if not head.startswith(b"HTTP/1.1 200 OK") or body != b"hello\n":
                        problems.append(f"{head!r} {body!r}")
                    answered += 1

    def main() -> None:
        nonlocal end
        end = zio.now() + seconds
        with zio.TaskGroup() as group:
            for number in range(CONNECTIONS):
                group.spawn(keep_asking, 3 if number % 5 == 0 else 1)

    zio.run(main)
    return answered, problems


def test_load_of_our_own() -> None:
    """What stands in for wrk, for a second."""
    with program("http_server.py", "0") as (_, line):
        answered, problems = own_load(line.strip(), 1.0)
    assert problems == []
    assert answered > CONNECTIONS
