"""Calling ``on_event=``: one event after another, in a task or on a worker thread, never inside the session."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import zio
from zio.lowlevel import current_holder, current_owner, log_later, wait_done

from .events import Receiver
from .user_functions import refuse_unrun

if TYPE_CHECKING:
    from collections.abc import Callable

    from zio.lowlevel import Loop

    from .events import Event
    from .user_functions import UserFunctions

logger = logging.getLogger("nats_zio")

END_TIMEOUT = 2.0  # seconds that close() gives to the last calls


class EventCalls:
    """Takes the events of a client to the user's function. In the home loop."""

    def __init__(self, loop: Loop, call: Callable[[Event], object], user_functions: UserFunctions) -> None:
        self.receiver = Receiver()
        self._call = call
        self._user_functions = user_functions
        self._holder: Any = None  # the task or thread that runs the function just now
        self._task = loop.spawn_system(self._run, name="nats on_event")

    def _run(self) -> None:
        while True:
            try:
                event = self.receiver.recv()
            except zio.ChannelClosed:
                return
            try:
                if self._user_functions.in_threads:
                    zio.to_thread(self._call_one, event)
                else:
                    self._call_one(event)
            except Exception as exc:
                log_later(logger, logging.ERROR, "there was no thread to call on_event= for %r", event, error=exc)

    def _call_one(self, event: Event) -> None:
        self._holder = current_holder()
        functions = self._user_functions
        try:
            result = self._call(event)
            if result is not None:
                refuse_unrun("on_event", result)
        except BaseException as exc:
            if not functions.in_threads and not functions.is_users(exc):
                raise
            # And no event: its handler would be this one.
            log_later(logger, logging.ERROR, "on_event= failed for %r", event, error=exc)
        finally:
            self._holder = None

    def join(self) -> None:
        """Wait for the last calls, at most ``END_TIMEOUT``; not if the caller is the function itself."""
        if self._holder is not None and self._holder is current_owner():
            return
        with zio.move_on_after(END_TIMEOUT) as scope:
            wait_done(self._task)
        if scope.expired:
            log_later(
                logger, logging.WARNING, "on_event= has not returned within %s s of the end of the client", END_TIMEOUT
            )
