"""What happens to a connection, as data: typed events, received like from a channel."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import zio

if TYPE_CHECKING:
    from collections.abc import Callable

    from .message import Message
    from .subscriptions import Subscription


class Event:
    """Base of all events."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class Connected(Event):
    """The first connection is made."""

    url: str


@dataclass(frozen=True, slots=True)
class Disconnected(Event):
    """A connection was lost; once for each. ``error`` is why.

    ``unflushed_msgs`` and ``unflushed_bytes`` (headers and data) count what was written since the last proof that the
    server had everything (a PONG: of ``flush``, or of the pings that the client sends ten times a second while messages
    go out): it may have arrived or not, and is not sent again. What was not written to its end is not among it, but
    kept and sent after the reconnect.
    """

    error: BaseException | None
    unflushed_msgs: int
    unflushed_bytes: int


@dataclass(frozen=True, slots=True)
class Reconnected(Event):
    """Connected again; subscriptions and buffered messages have been sent."""

    url: str


@dataclass(frozen=True, slots=True)
class ReconnectFailed(Event):
    """An attempt to reconnect failed."""

    url: str
    error: BaseException


@dataclass(frozen=True, slots=True)
class Closed(Event):
    """The client is closed for good; ``error`` is None if the user closed it."""

    error: BaseException | None = None


@dataclass(frozen=True, slots=True)
class ServersDiscovered(Event):
    """The cluster has servers that were not known before: their URLs, without secrets."""

    servers: list[str]


@dataclass(frozen=True, slots=True)
class LameDuck(Event):
    """The server announced that it will shut down soon. With other servers to go to, the client leaves it in time."""

    url: str


@dataclass(frozen=True, slots=True)
class SlowConsumer(Event):
    """A subscription reached its pending limit; once per episode. ``dropped`` counts since its start.

    An episode is over when what is pending has fallen to half the limits.
    """

    sub: Subscription
    dropped: int


@dataclass(frozen=True, slots=True)
class PermissionViolation(Event):
    """The server refused a publish or a subscription."""

    error: BaseException
    subject: str | None
    sub: Subscription | None = None


@dataclass(frozen=True, slots=True)
class ServerError(Event):
    """Any other error that the server sent; ``sub`` is the subscription that it has refused, if it is about one."""

    error: BaseException
    sub: Subscription | None = None


@dataclass(frozen=True, slots=True)
class MessageGivenUp(Event):
    """A message that was kept for the reconnect will not be sent, since the present server would not take it.

    ``error`` says why: it is larger than the server's limit, or has headers and the server knows none; or it has broken
    the connection twice while it was being written. ``size`` is in bytes, headers included.
    """

    subject: str
    size: int
    error: BaseException


@dataclass(frozen=True, slots=True)
class UnmatchedReply(Event):
    """A reply came under another subject than its inbox's, and nobody can tell whose it is.

    Several requests waited, or none, or one was given up within the last ten seconds whose reply this may be. It was
    dropped. ``stats.unmatched_replies`` counts them. Requests to the subjects that it may be from have an inbox of
    their own from now on, so that their replies can be told apart.
    """

    subject: str


@dataclass(frozen=True, slots=True)
class CallbackError(Event):
    """A handler raised. ``sub`` and ``message`` are None if it was a function given as an option of ``connect``."""

    sub: Subscription | None
    message: Message | None
    error: BaseException


KEPT = 10_000


class Receiver(zio.Channel[Event]):
    """The events of a client since ``client.events()`` was called: a channel, closed when the client is.

    Iteration ends quietly after the user's own ``close`` or ``drain``. Where the client was closed by something
    else, it raises that as ConnectionClosedError, once all events were taken.

    At most 10,000 unread events are kept; beyond that the oldest are dropped and counted in ``dropped``.
    """

    __slots__ = ("_failure", "dropped")

    def __init__(self) -> None:
        super().__init__(KEPT)
        self.dropped = 0
        self._failure: Callable[[], Exception] | None = None

    def end(self, failure: Callable[[], Exception] | None) -> None:
        """For the client: it is closed, by itself if there is a ``failure``, which makes the error to raise."""
        self._failure = failure
        self.close()

    def __next__(self) -> Event:
        try:
            return self.recv()
        except zio.ChannelClosed:
            if self._failure is None:
                raise StopIteration from None
        raise self._failure()

    def put(self, event: Event) -> None:
        """For the client: add an event, never waiting."""
        while True:
            try:
                self.try_send(event)
                return
            except zio.WouldBlock:
                self.try_recv()
                self.dropped += 1
            except zio.ChannelClosed:
                return
