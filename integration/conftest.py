"""Tests in real containers: `make integration`.

They need a Docker engine and the image of the server; `scripts/docker-engine` and `scripts/nats-image` see to both. No
test may be skipped: a run with a skip fails. No test lets a secret show itself: see `tests.secrecy_scan`. Containers
and networks go with the test that asked for them; those of a run that was killed carry a label and are removed with

    docker rm --force $(docker ps --all --quiet --filter label=nats-zio-integration)
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from testcontainers.core.config import testcontainers_config
from testcontainers.core.network import Network

import zio
from integration.containers import ClusterContainers, NatsContainer
from tests import secrecy_scan

# The fixtures remove what they start: no need for the container, of one more image, that would clean up after us.
testcontainers_config.ryuk_disabled = True

_numbers = itertools.count(1)
_skipped: list[str] = []

Start = Callable[..., NatsContainer]


def pytest_configure(config: pytest.Config) -> None:
    secrecy_scan.install(config)


@pytest.fixture(scope="session")
def network() -> Iterator[Network]:
    with Network() as created:
        yield created


@pytest.fixture(scope="session")
def shared_server(network: Network) -> Iterator[NatsContainer]:
    """A server for all tests that do it no harm."""
    with NatsContainer(network, name="shared") as started:
        yield started


@pytest.fixture
def start(network: Network) -> Iterator[Start]:
    """Start servers of the test's own: `start(config, ...)`, with the arguments of `NatsContainer` but the network."""
    started: list[NatsContainer] = []

    def start_one(config: str = "", **options: Any) -> NatsContainer:
        options.setdefault("name", f"nats-{next(_numbers)}")
        server = NatsContainer(network, config, **options)
        server.start()
        started.append(server)
        return server

    yield start_one
    for server in started:
        server.stop()


@pytest.fixture
def server(start: Start) -> NatsContainer:
    """A server of the test's own, to kill, restart and freeze."""
    return start()


@pytest.fixture(scope="session")
def shared_cluster(network: Network) -> Iterator[ClusterContainers]:
    with ClusterContainers(network) as started:
        yield started


@pytest.fixture
def cluster(shared_cluster: ClusterContainers) -> ClusterContainers:
    """Three servers with JetStream, whole. They serve one test after the other; what a test broke is mended here."""
    shared_cluster.repair()
    return shared_cluster


@pytest.fixture(params=["task", "thread"])
def run(request: pytest.FixtureRequest) -> Iterator[Callable[..., Any]]:
    """Run a function as the main task of a runtime, and in a plain thread with the client in the background runtime."""
    if request.param == "task":
        yield zio.run
        return
    runtime = zio.background()
    yield lambda fn, *args: fn(*args)
    runtime.close()


@pytest.fixture
def subject() -> str:
    """A subject that no other test uses."""
    return f"test.{os.getpid()}.{next(_numbers)}"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Any:
    report = yield
    if report.skipped:
        _skipped.append(item.nodeid)
    return report


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    if _skipped and exitstatus == pytest.ExitCode.OK:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: Any) -> None:
    if _skipped:
        terminalreporter.section("no test may be skipped here", red=True)
        for name in _skipped:
            terminalreporter.line(name)
