"""The servers a client may connect to: those the user named and those the cluster made known, in the order to try.

The one that is connected, or was last, stands at the end: after a loss the others are tried first, so that the
clients of a server that dies spread over the rest. Source: ADR-40.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..errors import AuthError, CredentialsError, OptionError
from ..protocol import ErrorKind, classify
from ..servers import discovered_server, shown_url

if TYPE_CHECKING:
    from collections.abc import Iterable
    from random import Random

    from ..servers import Server


@dataclass(slots=True, eq=False)
class Entry:
    """A server of the pool, and how it has gone with it."""

    server: Server
    discovered: bool = False  # by the cluster's word, not the user's
    failures: int = 0  # attempts in vain since the last success
    refusal: str = ""  # the authentication error that it gives, until it takes us,
    refused_at: float = 0.0  # and when it gave that first
    encrypted: bool = False  # it has asked for TLS once: what we tell it is never told in clear again


REFUSED_FOR = 2.0  # seconds of the same refusal, until it is believed


def _refusal(error: BaseException) -> str:
    """What it says of our credentials, if anything."""
    if not isinstance(error, AuthError) or isinstance(error, CredentialsError):
        return ""
    return "" if classify(error.text).kind is ErrorKind.AUTHENTICATION_TIMEOUT else error.text


class ServerPool:
    """All servers, in the order in which they are tried.

    ``attempts``: a server that has failed so often since its last success is dropped; None is no limit.
    ``abort_on_auth_error``: so is one that gave the same authentication error in a row, ``REFUSED_FOR`` seconds long:
    a token may be rotated a moment too late, or the server's source of users be away. That its time for it ran out says
    nothing about credentials. ``shuffle`` is None where the order is the user's.
    """

    def __init__(
        self, servers: Iterable[Server], *, attempts: int | None, abort_on_auth_error: bool, shuffle: Random | None
    ) -> None:
        self._attempts = None if attempts is None or attempts < 0 else attempts
        self._abort_on_auth_error = abort_on_auth_error
        self._random = shuffle
        self._entries: list[Entry] = []
        self._discovered_by: object = None  # the last word of the cluster, as long as it changes nothing
        self.replace(servers)

    def replace(self, servers: Iterable[Server]) -> None:
        """These servers and no others; how it has gone with those that stay is remembered."""
        known = {entry.server: entry for entry in self._entries}
        self._entries = [known.get(server) or Entry(server) for server in dict.fromkeys(servers)]
        self._discovered_by = None
        for entry in self._entries:
            entry.discovered = False
        self._shuffle()

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, entry: Entry) -> bool:
        return entry in self._entries

    def round(self) -> list[Entry]:
        """All of them, in the order in which to try them now."""
        return list(self._entries)

    @property
    def urls(self) -> list[str]:
        """All of them, without secrets, in the order in which they are tried."""
        return [str(entry.server) for entry in self._entries]

    @property
    def discovered_urls(self) -> list[str]:
        """Those that the cluster made known, without secrets."""
        return [str(entry.server) for entry in self._entries if entry.discovered]

    def find(self, url: str) -> Entry:
        """The server of this URL; OptionError if there is none."""
        for entry in self._entries:
            if str(entry.server) == url:
                return entry
        raise OptionError(f"{shown_url(url)} is none of the servers {', '.join(self.urls)}")

    # How it goes.

    def drop_used_up(self) -> None:
        """Forget the servers that have no attempt left."""
        if self._attempts is not None:
            self._entries = [entry for entry in self._entries if entry.failures < self._attempts]

    def failed(self, entry: Entry, error: BaseException, now: float) -> None:
        """An attempt was in vain at ``now`` (seconds): to the end with it, or out if that was enough."""
        self._discovered_by = None  # who is dropped now may come back with the next word
        entry.failures += 1
        before, entry.refusal = entry.refusal, _refusal(error)
        if before != entry.refusal:
            entry.refused_at = now
        if entry not in self._entries:
            return
        self._entries.remove(entry)
        refused_again = self._abort_on_auth_error and entry.refusal and now - entry.refused_at >= REFUSED_FOR
        if not refused_again and (self._attempts is None or entry.failures < self._attempts):
            self._entries.append(entry)

    def succeeded(self, entry: Entry, *, encrypted: bool) -> None:
        """It has taken us."""
        entry.encrypted = encrypted
        entry.failures = 0
        entry.refusal = ""
        if entry in self._entries:
            self._entries.remove(entry)
            self._entries.append(entry)

    # Discovery.

    def discover(self, addresses: Iterable[str], connected: Server, *, encrypted: bool) -> list[str]:
        """The cluster's servers, as INFO of the ``connected`` one says: the URLs that are new.

        Those discovered before and absent now are forgotten, unless connected. No address at all changes nothing.
        New ones inherit the credentials of the connected server's URL and, where that connection is ``encrypted``,
        must be so too: they are never told in clear what was told encrypted.
        """
        word = tuple(addresses), connected, encrypted
        if word == self._discovered_by:  # servers may say it over and over
            return []
        found = [discovered_server(address, connected, encrypted) for address in word[0]]
        named = {(server.host, server.port): server for server in found if server is not None}
        if not named:
            return []
        self._entries = [
            entry
            for entry in self._entries
            if not entry.discovered or entry.server == connected or (entry.server.host, entry.server.port) in named
        ]
        for entry in self._entries:
            named.pop((entry.server.host, entry.server.port), None)
        self._discovered_by = word
        new = [Entry(server, discovered=True) for server in named.values()]
        if new:
            self._entries += new
            self._shuffle()
            self._entries.sort(key=lambda entry: entry.server == connected)
        return [str(entry.server) for entry in new]

    def _shuffle(self) -> None:
        if self._random is not None:
            self._random.shuffle(self._entries)
