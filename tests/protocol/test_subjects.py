"""Which names may be sent, and which subjects a pattern matches."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nats_zio.protocol import (
    BadSubjectError,
    Error,
    check_characters,
    check_control_line,
    check_inbox_prefix,
    check_publish_subject,
    check_queue,
    check_subscribe_subject,
    matches,
)

CHECKS = [check_publish_subject, check_subscribe_subject, check_queue, check_inbox_prefix, check_characters]
LITERAL = [
    "a",
    "a.b.c",
    "grüße.wörld.✓",
    "a*",
    "*a.b",
    "a.b>",
    ">>",
    "**",
    "a.*b*.c",
    "$JS.API",
    "\u00a0",
    "a/b:c",
    "-1",
]
WILD = ["*", ">", "a.*", "*.b", "a.>", "a.*.b.>", "*.*"]


@pytest.mark.parametrize("subject", LITERAL)
def test_literal_subjects_can_be_published_and_subscribed_to(subject: str) -> None:
    check_publish_subject(subject)
    check_subscribe_subject(subject)


@pytest.mark.parametrize("subject", WILD)
def test_wildcards_can_be_subscribed_to_only(subject: str) -> None:
    check_subscribe_subject(subject)
    with pytest.raises(BadSubjectError, match="cannot be published to") as caught:
        check_publish_subject(subject)
    assert repr(subject) in str(caught.value)


@pytest.mark.parametrize("subject", [*LITERAL, *WILD, "a..b", ".a", "a.", "a.>.b", "."])
def test_of_characters_alone_the_tokens_do_not_matter(subject: str) -> None:
    check_characters(subject)


@pytest.mark.parametrize("check", CHECKS)
@pytest.mark.parametrize(
    ("name", "rule"),
    [
        ("", "must not be empty"),
        (" ", "no whitespace"),
        ("a b", "' ' at 1"),
        ("a\r\nPUB b 1", r"'\\r' at 1"),
        ("a\n", r"'\\n' at 1"),
        ("a\t", "no whitespace"),
        ("a\x00b", r"'\\x00' at 1"),
        ("\x0b", "no whitespace"),
        ("a\x7f", "no whitespace"),
        ("a\ud800", "not encodable"),
        ("a\udcff.b", "not encodable"),
        ("a" * 4065, "4065 bytes"),
        ("ü" * 2033, "4066 bytes"),
        (None, "must be a str, not NoneType"),
        (b"a", "must be a str, not bytes"),
        (5, "must be a str, not int"),
    ],
)
def test_what_breaks_the_control_line_is_refused_everywhere(check, name, rule: str) -> None:
    with pytest.raises(BadSubjectError, match=rule) as caught:
        check(name)
    assert len(str(caught.value)) < 400
    assert isinstance(caught.value, Error)
    assert isinstance(caught.value, ValueError)


@pytest.mark.parametrize("check", [check_publish_subject, check_subscribe_subject, check_inbox_prefix])
@pytest.mark.parametrize("subject", [".", ".a", "a.", "a..b", "..", "a.b."])
def test_empty_tokens_are_refused(check, subject: str) -> None:
    with pytest.raises(BadSubjectError, match="empty token"):
        check(subject)


@pytest.mark.parametrize("subject", [">.a", "a.>.b", ">.>", "*.>.*"])
def test_the_rest_wildcard_stands_only_at_the_end(subject: str) -> None:
    with pytest.raises(BadSubjectError, match="only be the last token"):
        check_subscribe_subject(subject)


def test_the_longest_names_are_allowed() -> None:
    check_publish_subject("a" * 4064)
    check_subscribe_subject("ü" * 2032)
    check_queue("✓" * 1354)


def test_names_are_checked_together_for_one_control_line() -> None:
    check_control_line("a" * 2000, "b" * 2000)
    with pytest.raises(BadSubjectError, match="more than the 4064"):
        check_control_line("a" * 2040, "b" * 2040)


@pytest.mark.parametrize("queue", ["workers", "a.b", "a..b", ".", "*", ">", "grüße"])
def test_queue_names_are_free_but_for_whitespace(queue: str) -> None:
    check_queue(queue)


@pytest.mark.parametrize("prefix", ["a*", ">b", "*", "a.>"])
def test_inbox_prefixes_have_no_wildcard_characters_at_all(prefix: str) -> None:
    with pytest.raises(BadSubjectError):
        check_inbox_prefix(prefix)
    check_inbox_prefix("_INBOX_me.x")


def by_the_rules(subject: object, *, publish: bool) -> bool:
    """The rules token by token, as the server's isValidSubject has them, with our stricter characters."""
    assert isinstance(subject, str)
    tokens = subject.split(".")
    if any(not token or any(c <= " " or c == "\x7f" or "\ud800" <= c <= "\udfff" for c in token) for token in tokens):
        return False
    if publish:
        return "*" not in tokens and ">" not in tokens
    return ">" not in tokens[:-1]


@pytest.mark.slow
@given(st.text(st.sampled_from("ab.*>ü \n\x7f\udc80"), max_size=8) | st.text(max_size=10))
def test_the_expressions_are_the_rules(subject: str) -> None:
    for check, publish in (check_publish_subject, True), (check_subscribe_subject, False):
        try:
            check(subject)
        except BadSubjectError:
            assert not by_the_rules(subject, publish=publish)
        else:
            assert by_the_rules(subject, publish=publish)


@pytest.mark.parametrize(
    ("pattern", "subject", "result"),
    [
        ("a.b", "a.b", True),
        ("a.b", "a.c", False),
        ("a.b", "a.b.c", False),
        ("a.b.c", "a.b", False),
        ("*", "a", True),
        ("*", "a.b", False),
        ("a.*", "a.b", True),
        ("a.*", "a", False),
        ("*.b", "a.b", True),
        ("*.*.c", "a.b.c", True),
        ("*.*.c", "a.b.d", False),
        (">", "a", True),
        (">", "a.b.c", True),
        ("a.>", "a", False),
        ("a.>", "a.b", True),
        ("a.>", "a.b.c", True),
        ("a.>", "b.c", False),
        ("a.*.>", "a.b", False),
        ("a.*.>", "a.b.c", True),
        ("a*", "ab", False),
        ("a*", "a*", True),
        ("a>", "ab", False),
        ("A", "a", False),
    ],
)
def test_patterns_match_by_tokens(pattern: str, subject: str, result: bool) -> None:
    assert matches(pattern, subject) is result
