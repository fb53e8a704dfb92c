"""Requests over one shared inbox: each has a token, the last part of its reply subject.

The table of tokens is a dict whose single steps are atomic, so a plain thread registers its request itself and
waits on a lock of its own; only the first request of a client needs the home loop, to subscribe the inbox.
"""

from __future__ import annotations

from copy import copy
from itertools import count
from math import inf
from typing import TYPE_CHECKING, Any, Protocol

from greenlet import getcurrent

import zio
from zio.lowlevel import (
    CANCELLED,
    FAILED,
    TIMED_OUT,
    WOKEN,
    Fiber,
    Waiter,
    monotonic,
    refuse_to_block_here,
    threads_in_scopes,
    wait_in_thread,
)

from ..at_home import call_home, edit_home
from ..errors import DisconnectedError, NoRespondersError, TimeoutError
from ..framing import REMEMBERED, payload
from ..latch import ThreadLatch
from ..options import check_timeout
from ..protocol import Headers, checked_text
from .deadlines import Deadlines
from .replies import Gathering
from .rewritten import OwnInboxes
from .shortcut import read_reply

if TYPE_CHECKING:
    from collections.abc import Callable

    from zio.lowlevel import Loop

    from ..core import Core
    from ..errors import PermissionDeniedError, ServerError
    from ..framing import Data
    from ..message import Message
    from ..protocol import HeadersInput, ServerErrorInfo

RETURN = 2.0  # seconds that those who reply have to connect again, when a request is repeated
PAUSE = 0.05  # seconds between two questions then

LATE = 10.0  # seconds in which the reply to a request that was given up may still come

_NO_RESPONDERS = b"NATS/1.0 503"


class Replied(Protocol):
    """What waits for a reply: a waiter of the loop, or a plain thread's."""

    def wake(self, value: Any = None, source: object = None) -> bool: ...
    def fail(self, error: BaseException) -> bool: ...


