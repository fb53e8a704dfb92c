"""Every -ERR of the server's source, and what is to be made of it."""

from __future__ import annotations

from dataclasses import dataclass

import nats_zio
from nats_zio import events


@dataclass(frozen=True)
class Row:
    """One text. `ends`: the server closes the connection behind it; `subject` is what it names."""

    text: str
    ends: bool = False
    error: type[nats_zio.ServerError] = nats_zio.ServerError
    event: type[events.Event] = events.ServerError
    subject: str | None = None

    def __str__(self) -> str:
        return self.text.replace(" ", "_")[:60] or "empty"


def _auth(text: str) -> Row:
    return Row(text, ends=True, error=nats_zio.AuthError)


def _permission(text: str, subject: str) -> Row:
    return Row(
        f"Permissions Violation for {text}",
        error=nats_zio.PermissionDeniedError,
        event=events.PermissionViolation,
        subject=subject,
    )


CATALOGUE = [
    Row("Unknown Protocol Operation", ends=True),
    _auth("Authorization Violation"),
    _auth("Authentication Timeout"),
    _auth("User Authentication Expired"),
    _auth("Account Authentication Expired"),
    _auth("User Authentication Revoked"),
    Row("Failed Account Registration"),
    Row("maximum connections exceeded", ends=True),
    Row("maximum account active connections exceeded", ends=True),
    Row("Connection throttling is active. Please try again later.", ends=True),
    Row("Maximum Payload Violation", ends=True),
    Row("maximum control line exceeded", ends=True),
    Row("Stale Connection", ends=True),
    Row("Secure Connection - TLS Required", ends=True),
    Row("invalid client protocol", ends=True),
    Row("no responders requires headers support", ends=True),
    Row("attempted to connect to route port", ends=True),
    Row("attempted to connect to leaf node port", ends=True),
    Row("attempted to connect to wrong port", ends=True),
    Row("attempted to connect to gateway port", ends=True),
    _permission('Publish to "their.secret"', "their.secret"),
    _permission('Publish with Reply of "their.reply"', "their.reply"),
    _permission('Subscription to "their.secret"', "their.secret"),
    _permission('Subscription to "their.secret" using queue "team"', "their.secret"),
    _permission('Subscription to "their.secret" (sid "4711")', "their.secret"),
    _permission('Subscription to "their.secret.plan", too many tokens', "their.secret.plan"),
    Row("maximum subscriptions exceeded"),
    Row("Invalid Subject"),
    Row("Invalid Publish Subject"),
    # What no server of today says.
    Row("Something Entirely New"),
    Row("Permissions Violation for Something New"),
    Row(""),
    Row("x" * 4000),
]
