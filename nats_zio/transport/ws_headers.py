"""The user's own headers of the WebSocket upgrade. Their values may be secret: no error and no repr has one."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from ..errors import OptionError
from ..protocol import plain
from ..user_functions import Raised, check_plain

if TYPE_CHECKING:
    from ..user_functions import UserFunctions

HeaderSource = Mapping[str, str] | Callable[[], Mapping[str, str]]

_NAME = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_VALUE = re.compile(r"(?:[\x21-\x7e](?:[\x20-\x7e\t]*[\x21-\x7e])?)?")
_OURS = frozenset({"host", "upgrade", "connection", "content-length", "transfer-encoding"})
_OURS_BEGIN = "sec-websocket-"


def check_ws_headers(value: object) -> None:
    """OptionError if this cannot be the option ``ws_headers``."""
    if isinstance(value, Mapping):
        _encoded(value)
    elif value is not None and not callable(value):
        raise OptionError(f"ws_headers must be a mapping or a function that returns one, not {type(value).__name__}")
    else:
        check_plain("ws_headers", value)


def ask_ws_headers(source: HeaderSource | None, user_functions: UserFunctions) -> list[tuple[bytes, bytes]]:
    """The headers for one connection. OptionError if it is of no use."""
    if source is None:
        return []
    if isinstance(source, Mapping):
        return _encoded(source)
    try:
        answer: object = user_functions.call(source)
    except Raised as raised:
        raise OptionError(f"ws_headers= raised {type(raised.error).__name__}") from raised.error
    if not isinstance(answer, Mapping):
        raise OptionError(f"ws_headers= returned {type(answer).__name__}, not a mapping")
    return _encoded(answer)


def _encoded(headers: Mapping[Any, Any]) -> list[tuple[bytes, bytes]]:
    pairs = [(plain(name), plain(value)) for name, value in headers.items()]
    for name, value in pairs:
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            raise OptionError(f"ws_headers: {name!r} cannot be the name of a header")
        if name.lower() in _OURS or name.lower().startswith(_OURS_BEGIN):
            raise OptionError(f"ws_headers: {name!r} is set by the handshake itself")
        if not isinstance(value, str):
            raise OptionError(f"ws_headers: the value of {name!r} must be a str, not {type(value).__name__}")
        if not _VALUE.fullmatch(value):
            raise OptionError(
                f"ws_headers: the value of {name!r} must be printable ASCII on one line, without spaces around it"
            )
    return [(name.encode(), value.encode()) for name, value in pairs]
