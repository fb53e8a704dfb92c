"""Where the messages of a subscription wait to be taken: mostly a plain deque, and here what may stand for it."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any, Protocol

from ..user_functions import refuse_unrun

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterable, Iterator

    from ..message import Message
    from .backpressure import Backlog


class Pending(Protocol):
    """What a subscription does with it: the home loop adds, anybody takes. ``popleft`` raises IndexError if empty."""

    def append(self, message: Message, /) -> None: ...
    def extend(self, messages: Iterable[Message], /) -> None: ...
    def popleft(self) -> Message: ...
    def clear(self) -> None: ...
    def __len__(self) -> int: ...
    def __iter__(self) -> Iterator[Message]: ...


class CountedQueue(deque[Any]):
    """A deque that tells a backlog what comes and goes."""

    def __init__(self, backlog: Backlog) -> None:
        super().__init__()
        self._backlog = backlog

    def append(self, message: Message) -> None:
        self.extend((message,))

    def extend(self, messages: Iterable[Message]) -> None:
        self._backlog.came(messages)
        super().extend(messages)

    def popleft(self) -> Message:
        message: Message = super().popleft()
        self._backlog.went(message)
        return message


class Lane(deque[Any]):
    """The messages for one of several workers, each with its number in the order of arrival."""

    def __init__(self, backlog: Backlog | None) -> None:
        super().__init__()
        self._backlog = backlog

    def popleft(self) -> Message:
        """The first message."""
        message: Message = super().popleft()[1]
        if self._backlog is not None:
            self._backlog.went(message)
        return message


class KeyedQueue:
    """A lane for each worker: messages of one key all go into the same, so that one worker has them in their order."""

    def __init__(
        self,
        key: Callable[[Message], Hashable],
        workers: int,
        failed: Callable[[Message, BaseException], None],
        is_users: Callable[[BaseException], bool],
        backlog: Backlog | None,
    ) -> None:
        self.lanes = [Lane(backlog) for _ in range(workers)]
        self._key = key
        self._failed = failed
        self._is_users = is_users
        self._backlog = backlog
        self._arrived = 0

    def append(self, message: Message) -> None:
        """Add it to its lane; if there is none, because ``key`` raises, it is handed to ``failed``."""
        try:
            key = self._key(message)
            refuse_unrun("key", key)
            lane = self.lanes[hash(key) % len(self.lanes)]
        except BaseException as exc:
            if not self._is_users(exc):
                raise
            self._failed(message, exc)
            return
        self._arrived += 1
        if self._backlog is not None:
            self._backlog.came((message,))
        lane.append((self._arrived, message))

    def extend(self, messages: Iterable[Message]) -> None:
        for message in messages:
            self.append(message)

    def popleft(self) -> Message:
        """The message that came first of all."""
        while True:
            heads = []
            for lane in self.lanes:
                try:
                    heads.append((lane[0][0], lane))
                except IndexError:
                    continue
            if not heads:
                raise IndexError("nothing is pending")
            try:
                return min(heads, key=lambda head: head[0])[1].popleft()
            except IndexError:  # a worker took it just now
                continue

    def clear(self) -> None:
        for lane in self.lanes:
            lane.clear()

    def __len__(self) -> int:
        return sum(map(len, self.lanes))

    def __iter__(self) -> Iterator[Message]:
        for lane in self.lanes:
            for _, message in list(lane):
                yield message


def make_pending(
    key: Callable[[Message], Hashable] | None,
    workers: int,
    failed: Callable[[Message, BaseException], None],
    is_users: Callable[[BaseException], bool],
    backlog: Backlog | None,
) -> tuple[Pending, list[Any]]:
    """Where messages wait, and the queues that a handler's workers take them from: one in common, or one for each."""
    if key is not None and workers > 1:
        keyed = KeyedQueue(key, workers, failed, is_users, backlog)
        return keyed, keyed.lanes
    queue: Pending = deque() if backlog is None else CountedQueue(backlog)
    return queue, [queue]
