"""Requests over one shared inbox: each has a token, the last part of its reply subject.

The table of tokens is a dict whose single steps are atomic, so a plain thread registers its request itself and
waits on a lock of its own; only the first request of a client needs the home loop, to subscribe the inbox.
"""

from __future__ import annotations

from copy import copy
from itertools import count
from time import monotonic
from typing import TYPE_CHECKING, Any, Protocol

from greenlet import getcurrent

import zio
from zio.lowlevel import (
    FAILED,
    TIMED_OUT,
    WOKEN,
    Fiber,
    Waiter,
    call_elsewhere,
    refuse_to_block_here,
    wait_in_thread,
)

from .errors import DisconnectedError, NoRespondersError, TimeoutError
from .framing import payload
from .latch import ThreadLatch
from .replies import Gathering

if TYPE_CHECKING:
    from collections.abc import Callable

    from .client import Client
    from .errors import PermissionDeniedError, ServerError
    from .framing import Data
    from .message import Message
    from .protocol import HeadersInput, ServerErrorInfo

RETURN = 2.0  # seconds that those who reply have to connect again, when a request is repeated
PAUSE = 0.05  # seconds between two questions then

_NO_RESPONDERS = b"NATS/1.0 503"


class Replied(Protocol):
    """What waits for a reply: a waiter of the loop, or a plain thread's."""

    def wake(self, value: Any = None, source: object = None) -> bool: ...
    def fail(self, error: BaseException) -> bool: ...


