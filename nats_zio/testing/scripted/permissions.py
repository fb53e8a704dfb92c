"""Who may log in, and what each may do."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from .subjects import covers


@dataclass(frozen=True, slots=True)
class Permissions:
    """What a client may do; None allows everything. A subscription's entry may name a queue: ``"work.* team"``."""

    publish_allow: Sequence[str] | None = None
    publish_deny: Sequence[str] = ()
    subscribe_allow: Sequence[str] | None = None
    subscribe_deny: Sequence[str] = ()

    def may_publish(self, subject: str) -> bool:
        allow = self.publish_allow
        allowed = allow is None or any(covers(pattern, subject) for pattern in allow)
        return allowed and not any(covers(pattern, subject) for pattern in self.publish_deny)

    def may_subscribe(self, subject: str, queue: str | None) -> bool:
        def concerns(entry: str) -> bool:
            pattern, _, group = entry.partition(" ")
            return covers(pattern, subject) and (not group or group == queue)

        allow = self.subscribe_allow
        return (allow is None or any(map(concerns, allow))) and not any(map(concerns, self.subscribe_deny))

    def may_receive(self, subject: str) -> bool:
        return not any(" " not in pattern and covers(pattern, subject) for pattern in self.subscribe_deny)


@dataclass(frozen=True, slots=True)
class User:
    """Who may log in."""

    password: str
    permissions: Permissions = field(default_factory=Permissions)
