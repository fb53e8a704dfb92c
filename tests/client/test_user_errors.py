"""What a user's function raises ends that call and nothing else, whatever it is.

In `zio.run` an exit (SystemExit, KeyboardInterrupt) ends the run, as it does in any task. The background runtime serves
all threads of the process, so there it is an error like others.
"""

from __future__ import annotations

import math
import os
import signal
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest

import nats_zio
import zio
from nats_zio.session.session import Session
from nats_zio.testing import NatsServer
from tests.client.helpers import LIMIT, away, next_event


def a_cancel_of_another_task() -> None:
    task = zio.spawn(zio.sleep, math.inf)
    task.cancel()
    task.join()


def a_generator_exit() -> None:
    raise GeneratorExit


def an_exit() -> None:
    raise SystemExit(3)


def an_interrupt() -> None:
    raise KeyboardInterrupt


RAISED = {
    a_cancel_of_another_task: zio.Cancelled,
    a_generator_exit: GeneratorExit,
    an_exit: SystemExit,
    an_interrupt: KeyboardInterrupt,
}
EXITS = (an_exit, an_interrupt)


@dataclass
class Case:
    """Where the test and the user's functions run, and what these raise, while they are to."""

    run: Callable[..., Any]
    options: dict[str, Any]
    raise_it: Callable[[], None]
    failing: bool = False
    failures: int = field(default=0, init=False)

    @property
    def kind(self) -> type[BaseException]:
        return RAISED[self.raise_it]

    def maybe(self) -> None:
        """The beginning of a user's function."""
        if self.failing:
            self.failures += 1
            self.raise_it()

    def connect(self, server: NatsServer, **options: Any) -> nats_zio.Client:
        return nats_zio.connect(server.url, reconnect_wait=0.01, **self.options, **options)


@pytest.fixture(
    params=[
        (where, raised)
        for where in ("task", "thread", "background task")
        for raised in RAISED
        if where != "task" or raised not in EXITS
    ],
    ids=lambda param: f"{param[0]}-{param[1].__name__}",
)
def case(request: pytest.FixtureRequest) -> Case:
    where, raised = request.param
    if where == "task":
        return Case(zio.run, {}, raised)
    request.getfixturevalue("background_runtime")
    return Case(lambda fn: fn(), {"run_callbacks": "task"} if where == "background task" else {}, raised)


def test_auth_that_raises_is_a_failed_attempt(case: Case, server: NatsServer) -> None:
    def auth(info: nats_zio.ServerInfo) -> nats_zio.Auth:
        case.maybe()
        return nats_zio.Auth()

    def main() -> None:
        with case.connect(server, auth=auth) as nc:
            events = nc.events()
            case.failing = True
            nc.force_reconnect()
            error = next_event(events, nats_zio.events.ReconnectFailed).error
            assert isinstance(error, nats_zio.CredentialsError)
            assert isinstance(error.__cause__, case.kind)
            case.failing = False
            next_event(events, nats_zio.events.Reconnected)
            nc.flush()

    case.run(main)


def test_auth_that_raises_at_connect_is_a_server_not_reached(case: Case, server: NatsServer) -> None:
    def auth(info: nats_zio.ServerInfo) -> nats_zio.Auth:
        case.maybe()
        return nats_zio.Auth()

    def main() -> None:
        case.failing = True
        with pytest.raises(nats_zio.Error, match=f"auth= raised {case.kind.__name__}"):
            case.connect(server, auth=auth)

    case.run(main)


@pytest.mark.parametrize("option", ["next_server", "reconnect_delay"])
def test_a_function_about_reconnecting_that_raises_is_as_good_as_none(
    case: Case, server: NatsServer, option: str
) -> None:
    def main() -> None:
        with case.connect(server, **{option: lambda *args: case.maybe()}) as nc:
            events = nc.events()
            case.failing = True
            away(server.stop)
            error = next_event(events, nats_zio.events.CallbackError).error
            assert isinstance(error, case.kind)
            away(server.start)
            next_event(events, nats_zio.events.Reconnected)
            nc.flush()

    case.run(main)