class Requests:
    """The pending requests of a client."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._inbox = ""
        self.prefix = b""  # of reply subjects
        self._skip = 0
        self._denied: Callable[[], BaseException] | None = None  # the server refused the inbox
        self._pending: dict[str, tuple[Replied, bytes, str]] = {}
        self._tokens = count(1)

    def request(self, subject: str, data: Data, timeout: float | None, headers: HeadersInput | None) -> Message:
        """``Client.request``: from any task or thread."""
        client = self._client
        loop = client.loop
        fiber = getcurrent()
        if type(fiber) is not Fiber:
            return self._request_in_thread(subject, data, timeout, headers)
        if fiber.loop is not loop:
            return call_elsewhere(loop, self.request, subject, data, timeout, headers)  # type: ignore[no-any-return]
        if loop.budget <= 0:
            loop.checkpoint(fiber)
        else:
            loop.budget -= 1
        if not self._inbox:
            self.open()
        token = str(next(self._tokens))
        line, body = client.framer.request_frame(subject, data, self.prefix, token, headers)
        outbound = client.outbound
        size = len(body)
        left = timeout
        if outbound.accepted + size > outbound.limit:
            if timeout is None:
                outbound.admit(size)
            else:
                deadline = loop.clock.now() + timeout
                outbound.admit(size, deadline)
                left = deadline - loop.clock.now()
        outbound.lines.extend((line, body))
        outbound.accepted += size
        waiter = Waiter(fiber, "a reply")
        self.add(token, waiter, line, subject)
        state = loop.park(waiter) if left is None else loop.park_for(waiter, left)
        if state == WOKEN:
            return waiter.value  # type: ignore[no-any-return]
        self.forget(token)
        if state == FAILED:
            raise waiter.value
        if state == TIMED_OUT and not fiber.cancelled:
            raise self._timed_out(subject, timeout)
        raise zio.Cancelled

    def _request_in_thread(
        self, subject: str, data: Data, timeout: float | None, headers: HeadersInput | None
    ) -> Message:
        client = self._client
        client.loop.check_usable()
        refuse_to_block_here(self.request)
        if not self._inbox:
            call_elsewhere(client.loop, self.open)
        reply = ThreadLatch()
        token = str(next(self._tokens))
        line, body = client.framer.request_frame(subject, data, self.prefix, token, headers)
        self.add(token, reply, line, subject)
        start = monotonic()
        try:
            client.send_elsewhere(line, body, timeout, at_once=True)
            arrived = wait_in_thread(reply, None if timeout is None else timeout - (monotonic() - start))
        except BaseException:
            self.forget(token)
            raise
        if not arrived:
            self.forget(token)
            raise self._timed_out(subject, timeout)
        if reply.error is not None:
            raise reply.error
        return reply.value  # type: ignore[no-any-return]

    def repeat(self, subject: str, data: Data, timeout: float | None, headers: HeadersInput | None) -> Message:
        """Like ``request``; asks again when the connection breaks before the reply, within ``timeout`` in all.

        Whoever replies may need a moment longer than we to connect again: for ``RETURN`` seconds after the reconnect
        the question is repeated also if nobody listens.
        """
        data = payload(data)  # what is asked again is the same
        start = zio.now()
        left = timeout
        broken = False
        patient_until: float | None = None
        while True:
            try:
                return self.request(subject, data, left, headers)
            except DisconnectedError:
                broken, patient_until = True, None
                left = None if timeout is None else timeout - (zio.now() - start)
                if left is not None and left <= 0:
                    raise self._timed_out(subject, timeout) from None
            except NoRespondersError:
                now = zio.now()
                left = None if timeout is None else timeout - (now - start) - PAUSE
                if patient_until is None:
                    patient_until = now + RETURN
                if not broken or now >= patient_until or (left is not None and left <= 0):
                    raise
                zio.sleep(PAUSE)
            except TimeoutError:
                if not broken:
                    raise
                raise self._timed_out(subject, timeout) from None

    def gather(self, subject: str, data: Data, timeout: float | None, headers: HeadersInput | None) -> Gathering:
        """Publish a request whose replies gather. From any task or thread. TimeoutError: no room in ``timeout``."""
        client = self._client
        loop = client.loop
        if not self._inbox:
            call_elsewhere(loop, self.open)
        token = str(next(self._tokens))
        line, body = client.framer.request_frame(subject, data, self.prefix, token, headers)
        gathering = Gathering(
            loop, lambda gathering: self.add(token, gathering, line, subject), lambda: self.forget(token)
        )
        fiber = getcurrent()
        if type(fiber) is Fiber and fiber.loop is loop:
            if fiber.cancelled or loop.budget <= 0:
                loop.checkpoint(fiber)
            outbound = client.outbound
            size = len(body)
            if outbound.accepted + size > outbound.limit:
                outbound.admit(size, None if timeout is None else loop.clock.now() + timeout)
            outbound.lines.extend((line, body))
            outbound.accepted += size
            self.add(token, gathering, line, subject)
            return gathering
        self.add(token, gathering, line, subject)
        try:
            client.send_elsewhere(line, body, timeout, at_once=True)
        except BaseException:
            self.forget(token)
            raise
        return gathering

    def _timed_out(self, subject: str, timeout: float | None) -> TimeoutError:
        note = "" if self._client.is_connected else " (not connected)"
        return TimeoutError(f"no reply from {subject!r} within {timeout} s{note}")

    def open(self) -> None:
        """Subscribe the shared inbox. In the home loop, once. ConnectionClosedError."""
        self._client.check_open()
        if not self._inbox:
            inbox = self._client.new_inbox()
            self.prefix = inbox.encode() + b"."
            self._skip = len(inbox) + 1
            self._client.table.add_inbox(f"{inbox}.*", self.deliver)
            self._inbox = inbox
            self._denied = None

    def add(self, token: str, waiter: Replied, line: bytes, subject: str) -> None:
        """From now on a reply with ``token`` wakes ``waiter``. The line tells after a disconnect if it was written."""
        self._pending[token] = (waiter, line, subject)
        if self._denied is not None:  # after the entry was made: a plain thread may be overtaken by the refusal
            self.close(self._denied)

    def forget(self, token: str) -> None:
        """Nobody waits for it any more."""
        self._pending.pop(token, None)

    def deliver(self, messages: list[Message]) -> None:
        """Replies have come."""
        pop, skip = self._pending.pop, self._skip
        for message in messages:
            entry = pop(message.subject[skip:], None)
            if entry is None:
                continue  # late, or a second reply
            raw = message.raw_headers
            if raw is not None and raw.startswith(_NO_RESPONDERS) and not message.data:
                entry[0].fail(NoRespondersError(entry[2]))
            else:
                entry[0].wake(message)

    def written(self, kept: set[int]) -> bool:
        """Whether a request waits that is not among the lines still kept, so that its reply may be on its way."""
        return any(id(line) not in kept for _, line, _ in self._pending.copy().values())

    def disconnected(self, kept: set[int]) -> None:
        """Requests that were written end now; those still in the queue will be sent after the reconnect."""
        for token, (waiter, line, subject) in self._pending.copy().items():
            if line and id(line) not in kept:
                self._pending.pop(token, None)
                waiter.fail(
                    DisconnectedError(f"the connection broke while the request to {subject!r} waited for its reply")
                )

    def denied(self, info: ServerErrorInfo, error: PermissionDeniedError) -> None:
        """The server refused a publish: if a request to that subject (or with that reply) waits, it is that one's."""
        for token, (waiter, _line, subject) in self._pending.copy().items():
            if info.subject in (subject, f"{self._inbox}.{token}"):
                self._pending.pop(token, None)
                waiter.fail(error)
                return

    def inbox_denied(self, error: ServerError) -> None:
        """The server refused the inbox: no request can have a reply. The next one tries again, with a new inbox."""
        self._inbox = ""
        self._denied = lambda: copy(error)
        self.close(self._denied)

    def close(self, make_error: Any) -> None:
        """Fail all that wait."""
        for token, (waiter, _line, _subject) in self._pending.copy().items():
            self._pending.pop(token, None)
            waiter.fail(make_error())

    def __len__(self) -> int:
        return len(self._pending)
