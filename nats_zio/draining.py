"""Draining: what came is handled, what was published goes out, then the end."""

from __future__ import annotations

import builtins
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import zio
from zio.lowlevel import current_owner

from .closed_reason import ClosedReason
from .errors import ConnectionClosedError, DisconnectedError, TimeoutError
from .protocol import encoder
from .subscriptions import Subscription

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .core import Core

DRAIN_TIMEOUT = 30.0  # seconds


@dataclass(frozen=True, slots=True)
class DrainReport:
    """What ``drain`` left behind: pending messages that nobody has taken, by subscription, and whether time ran out."""

    unread: dict[Subscription, int]
    timed_out: bool = False

    @property
    def unread_msgs(self) -> int:
        """How many messages stay unread in all."""
        return sum(self.unread.values())


class Draining:
    """The drains of a client. All of it runs in the client's home loop."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._under_way: zio.Future[DrainReport | None] | None = None
        self._subs: list[Subscription] = []  # that are being drained
        self.excused: list[Any] = []  # the tasks and threads that wait in a drain: no drain waits for them

    def drain(self, timeout: float | None) -> DrainReport:
        """``Client.drain``."""
        core = self._core
        deadline = None if timeout is None else core.loop.clock.now() + timeout
        while self._under_way is not None and not core.is_closed:
            try:
                with self._not_waited_for():
                    report = self._under_way.result(self._left(deadline))
            except builtins.TimeoutError:  # of a future
                return self._report(timed_out=True)
            if report is not None:
                return report
        if core.is_closed:
            return DrainReport({})
        future: zio.Future[DrainReport | None] = zio.Future()
        self._under_way = future
        core.begin_draining()
        live = core.table.living()
        subs = self._subs = list(dict.fromkeys((*live, *core.in_use)))
        report = None
        timed_out = False
        try:
            try:
                self.drain_subscriptions(subs, timeout)
                self._send_all(deadline)
            except (TimeoutError, ConnectionClosedError):
                timed_out = True
            unread = self._report(timed_out)
            core.close_here(None, self._left(deadline))
            report = unread
            return report
        finally:
            self._under_way = None
            self._subs = []
            future.set_result(report)  # None, if this one was cancelled: then the next in line drains

    def _report(self, timed_out: bool) -> DrainReport:
        return DrainReport({sub: sub.pending_msgs for sub in self._subs if sub.pending_msgs}, timed_out)

    def drain_subscriptions(self, subs: list[Subscription], timeout: float | None) -> None:
        """Unsubscribe, wait for what is on its way, then for those who handle it. TimeoutError."""
        core = self._core
        if core.is_closed:
            return
        deadline = None if timeout is None else core.loop.clock.now() + timeout
        live = [sub for sub in subs if not sub.closed]
        if live:
            for sub in live:
                core.outbound.control(encoder.unsub(sub.sid))
            try:
                if core.is_connected:
                    core.flush_here(self._left(deadline))
            except DisconnectedError:
                pass  # then nothing is on its way any more
            finally:
                for sub in live:
                    sub.close(ClosedReason.DRAINED, None)
        with self._not_waited_for():
            for sub in subs:
                if not sub.consumers.wait_settled(sub, self._left(deadline)):
                    raise TimeoutError(f"{sub!r} was not handled within {timeout} s")

    def _send_all(self, deadline: float | None) -> None:
        """Have the server confirm what was published, if need be after a reconnect."""
        while not self._core.all_written:
            try:
                self._core.flush_here(self._left(deadline))
            except DisconnectedError:
                continue
            return

    @contextmanager
    def _not_waited_for(self) -> Iterator[None]:
        """Around a wait in a drain: no drain waits for a handler or a loop over messages that is itself in one."""
        me = current_owner()
        self.excused.append(me)
        for sub in list(self._core.in_use):
            sub.consumers.look_again()
        try:
            yield
        finally:
            self.excused.remove(me)

    def _left(self, deadline: float | None) -> float | None:
        return None if deadline is None else max(deadline - self._core.loop.clock.now(), 0)
