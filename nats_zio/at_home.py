"""Calls to a client's home loop. When its runtime ends so does the client, and then it is closed like any other."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import zio
from zio.lowlevel import call_elsewhere, edit_elsewhere

from .errors import ConnectionClosedError

if TYPE_CHECKING:
    from collections.abc import Callable

    from zio.lowlevel import Loop


def call_home(loop: Loop, fn: Callable[..., Any], *args: Any) -> Any:
    """``call_elsewhere``; ConnectionClosedError if the runtime has ended, or ends during the call."""
    try:
        return call_elsewhere(loop, fn, *args)
    except zio.RuntimeClosed:
        raise ConnectionClosedError("the client is closed: its runtime has ended") from None


def edit_home(loop: Loop, fn: Callable[..., Any], *args: Any) -> Any:
    """``edit_elsewhere``; after the end of the loop nobody edits there any more, so it is done right here."""
    try:
        return edit_elsewhere(loop, fn, *args)
    except zio.RuntimeClosed:
        pass
    return fn(*args)
