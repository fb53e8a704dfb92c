"""Plain threads in the tree of what can be cancelled, and who the running code belongs to: a task, or such a thread."""

from __future__ import annotations

import logging
import sys
import threading
from time import monotonic, sleep
from typing import TYPE_CHECKING, Any, Protocol

from greenlet import getcurrent

from .scope_tree import Holder, ScopeNode, spread_cancel

if TYPE_CHECKING:
    from collections.abc import Callable


logger = logging.getLogger("zio")


class Blocked(Protocol):
    """What a plain thread waits in; told when a scope of the thread is cancelled."""

    def interrupt(self) -> None: ...


class Cancellable(Protocol):
    """A job of a pool's thread."""

    cancelled: bool


class Lent(Protocol):
    """What a plain thread does in the stead of a loop: reads a socket, or writes. ``end`` takes it out of ``lent``."""

    def end(self, holder: ThreadHolder) -> None: ...


class ThreadWatch(Protocol):
    """Who wants to know of the end of a plain thread; told in that thread, at its very end."""

    def thread_ended(self, thread: ThreadHolder) -> None: ...


# The plain threads in a scope, or cancelled, or with an error that waits. Empty, as it mostly is, a hot call need not
# look its thread up.
threads_in_scopes: set[ThreadHolder] = set()
# Those whose end somebody wants to know of. One may be gone from the list of threads, and not have told yet.
watched_threads: set[ThreadHolder] = set()


class ThreadHolder(Holder):
    """The place of a plain thread in the cancel tree, and its identity as owner of locks."""

    __slots__ = ("_cancelling", "ended", "ident", "job", "lent", "loop", "name", "pending", "waits", "watches")

    def __init__(self) -> None:
        super().__init__()
        self.scope = self
        self.loop = None
        self.waits: list[Blocked] = []  # the innermost last: of a signal handler amid a wait, say
        self.job: Cancellable | None = None  # of a pool's thread
        self._cancelling: list[None] = []  # one for each who is about to cancel that
        self.lent: list[Lent] = []  # what it has of a loop's, and must give back before it waits
        self.pending: BaseException | None = None  # what interrupted a call that had completed all the same
        self.name = threading.current_thread().name
        self.ident = threading.get_ident()
        self.ended = False
        self.watches: set[ThreadWatch] = set()  # told when it ends

    def watch(self, watch: ThreadWatch) -> bool:
        """Have ``watch`` told when this thread ends; False if it has, then it may be told or not."""
        self.watches.add(watch)
        watched_threads.add(self)
        if self.ended:  # meanwhile
            watched_threads.discard(self)
        return not self.ended

    def unwatch(self, watch: ThreadWatch) -> None:
        """It need not be told any more."""
        self.watches.discard(watch)
        if not self.watches:
            watched_threads.discard(self)

    def thread_has_ended(self) -> None:
        self.ended = True  # first: who begins to watch looks at it afterwards
        threads_in_scopes.discard(self)
        if self.pending is not None:
            from .log_lines import log_later

            unraised = "%r has ended before it could raise what interrupted it"
            log_later(logger, logging.ERROR, unraised, self, error=self.pending)
        self.give_back()
        watches, self.watches = self.watches, set()
        for watch in list(watches):
            watch.thread_ended(self)
        watched_threads.discard(self)  # last: until they are told, somebody may be woken by that

    def now(self) -> float:
        return monotonic()

    def scope_changed(self) -> None:
        if self.scope is self and not self.cancelled and self.pending is None:
            threads_in_scopes.discard(self)
        else:
            threads_in_scopes.add(self)

    def job_begins(self, job: Cancellable) -> None:
        """This thread of a pool is at work for a task, whose cancel is one of the calls that the job makes."""
        self.job = job
        if job.cancelled:  # meanwhile
            self.cancel_job(job)

    def cancel_job(self, job: Cancellable) -> None:
        """The task was cancelled. From any thread; nothing if it is another job's turn."""
        try:
            self._cancelling.append(None)  # in this order, since the end of the job goes the other way round
            if self.job is job:
                threads_in_scopes.add(self)
                spread_cancel(self)
        finally:
            if self._cancelling:
                self._cancelling.pop()

    def job_ended(self) -> None:
        """What comes next in this thread is another job."""
        self.job = None
        while self._cancelling:
            sleep(0)  # or what was meant for this job would hit the next one
        self.cancelled = False
        self.pending = None
        self.scope_changed()

    def raise_later(self, error: BaseException) -> None:
        """Have the thread's next call raise it. One that waits already goes first, but Control-C before all others."""
        waiting = self.pending
        if waiting is None:
            self.pending = error
        elif waiting is not error:
            first, second = (error, waiting) if isinstance(error, KeyboardInterrupt) else (waiting, error)
            first.add_note(f"meanwhile there was also: {second!r}")
            self.pending = first
        threads_in_scopes.add(self)

    def raise_pending(self) -> None:
        """At the beginning of a call."""
        if self.pending is not None:
            pending, self.pending = self.pending, None
            self.scope_changed()
            try:
                raise pending
            finally:
                del pending  # no cycle through the traceback

    def cancel_arrived(self) -> None:
        for blocked in list(self.waits):  # a copy: this may run in another thread
            blocked.interrupt()

    def give_back(self) -> None:
        """End what it does in the stead of a loop."""
        while self.lent:
            self.lent[-1].end(self)

    def about_to_wait(self) -> list[Blocked]:
        """Give back what it does in the stead of a loop; then where to put, and to take out again, what it waits in."""
        if self.lent:
            self.give_back()
        return self.waits

    def check_deadlines(self) -> float | None:
        """Cancel the scopes whose deadline has passed; the seconds until the next deadline, None without one."""
        now = monotonic()
        nearest = None
        expired = []
        node: ScopeNode | None = self.scope
        while node is not None:
            scope: Any = node
            deadline = getattr(scope, "deadline", None)  # scopes have one, the thread itself has not
            if deadline is not None and not scope.cancel_called:
                if deadline <= now:
                    expired.append(scope)
                elif nearest is None or deadline < nearest:
                    nearest = deadline
            if node.shielded:
                break
            node = node.parent
        for scope in reversed(expired):
            scope.run_out()
        return None if nearest is None else min(nearest - now, threading.TIMEOUT_MAX)

    def __repr__(self) -> str:
        return f"<thread {self.name!r}>"


class _EndOfThread:
    """Stands in a thread's own data, which goes with the thread; so nothing else may refer to it."""

    __slots__ = ("_holder",)

    def __init__(self, holder: ThreadHolder) -> None:
        self._holder = holder

    def __del__(self, exiting: Callable[[], bool] = sys.is_finalizing) -> None:
        # At the exit of the interpreter the data of all threads go, also of those that were stopped while they held
        # the very lock that telling would need. (A default, since globals may be gone by then.)
        if not exiting():
            self._holder.thread_has_ended()


_thread_local = threading.local()


def thread_holder() -> ThreadHolder:
    """The record of the calling plain thread, made on first use."""
    try:
        return _thread_local.holder  # type: ignore[no-any-return]
    except AttributeError:
        holder = _thread_local.holder = ThreadHolder()
        _thread_local.end = _EndOfThread(holder)
        return holder


def current_holder() -> Any:
    """The task that is running; in a plain thread (or outside any task), the thread's record."""
    return getattr(getcurrent(), "task", None) or thread_holder()