def test_a_dialer_that_raises_is_a_failed_attempt(case: Case, server: NatsServer) -> None:
    def dial(host: str, port: int) -> zio.net.Stream:
        case.maybe()
        return zio.net.connect(host, port)

    def main() -> None:
        with case.connect(server, proxy=dial) as nc:
            events = nc.events()
            case.failing = True
            nc.force_reconnect()
            error = next_event(events, nats_zio.events.ReconnectFailed).error
            assert isinstance(error, nats_zio.ProxyError)
            assert isinstance(error.__cause__, case.kind)
            case.failing = False
            next_event(events, nats_zio.events.Reconnected)

    case.run(main)


def test_on_event_that_raises_is_called_with_the_next_event(
    case: Case, server: NatsServer, caplog: pytest.LogCaptureFixture
) -> None:
    seen: zio.Channel[nats_zio.events.Event] = zio.Channel(100)

    def on_event(event: nats_zio.events.Event) -> None:
        seen.send(event)
        case.maybe()

    def main() -> None:
        case.failing = True
        with case.connect(server, on_event=on_event) as nc:
            next_event(seen, nats_zio.events.Connected)
            nc.force_reconnect()
            next_event(seen, nats_zio.events.Reconnected)
        next_event(seen, nats_zio.events.Closed)

    case.run(main)
    failed = [record for record in caplog.records if record.getMessage().startswith("on_event= failed")]
    assert len(failed) == case.failures
    assert {record.exc_info[0] for record in failed if record.exc_info is not None} == {case.kind}


def test_a_handler_that_raises_loses_one_message_only(case: Case, server: NatsServer) -> None:
    def main() -> None:
        handled: zio.Channel[bytes] = zio.Channel(100)

        def handle(message: nats_zio.Message) -> None:
            handled.send(message.data)
            if message.data == b"1":
                case.raise_it()

        with case.connect(server) as nc:
            events = nc.events()
            sub = nc.subscribe("handled", cb=handle)
            for data in (b"0", b"1", b"2"):
                nc.publish("handled", data)
            assert [handled.recv(LIMIT) for _ in range(3)] == [b"0", b"1", b"2"]
            event = next_event(events, nats_zio.events.CallbackError)
            assert isinstance(event.error, case.kind)
            assert (event.sub, event.message.data) == (sub, b"1")
            sub.drain()

    case.run(main)


def test_a_key_that_raises_loses_one_message_only(case: Case, server: NatsServer) -> None:
    def main() -> None:
        handled: zio.Channel[bytes] = zio.Channel(100)

        def key(message: nats_zio.Message) -> bytes:
            if message.data == b"1":
                raise case.kind  # at once: a key must not wait, not even for another task
            return message.data

        with case.connect(server) as nc:
            events = nc.events()
            nc.subscribe("keyed", cb=lambda message: handled.send(message.data), key=key, workers=2)
            for data in (b"0", b"1", b"2"):
                nc.publish("keyed", data)
            assert {handled.recv(LIMIT) for _ in range(2)} == {b"0", b"2"}
            assert isinstance(next_event(events, nats_zio.events.CallbackError).error, case.kind)
            nc.flush()

    case.run(main)


@pytest.mark.parametrize("raise_it", EXITS)
def test_an_exit_on_a_worker_thread_ends_no_run(
    server: NatsServer, raise_it: Callable[[], None], caplog: pytest.LogCaptureFixture
) -> None:
    """As in any thread, also where the client itself lives in a run of the user's."""
    case = Case(zio.run, {"run_callbacks": "thread"}, raise_it)

    def auth(info: nats_zio.ServerInfo) -> nats_zio.Auth:
        case.maybe()
        return nats_zio.Auth()

    def main() -> None:
        with case.connect(server, auth=auth, on_event=lambda event: raise_it()) as nc:
            events = nc.events()
            case.failing = True
            nc.force_reconnect()
            next_event(events, nats_zio.events.ReconnectFailed)
            case.failing = False
            next_event(events, nats_zio.events.Reconnected)

    case.run(main)
    assert "on_event= failed" in caplog.text