class Requests:
    """The pending requests of a client."""

    def __init__(self, core: Core, loop: Loop) -> None:
        self._core = core
        self._gate = core.gate
        self._inbox = ""
        self.prefix = b""  # of reply subjects
        self._skip = 0
        self._denied: Callable[[], BaseException] | None = None  # the server refused the inbox
        # By token: what waits, the PUB line, the subject, and the deadline of a waiter of the loop.
        self._pending: dict[str, tuple[Replied, bytes, str, float]] = {}
        self._deadlines = Deadlines(loop, self._pending)
        self._prefixes: dict[str, bytes] = {}  # of PUB lines, for each subject, as far as the token
        self._tokens = count(1)
        self._own = OwnInboxes(core, self._reply_came, self._own_refused)
        # The last request that was given up, and until when its reply may be taken for another's.
        self._given_up = "", -inf

    def request(self, subject: str, data: Data, timeout: float | None, headers: HeadersInput | None) -> Message:
        """``Client.request``: from any task or thread."""
        if type(subject) is not str:  # a subclass may hash and compare as it likes
            subject = checked_text("subject", subject)
        core = self._core
        loop = core.loop
        fiber = getcurrent()
        if type(fiber) is not Fiber:
            return self._request_in_thread(subject, data, timeout, headers)
        if fiber.loop is not loop:
            return call_home(loop, self.request, subject, data, timeout, headers)  # type: ignore[no-any-return]
        budget = loop.budget
        if budget <= 0:
            loop.checkpoint(fiber)
        else:
            loop.budget = budget - 1
        if not self._inbox:
            self.open()
        if timeout is None:
            deadline = inf
        else:
            if type(timeout) is not float or timeout != timeout:
                check_timeout(timeout)
            deadline = loop.clock.now() + timeout
        token = str(next(self._tokens))
        prefix = self._prefixes.get(subject)
        own = prefix is None and self._own.wanted(subject)
        waiter = Waiter(fiber, "a reply")
        try:
            if prefix is not None and type(data) is bytes and headers is None:
                line = b"%b%b %d" % (prefix, token.encode(), len(data))
            elif own:
                line, data = core.framer.frame(subject, data, self._own.reserve(token, subject), headers)
                self._own.open(token)
            else:
                line, data = self._lines(subject, data, token, headers)
            return self._ask(waiter, token, subject, line, data, deadline, timeout)
        except BaseException:
            if waiter.state == WOKEN:  # struck when the reply was there
                waiter.value = None
            elif not waiter.state:
                waiter.state = CANCELLED
            self.forget(token)
            raise
        finally:
            if own:
                self._own.forget(token)

    def _ask(
        self, waiter: Waiter, token: str, subject: str, line: bytes, data: bytes, deadline: float, timeout: float | None
    ) -> Message:
        """Send the lines and wait for the reply. In a task of the home loop."""
        core, fiber = self._core, waiter.fiber
        loop = fiber.loop
        outbound = core.outbound
        entry = waiter, line, subject, deadline
        size = len(data)
        alone = not loop.ready and outbound.idles(size)
        if not alone and outbound.accepted + size > outbound.limit:
            outbound.admit(size, None if timeout is None else deadline)
        self._pending[token] = entry  # before it is sent: a signal handler may wait, and let the reply come
        if not alone or not outbound.write_alone(line, data):
            frame = line, data
            outbound.accepted += size
            outbound.lines.extend(frame)
        if self._gate.shut:
            self._gate.look_again()
        if self._denied is not None:
            self.close(self._denied)
        if deadline < self._deadlines.next:
            self._deadlines.start(deadline)
        state = loop.park(waiter)
        if state == WOKEN:
            return waiter.value  # type: ignore[no-any-return]
        if state == FAILED:
            raise waiter.take()
        if state == TIMED_OUT and not fiber.cancelled:
            raise self._timed_out(subject, timeout)
        raise zio.Cancelled

    def _lines(self, subject: str, data: Data, token: str, headers: HeadersInput | None) -> tuple[bytes, bytes]:
        """The lines of a request. The beginning of its PUB line is remembered for the next one."""
        framer, prefixes = self._core.framer, self._prefixes  # the table first: it belongs to the inbox
        inbox = self.prefix
        lines = framer.request_frame(subject, data, inbox, token, headers)
        if len(prefixes) >= REMEMBERED:
            prefixes.clear()
        prefixes[subject] = framer.prefix(subject) + inbox
        return lines

    def _request_in_thread(
        self, subject: str, data: Data, timeout: float | None, headers: HeadersInput | None
    ) -> Message:
        check_timeout(timeout)
        core = self._core
        if core.loop.forked:
            core.loop.check_usable()
        refuse_to_block_here(self.request)
        if self._own.wanted(subject):
            return call_home(core.loop, self.request, subject, payload(data), timeout, headers)  # type: ignore[no-any-return]
        if not self._inbox:
            call_home(core.loop, self.open)
        reply = ThreadLatch()
        token = str(next(self._tokens))
        prefix = self._prefixes.get(subject)
        if prefix is not None and type(data) is bytes and headers is None:
            line, body = b"%b%b %d" % (prefix, token.encode(), len(data)), data
        else:
            line, body = self._lines(subject, data, token, headers)
        alone = not self._pending
        inbox = self.prefix
        self.add(token, reply, line, subject)
        until = None if timeout is None else monotonic() + timeout
        try:
            core.send_elsewhere(line, body, timeout, at_once=True)
            if alone and not threads_in_scopes:
                message = read_reply(core, inbox, token, reply, until)
                if message is not None:
                    self._pending.pop(token, None)
                    return message
            if core.loop.forked:  # by a signal handler meanwhile, and this is the child
                core.loop.check_usable()
            arrived = wait_in_thread(reply, None if until is None else until - monotonic())
        except BaseException:
            self.forget(token)
            raise
        if not arrived:
            self.forget(token)
            raise self._timed_out(subject, timeout)
        error, reply.error = reply.error, None
        if error is not None:
            try:
                raise error
            finally:
                del error  # no cycle through the traceback
        return reply.value  # type: ignore[no-any-return]

    def repeat(self, subject: str, data: Data, timeout: float | None, headers: HeadersInput | None) -> Message:
        """Like ``request``; asks again when the connection breaks before the reply, within ``timeout`` in all.

        Whoever replies may need a moment longer than we to connect again: for ``RETURN`` seconds after the reconnect
        the question is repeated also if nobody listens.
        """
        data = payload(data)  # what is asked again is the same
        headers = None if headers is None else Headers(headers)
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
        subject = checked_text("subject", subject)
        core = self._core
        loop = core.loop
        if not self._inbox:
            call_home(loop, self.open)
        token = str(next(self._tokens))
        try:
            if self._own.wanted(subject):
                line, body = core.framer.frame(subject, data, self._own.reserve(token, subject), headers)
                edit_home(loop, self._own.open, token)
            else:
                line, body = core.framer.request_frame(subject, data, self.prefix, token, headers)
            gathering = Gathering(
                loop, lambda gathering: self.add(token, gathering, line, subject), lambda: self.forget(token)
            )
            fiber = getcurrent()
            if type(fiber) is not Fiber or fiber.loop is not loop:
                self.add(token, gathering, line, subject)
                core.send_elsewhere(line, body, timeout, at_once=True)
                return gathering
            if fiber.cancelled or loop.budget <= 0:
                loop.checkpoint(fiber)
            outbound = core.outbound
            size = len(body)
            if outbound.accepted + size > outbound.limit:
                outbound.admit(size, None if timeout is None else loop.clock.now() + timeout)
            outbound.accepted += size
            outbound.lines.extend((line, body))
            self.add(token, gathering, line, subject)
            return gathering
        except BaseException:
            self.forget(token)
            raise

    def _timed_out(self, subject: str, timeout: float | None) -> TimeoutError:
        note = "" if self._core.is_connected else " (not connected)"
        return TimeoutError(f"no reply from {subject!r} within {timeout} s{note}")

    def open(self) -> None:
        """Subscribe the shared inbox. In the home loop, once. ConnectionClosedError."""
        self._core.check_open()
        if not self._inbox:
            inbox = self._core.new_inbox()
            self.prefix = inbox.encode() + b"."
            self._prefixes = {}
            self._skip = len(inbox) + 1
            self._core.table.add_inbox(f"{inbox}.*", self.deliver, self._inbox_denied)
            self._inbox = inbox
            self._denied = None

    def add(self, token: str, waiter: Replied, line: bytes, subject: str) -> None:
        """From now on a reply with ``token`` wakes ``waiter``. The line tells after a disconnect if it was written."""
        self._pending[token] = (waiter, line, subject, inf)
        if self._gate.shut:
            self._gate.look_again()
        if self._denied is not None:  # after the entry was made: a plain thread may be overtaken by the refusal
            self.close(self._denied)

    def forget(self, token: str) -> None:
        """Nobody waits for it any more. If it waits for a connection itself, it is not sent."""
        entry = self._pending.pop(token, None)
        if token in self._own:
            self._own.forget(token)
        elif entry is not None:
            self._given_up = entry[2], self._core.loop.clock.now() + LATE
        if entry is not None:
            self._core.outbound.withdraw(entry[1])

    def deliver(self, messages: list[Message], _bound: int) -> None:
        """Replies have come, by the shared inbox."""
        inbox, skip = self._inbox, self._skip
        for message in messages:
            subject = message.subject
            if subject.startswith(inbox):
                self._reply_came(subject[skip:], message)  # nobody waits: late, or a second reply
            else:
                self._rewritten_came(message)

    def _rewritten_came(self, message: Message) -> None:
        """A reply under another subject: it is that of the only request that it can be of, if there is one.

        Those to the subjects that it may have been asked of have an inbox of their own from now on.
        """
        asked = {token: entry[2] for token, entry in self._pending.copy().items() if token not in self._own}
        given_up, until = self._given_up
        doubtful = self._core.loop.clock.now() < until
        for subject in (*asked.values(), given_up) if doubtful else asked.values():
            self._own.learn(subject)
            self._prefixes.pop(subject, None)
        if len(asked) == 1 and not doubtful:
            self._reply_came(next(iter(asked)), message)
        else:
            self._core.reply_unmatched(message)

    def _reply_came(self, token: str, message: Message) -> None:
        entry = self._pending.pop(token, None)
        if entry is None:
            return
        loop = self._core.loop
        ready, wake_thread = loop.ready, loop.wake_thread
        waiter, raw = entry[0], message.raw_headers
        if raw is None and type(waiter) is Waiter:
            if not waiter.state:  # as in Waiter.wake, without the call
                waiter.state = WOKEN
                waiter.value = message
                ready.append(waiter.fiber)
        elif raw is not None and raw.startswith(_NO_RESPONDERS) and not message.data:
            waiter.fail(NoRespondersError(entry[2]))
        elif type(waiter) is ThreadLatch:
            waiter.value = message
            waiter.settled = True
            wake_thread(waiter.interrupt)
        else:
            waiter.wake(message)

    def written(self, kept: set[int]) -> bool:
        """Whether a request waits that is not among the lines still kept, so that its reply may be on its way."""
        return any(id(line) not in kept for _, line, *_ in self._pending.copy().values())

    def disconnected(self, kept: set[int]) -> None:
        """Requests that were written end now; those still in the queue will be sent after the reconnect."""
        for token, (waiter, line, subject, _) in self._pending.copy().items():
            if line and id(line) not in kept:
                self._pending.pop(token, None)
                waiter.fail(
                    DisconnectedError(f"the connection broke while the request to {subject!r} waited for its reply")
                )

    def denied(self, info: ServerErrorInfo, error: PermissionDeniedError) -> None:
        """The server refused a publish: if a request to that subject (or with that reply) waits, it is that one's."""
        for token, (waiter, _line, subject, _) in self._pending.copy().items():
            if info.subject in (subject, self._own.subject(token) or f"{self._inbox}.{token}"):
                self._pending.pop(token, None)
                waiter.fail(error)
                return

    def _own_refused(self, token: str, error: ServerError) -> None:
        """The server refused the inbox of one request."""
        entry = self._pending.pop(token, None)
        if entry is not None:
            entry[0].fail(error)

    def _inbox_denied(self, error: ServerError) -> None:
        """The server refused the inbox: no request can have a reply. The next one tries again, with a new inbox."""
        self._inbox = ""
        self._denied = lambda: copy(error)
        self.close(self._denied)

    def close(self, make_error: Any) -> None:
        """Fail all that wait."""
        for token, (waiter, *_) in self._pending.copy().items():
            self._pending.pop(token, None)
            waiter.fail(make_error())

    def __len__(self) -> int:
        return len(self._pending)
