"""Errors go through copy and pickle whole: of every class there is, also of one that is new."""

from __future__ import annotations

import copy
import importlib
import inspect
import pickle
import pkgutil
import threading
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

import pytest

import nats_zio
import zio
from nats_zio import ClosedReason

LEFT_BEHIND = "what pickle cannot take"

# What an argument of this name is given; a class with another one needs an entry here.
ARGUMENTS: dict[str, Any] = {
    "text": "the text",
    "subject": "a.subject",
    "reason": ClosedReason.DRAINED,
    "dropped": 3,
    "skipped": 4,
    "size": 10,
    "limit": 5,
    "status": 407,
    "errors": {"nats://a": nats_zio.PermissionDeniedError("no", "b"), "nats://b": OSError(111, "refused")},
    "messages": {1: [b"a"]},
    "events": (b"b",),
    "error": ValueError("of the user's"),
    "source": LEFT_BEHIND,
}


def error_classes() -> list[type[BaseException]]:
    found: dict[type[BaseException], None] = {}
    for package in (zio, nats_zio):
        for module in modules(package):
            for value in vars(module).values():
                if isinstance(value, type) and issubclass(value, BaseException) and value.__module__ == module.__name__:
                    found[value] = None
    return list(found)


def modules(package: ModuleType) -> Iterator[ModuleType]:
    yield package
    for info in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
        if not info.name.endswith("__main__"):
            yield importlib.import_module(info.name)


def make(kind: type[BaseException], left_behind: object) -> BaseException:
    parameters = list(inspect.signature(kind).parameters.values()) if inspect.isfunction(kind.__init__) else []
    positional, keywords = [], {}
    for parameter in parameters:
        if parameter.kind is parameter.VAR_POSITIONAL:
            positional.append("the text")
        elif parameter.kind is not parameter.VAR_KEYWORD:
            value = ARGUMENTS[parameter.name]
            keywords[parameter.name] = left_behind if value is LEFT_BEHIND else value
    return kind(*positional, **keywords) if keywords or positional else kind("the text")


def through_pickle(error: BaseException) -> BaseException:
    return pickle.loads(pickle.dumps(error))  # type: ignore[no-any-return]


def test_there_are_classes_of_both_packages() -> None:
    names = {kind.__name__ for kind in error_classes()}
    assert {"ChannelClosed", "Lagged", "SubscriptionLostError", "NoServersError", "HeaderError"} <= names


@pytest.mark.parametrize("kind", error_classes(), ids=lambda kind: f"{kind.__module__}.{kind.__name__}")
@pytest.mark.parametrize("way", [copy.copy, through_pickle])
def test_a_copy_is_whole(kind: type[BaseException], way: Callable[[BaseException], BaseException]) -> None:
    error = make(kind, threading.Lock())
    error.add_note("a note")
    again = way(error)
    assert type(again) is kind
    assert again is not error
    assert str(again) == str(error)
    assert repr(again.args) == repr(error.args)
    if hasattr(error, "source"):
        assert again.source is None  # type: ignore[attr-defined]
    expected = {name: value for name, value in vars(error).items() if name != "source"}
    assert shown(vars(again)) == shown(expected)
    assert shown(vars(way(again))) == shown(expected)


def shown(attributes: dict[str, Any]) -> dict[str, str]:
    """Errors among them are not equal to their copies, and look the same."""
    return {name: repr(value) for name, value in attributes.items()}


class TwoArgumentsError(Exception):
    """Somebody else's, that pickle takes and cannot read back."""

    def __init__(self, one: int, two: int) -> None:
        super().__init__(f"{one} and {two}")


def test_what_cannot_be_read_back_is_left_behind() -> None:
    """A pool of processes hangs for ever at an error that it cannot read."""
    error = through_pickle(nats_zio.NoServersError("none", {"a": TwoArgumentsError(1, 2)}))
    assert isinstance(error, nats_zio.NoServersError)
    assert dict(error.errors) == {}
    broken = through_pickle(nats_zio.ProtocolError("bad", {1: [threading.Lock()]}, [threading.Lock()]))
    assert isinstance(broken, nats_zio.ProtocolError)
    assert (dict(broken.messages), tuple(broken.events)) == ({}, ())
    assert through_pickle(error) is not error
    assert through_pickle(broken) is not broken


def test_an_error_with_a_real_source() -> None:
    def main() -> None:
        channel: zio.Channel[int] = zio.Channel()
        channel.close()
        with pytest.raises(zio.ChannelClosed) as caught:
            zio.select(channel)
        assert caught.value.source is channel
        again = through_pickle(caught.value)
        assert isinstance(again, zio.ChannelClosed)
        assert again.source is None

    zio.run(main)
