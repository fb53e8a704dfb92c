"""Functions given to the client are plain ones: of a coroutine or generator function a call would run nothing."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from functools import partial
from typing import Any

import pytest

import nats_zio
import zio
from nats_zio.testing import NatsServer
from tests.client.conftest import Run
from tests.client.helpers import LIMIT, next_event
from tests.secrecy import secret


async def coroutine(*args: Any) -> None:
    raise AssertionError("nobody runs it")


def generator(*args: Any) -> Iterator[None]:
    yield


async def async_generator(*args: Any) -> AsyncIterator[None]:
    yield


class Handler:
    async def __call__(self, *args: Any) -> None:
        """Of an object that is called."""

    async def handle(self, *args: Any) -> None:
        """Of a method."""


UNFIT: dict[str, tuple[Any, str]] = {
    "coroutine": (coroutine, "=coroutine is async def"),
    "generator": (generator, "=generator is a generator function"),
    "async generator": (async_generator, "=async_generator is a generator function"),
    "partial": (partial(partial(coroutine, 1), 2), "=coroutine is async def"),
    "object": (Handler(), "=Handler is async def"),
    "partial of an object": (partial(Handler(), 1), "=Handler is async def"),
    "method": (Handler().handle, "=Handler.handle is async def"),
}


@pytest.mark.parametrize(("function", "told"), UNFIT.values(), ids=UNFIT)
def test_what_is_wrong_with_a_handler_is_said_at_subscribe(
    nats_server: NatsServer, subject: str, function: Any, told: str
) -> None:
    def main() -> None:
        with nats_zio.connect(nats_server.url) as nc:
            with pytest.raises(nats_zio.OptionError, match=f"cb{told}.*plain function, which may block"):
                nc.subscribe(subject, cb=function)
            with pytest.raises(nats_zio.OptionError, match=f"key{told}.*plain function"):
                nc.subscribe(subject, cb=print, key=function, workers=2)
            with pytest.raises(nats_zio.OptionError, match=f"until{told}.*plain function"):
                nc.request_many(subject, until=function)

    zio.run(main)


@pytest.mark.parametrize(("function", "told"), UNFIT.values(), ids=UNFIT)
@pytest.mark.parametrize("option", ["on_event", "auth", "next_server", "reconnect_delay", "ws_headers", "proxy"])
def test_what_is_wrong_with_an_option_is_said_at_connect(option: str, function: Any, told: str) -> None:
    with pytest.raises(nats_zio.OptionError, match=f"{option}{told}.*plain function"):
        nats_zio.connect("nats://127.0.0.1:1", **{option: function})


def test_a_coroutine_function_signs_nothing() -> None:
    with pytest.raises(nats_zio.OptionError, match="sign=coroutine is async def"):
        nats_zio.Auth(nkey="U", sign=UNFIT["coroutine"][0])


def test_what_a_partial_holds_is_not_shown() -> None:
    password = secret()
    with pytest.raises(nats_zio.OptionError) as caught:
        nats_zio.connect("nats://127.0.0.1:1", auth=partial(UNFIT["coroutine"][0], password))
    assert password not in str(caught.value)


class Plain:
    """Plain in every way that is called."""

    def __call__(self, message: nats_zio.Message) -> str:
        return self.handle(message)

    def handle(self, message: nats_zio.Message) -> str:
        return "handled"


@pytest.mark.parametrize("handler", [Plain(), Plain().handle, partial(Plain()), lambda message: Plain()])
def test_whatever_else_is_called_and_returned_is_fine(
    nats_server: NatsServer, subject: str, handler: Callable[..., object]
) -> None:
    def main() -> list[object]:
        with nats_zio.connect(nats_server.url) as nc:
            nc.subscribe(subject, cb=handler)
            events = nc.events()
            nc.publish(subject)
        return [event for event in events if isinstance(event, nats_zio.events.CallbackError)]

    assert zio.run(main) == []


# Those that do not look like it. Python warns of a coroutine that nobody has run, and here a warning is an error.

HIDDEN = [coroutine, generator, async_generator]


@pytest.mark.parametrize("body", HIDDEN)
def test_a_handler_that_returns_a_body_not_run_is_told_for_each_message(
    run: Run, nats_server: NatsServer, subject: str, body: Any
) -> None:
    def main() -> None:
        with nats_zio.connect(nats_server.url) as nc:
            events = nc.events()
            nc.subscribe(subject, cb=lambda message: body(message))
            for data in (b"0", b"1"):
                nc.publish(subject, data)
                event = next_event(events, nats_zio.events.CallbackError)
                assert event.message.data == data
                assert isinstance(event.error, TypeError)
                assert "cb= returned a" in str(event.error)

    run(main)


@pytest.mark.parametrize("body", HIDDEN)
def test_an_on_event_that_returns_a_body_not_run_is_logged(
    run: Run, nats_server: NatsServer, body: Any, caplog: pytest.LogCaptureFixture
) -> None:
    def main() -> None:
        called: zio.Channel[None] = zio.Channel(10)

        def on_event(event: nats_zio.events.Event) -> object:
            called.send(None)
            return body(event)

        with nats_zio.connect(nats_server.url, on_event=on_event):
            called.recv(LIMIT)

    run(main)
    assert "on_event= returned a" in caplog.text


def test_a_key_that_returns_a_body_not_run_is_told(run: Run, nats_server: NatsServer, subject: str) -> None:
    hidden: Any = coroutine

    def main() -> None:
        with nats_zio.connect(nats_server.url) as nc:
            events = nc.events()
            nc.subscribe(subject, cb=print, key=lambda message: hidden(message), workers=2)
            nc.publish(subject)
            error = next_event(events, nats_zio.events.CallbackError).error
            assert isinstance(error, TypeError)
            assert "key= returned a coroutine" in str(error)

    run(main)


def test_an_option_that_returns_a_body_not_run_has_returned_the_wrong_thing(run: Run, nats_server: NatsServer) -> None:
    def main() -> None:
        with pytest.raises(nats_zio.Error, match="auth= returned coroutine"):
            nats_zio.connect(nats_server.url, auth=lambda info: coroutine(info))
        with nats_zio.connect(nats_server.url, next_server=lambda urls, info: coroutine()) as nc:
            events = nc.events()
            nc.force_reconnect()
            assert isinstance(next_event(events, nats_zio.events.CallbackError).error, nats_zio.OptionError)
            next_event(events, nats_zio.events.Reconnected)

    run(main)
