"""The catalogue of -ERR texts."""

from __future__ import annotations

import pytest

from nats_zio.protocol import ErrorKind, ServerErrorInfo, classify
from tests.protocol.reference import read_from_server
from tests.protocol.test_parser_streams import RECORDINGS


@pytest.mark.parametrize(
    ("text", "kind", "closes"),
    [
        ("Unknown Protocol Operation", ErrorKind.UNKNOWN_OPERATION, True),
        ("Authorization Violation", ErrorKind.AUTHORIZATION_VIOLATION, True),
        ("Authentication Timeout", ErrorKind.AUTHENTICATION_TIMEOUT, True),
        ("Authorization Timeout", ErrorKind.AUTHENTICATION_TIMEOUT, True),
        ("User Authentication Expired", ErrorKind.USER_AUTHENTICATION_EXPIRED, True),
        ("Account Authentication Expired", ErrorKind.ACCOUNT_AUTHENTICATION_EXPIRED, True),
        ("User Authentication Revoked", ErrorKind.USER_AUTHENTICATION_REVOKED, True),
        ("Failed Account Registration", ErrorKind.ACCOUNT_REGISTRATION, False),
        ("maximum connections exceeded", ErrorKind.MAX_CONNECTIONS, True),
        ("maximum account active connections exceeded", ErrorKind.MAX_ACCOUNT_CONNECTIONS, True),
        ("Connection throttling is active. Please try again later.", ErrorKind.CONNECTION_THROTTLING, True),
        ("Maximum Payload Violation", ErrorKind.MAX_PAYLOAD, True),
        ("maximum control line exceeded", ErrorKind.MAX_CONTROL_LINE, True),
        ("Stale Connection", ErrorKind.STALE_CONNECTION, True),
        ("Secure Connection - TLS Required", ErrorKind.TLS_REQUIRED, True),
        ("invalid client protocol", ErrorKind.CLIENT_PROTOCOL, True),
        ("no responders requires headers support", ErrorKind.CLIENT_PROTOCOL, True),
        ("attempted to connect to route port", ErrorKind.WRONG_PORT, True),
        ("attempted to connect to leaf node port", ErrorKind.WRONG_PORT, True),
        ("maximum subscriptions exceeded", ErrorKind.MAX_SUBSCRIPTIONS, False),
        ("Invalid Subject", ErrorKind.INVALID_SUBJECT, False),
        ("Invalid Publish Subject", ErrorKind.INVALID_PUBLISH_SUBJECT, False),
        ("Something New", ErrorKind.UNKNOWN, False),
        ("Permissions Violation for Something New", ErrorKind.UNKNOWN, False),
        ("", ErrorKind.UNKNOWN, False),
    ],
)
def test_texts_of_the_server(text: str, kind: ErrorKind, closes: bool) -> None:
    for written in text, text.upper(), text.lower(), f" '{text}' ":
        found = classify(written)
        assert (found.kind, found.closes) == (kind, closes)
        assert (found.subject, found.queue, found.sid) == (None, None, None)
    assert classify(text).text == text


@pytest.mark.parametrize(
    ("text", "kind", "subject", "queue", "sid"),
    [
        ('Publish to "a.b"', ErrorKind.PUBLISH_PERMISSION, "a.b", None, None),
        ('Publish with Reply of "_R_.x"', ErrorKind.REPLY_PERMISSION, "_R_.x", None, None),
        ('Subscription to "a.>"', ErrorKind.SUBSCRIPTION_PERMISSION, "a.>", None, None),
        ('Subscription to "a" using queue "q"', ErrorKind.SUBSCRIPTION_PERMISSION, "a", "q", None),
        ('Subscription to "a" (sid "12")', ErrorKind.SUBSCRIPTION_PERMISSION, "a", None, 12),
        ('Subscription to "a" using queue "q" (sid "12")', ErrorKind.SUBSCRIPTION_PERMISSION, "a", "q", 12),
        ('Subscription to "a" (sid "x1")', ErrorKind.SUBSCRIPTION_PERMISSION, "a", None, None),
        ('Subscription to "a.b.c", too many tokens', ErrorKind.TOO_MANY_TOKENS, "a.b.c", None, None),
        ("Subscription to a.b", ErrorKind.SUBSCRIPTION_PERMISSION, "a.b", None, None),
        ('Publish to "a" and more', ErrorKind.PUBLISH_PERMISSION, "a", None, None),
        (r'Publish to "a\"b\\c\x00\u00a0\U0001F600\n"', ErrorKind.PUBLISH_PERMISSION, 'a"b\\c\x00\xa0😀\n', None, None),
        (r'Publish to "\xff\a\b\f\r\t\v"', ErrorKind.PUBLISH_PERMISSION, "\udcff\a\b\f\r\t\v", None, None),
        (r'Publish to "grüße\\"', ErrorKind.PUBLISH_PERMISSION, "grüße\\", None, None),
        (r'Publish to "\UFFFFFFFF"', ErrorKind.PUBLISH_PERMISSION, "\ufffd", None, None),
        (r'Subscription to "a\"\" using queue \"" using queue "q\"r"', ErrorKind.SUBSCRIPTION_PERMISSION,
         'a"" using queue "', 'q"r', None),
    ],
)  # fmt: skip
def test_permissions_violations_name_whom_they_are_about(
    text: str, kind: ErrorKind, subject: str, queue: str | None, sid: int | None
) -> None:
    text = f"Permissions Violation for {text}"
    assert classify(text) == ServerErrorInfo(kind, text, subject, queue, sid, closes=False)


def test_what_a_real_server_says() -> None:
    _, events = read_from_server(RECORDINGS["permissions"])
    found = [classify(text) for verb, text in events if verb == "-ERR"]
    assert [(one.kind, one.subject, one.queue) for one in found] == [
        (ErrorKind.PUBLISH_PERMISSION, "secret.plan", None),
        (ErrorKind.PUBLISH_PERMISSION, 'quo"ted', None),
        (ErrorKind.REPLY_PERMISSION, "_R_.reserved.reply", None),
        (ErrorKind.SUBSCRIPTION_PERMISSION, "secret.plan", None),
        (ErrorKind.SUBSCRIPTION_PERMISSION, "secret.>", "team"),
        (ErrorKind.SUBSCRIPTION_PERMISSION, "work.one", "hidden"),
        (ErrorKind.INVALID_SUBJECT, None, None),
        (ErrorKind.MAX_PAYLOAD, None, None),
    ]
    assert [one.closes for one in found] == [False] * 7 + [True]