# What is not the function's own.


def test_control_c_while_auth_is_asked_on_a_thread_interrupts_the_main_task(server: NatsServer) -> None:
    go_on = threading.Event()

    def auth(info: nats_zio.ServerInfo) -> nats_zio.Auth:
        os.kill(os.getpid(), signal.SIGINT)
        assert go_on.wait(30)
        return nats_zio.Auth()

    def main() -> None:
        try:
            nats_zio.connect(server.url, auth=auth, run_callbacks="thread")
        finally:
            go_on.set()

    with pytest.raises(KeyboardInterrupt):
        zio.run(main)


@pytest.mark.parametrize("raise_it", EXITS)
@pytest.mark.parametrize("option", ["auth", "next_server", "on_event", "cb"])
def test_in_a_run_of_ones_own_an_exit_ends_it(server: NatsServer, raise_it: Callable[[], None], option: str) -> None:
    def fail(*args: object) -> None:
        raise_it()

    def main() -> None:
        nc = nats_zio.connect(server.url, **({} if option == "cb" else {option: fail}))
        nc.subscribe("exits", cb=fail)
        if option == "cb":
            nc.publish("exits")
        nc.force_reconnect()
        zio.sleep(LIMIT)

    with pytest.raises(RAISED[raise_it]):
        zio.run(main)


def test_the_end_of_the_run_is_no_error_of_the_functions_it_ends(
    server: NatsServer, caplog: pytest.LogCaptureFixture
) -> None:
    def main() -> None:
        entered: zio.Channel[str] = zio.Channel(2)

        def wait(what: object) -> None:
            entered.send("entered")
            zio.sleep(math.inf)

        nc = nats_zio.connect(server.url, on_event=wait)
        nc.subscribe("waits", cb=wait)
        nc.publish("waits")
        entered.recv(LIMIT)
        entered.recv(LIMIT)

    zio.run(main)
    assert not [record for record in caplog.records if "failed" in record.getMessage()]


def test_an_auth_that_the_time_limit_ends_is_no_failed_auth(server: NatsServer) -> None:
    def main() -> None:
        with pytest.raises(nats_zio.NoServersError) as caught:
            nats_zio.connect(server.url, auth=lambda info: zio.sleep(math.inf), connect_timeout=0.05)
        (error,) = caught.value.errors.values()
        assert isinstance(error, nats_zio.TimeoutError)

    zio.run(main)


# Should all else fail.


def test_a_session_goes_on_after_an_error_that_nobody_has_thought_of(
    server: NatsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No memory for a moment, say, or what a signal handler has raised in it."""
    errors = [ValueError("odd"), MemoryError()]
    reconnect = Session._reconnect

    def fail(self: Session) -> bool:
        if errors:
            raise errors.pop()
        return reconnect(self)

    def main() -> None:
        with nats_zio.connect(server.url) as nc:
            events = nc.events()
            monkeypatch.setattr(Session, "_reconnect", fail)
            nc.force_reconnect()
            next_event(events, nats_zio.events.Reconnected)
            nc.flush()

    zio.run(main)
    assert not errors


@pytest.mark.parametrize("error", [zio.Cancelled, GeneratorExit])
def test_a_session_that_is_ended_by_what_is_no_error_closes_the_client(
    server: NatsServer, monkeypatch: pytest.MonkeyPatch, error: type[BaseException], caplog: pytest.LogCaptureFixture
) -> None:
    """Without its task a client would wait for a connection that nobody makes."""

    def fail(self: Session) -> bool:
        raise error

    def main() -> None:
        nc = nats_zio.connect(server.url)
        events = nc.events()
        sub = nc.subscribe("ends")
        monkeypatch.setattr(Session, "_reconnect", fail)
        nc.force_reconnect()
        assert isinstance(next_event(events, nats_zio.events.Closed).error, error)
        with pytest.raises(nats_zio.ConnectionClosedError):
            sub.next(timeout=LIMIT)
        with pytest.raises(nats_zio.ConnectionClosedError):
            nc.flush()

    zio.run(main)
    assert "nats session" in caplog.text
