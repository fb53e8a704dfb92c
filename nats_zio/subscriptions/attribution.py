"""Which subscription an error of the server is about, though not every error says so.

The server works through what it is sent in order, and its PONGs come back in that order too. So an error about a SUB
comes after the PONGs of all PINGs that were sent before that SUB, and before the PONGs of those sent after it. What
lies between the last PING answered and the first one not answered are the candidates. Of these, an error that names a
subject is about one with that subject; "maximum subscriptions exceeded" is about the newest, because once the
server has refused one it refuses those behind it as well; and "Invalid Subject" is about the first one whose
subject we should not have sent.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..protocol import BadSubjectError, ErrorKind, check_subscribe_subject

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ..protocol import ServerErrorInfo
    from .subscribing import Entry

MOST_UNPROVED = 100  # SUBs after which a PING is due, so that they do not gather


class Unconfirmed:
    """The SUBs that the server may still refuse, in the order sent; also those that were unsubscribed since.

    Their sids grow in that order, so a sid is also a mark in it.
    """

    def __init__(self) -> None:
        self._subs: dict[int, Entry] = {}
        self._last = 0
        self._unmarked = 0

    def sent(self, sub: Entry) -> bool:
        """A SUB was sent. True if it is time for a PING behind it."""
        self._subs[sub.sid] = sub
        self._last = sub.sid
        self._unmarked += 1
        return self._unmarked >= MOST_UNPROVED

    def replace(self, entry: Entry) -> None:
        """Another one stands for the subscription of this sid. From any thread."""
        if entry.sid in self._subs:
            self._subs[entry.sid] = entry

    def sent_anew(self, subs: Iterable[Entry]) -> None:
        """On a new connection these were sent, and nothing else."""
        self._subs = {sub.sid: sub for sub in subs}
        self._last = next(reversed(self._subs), 0)
        self._unmarked = len(self._subs)

    def mark(self) -> int:
        """A PING is sent. Returns what ``proved`` is to be told with its PONG."""
        self._unmarked = 0
        return self._last

    def proved(self, mark: int) -> None:
        """A PONG has come: the server has decided on all SUBs up to ``mark``."""
        for sid in list(self._subs):
            if sid > mark:
                return
            del self._subs[sid]

    def refused(self, info: ServerErrorInfo, before: int | None, live: Iterable[Entry]) -> Entry | None:
        """The subscription that ``info`` is about, None if it is none that we know.

        ``before`` is the mark of the first PING not answered. ``live`` subscriptions, in order, come into question
        for errors that name a subject: permissions may be taken away at any time.
        """
        window = [sub for sid, sub in self._subs.items() if before is None or sid <= before]
        if info.subject is not None:
            found = _named(info, [*live, *window])
        elif info.kind is ErrorKind.INVALID_SUBJECT:
            found = next((sub for sub in window if not _may_be_sent(sub)), None) or _newest(window)
        else:
            found = _newest(window)
        if found is not None:
            self._subs.pop(found.sid, None)
        return found


def _named(info: ServerErrorInfo, subs: list[Entry]) -> Entry | None:
    fitting = [
        sub for sub in reversed(subs) if sub.subject == info.subject and (info.sid is None or sub.sid == info.sid)
    ]
    exact = [sub for sub in fitting if (sub.queue or None) == info.queue]
    if exact:
        return exact[0]
    # Of too many tokens the server says no queue.
    return fitting[0] if fitting and info.queue is None else None


def _newest(window: list[Entry]) -> Entry | None:
    """What has had messages has been accepted."""
    return next((sub for sub in reversed(window) if not sub.heard_of), None)


def _may_be_sent(sub: Entry) -> bool:
    try:
        check_subscribe_subject(sub.subject)
    except BadSubjectError:
        return False
    return True
