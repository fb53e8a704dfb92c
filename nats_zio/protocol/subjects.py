"""Which subjects, queue names and inbox prefixes may be sent, and which subjects a pattern matches.

Invariants: what passes here cannot break the control line it is put in (no whitespace, no control characters,
bounded length, encodable), and means on the server what it looks like. As on the server `*` and `>` are wildcards
only when they are a whole token: `a*` and `>b` are plain text in publish and subscribe alike.
"""

from __future__ import annotations

import re
from typing import NoReturn

from .errors import BadSubjectError, shorten
from .text import plain

__all__ = [
    "MAX_CONTROL_LINE",
    "check_characters",
    "check_control_line",
    "check_inbox_prefix",
    "check_publish_subject",
    "check_queue",
    "check_subscribe_subject",
    "checked_text",
    "matches",
]

MAX_CONTROL_LINE = 4096
"""The server's default limit (`max_control_line`) of what follows the verb in a command, in bytes."""

_NUMBERS = 32  # bytes of a control line kept for sizes or sid and the spaces
_UNIQUE = 64  # bytes of an inbox subject kept for what follows the prefix
_MAX_NAME = MAX_CONTROL_LINE - _NUMBERS
_ALWAYS_SHORT = _MAX_NAME // 4  # characters that stay below the limit in any encoding as UTF-8

_PLAIN = r"[^\x00-\x20\x7f.\ud800-\udfff]"
_LITERAL_TOKEN = rf"(?:[^\x00-\x20\x7f.\ud800-\udfff*>]{_PLAIN}*+|[*>]{_PLAIN}++)"
_TOKEN = rf"{_PLAIN}++"
# No possessive quantifier after a group: until 3.11.4 one that ends in the middle of the group goes on from there.
_PUBLISH = re.compile(rf"{_LITERAL_TOKEN}(?:\.{_LITERAL_TOKEN})*")
_SUBSCRIBE = re.compile(rf"(?:(?!>\.){_TOKEN}\.)*{_TOKEN}")
_QUEUE = re.compile(r"[^\x00-\x20\x7f\ud800-\udfff]++")


def checked_text(what: str, value: str) -> str:
    """Return `value` as an exact str; BadSubjectError if it is none. What it may be is for others to say."""
    if not isinstance(value, str):
        _refuse(what, value, wildcards=True)
    return plain(value)


def check_publish_subject(subject: str) -> None:
    """Raise BadSubjectError unless `subject` can be published to (or be a reply subject): no wildcards."""
    if not _fits(_PUBLISH, subject):
        _refuse("subject", subject, wildcards=False)
    if len(subject) > _ALWAYS_SHORT:
        check_control_line(subject)


def check_subscribe_subject(subject: str) -> None:
    """Raise BadSubjectError unless `subject` can be subscribed to: `*` for one token, `>` as the last one."""
    if not _fits(_SUBSCRIBE, subject):
        _refuse("subject", subject, wildcards=True)
    if len(subject) > _ALWAYS_SHORT:
        check_control_line(subject)


def check_characters(subject: str) -> None:
    """Raise BadSubjectError if `subject` would break the control line; what its tokens mean is left to the server."""
    if not _fits(_QUEUE, subject):
        _refuse("subject", subject, wildcards=True, tokens=False)
    if len(subject) > _ALWAYS_SHORT:
        check_control_line(subject)


def check_queue(queue: str) -> None:
    """Raise BadSubjectError unless `queue` can name a queue group: any text without whitespace."""
    if not _fits(_QUEUE, queue):
        _refuse("queue", queue, wildcards=True, tokens=False)
    if len(queue) > _ALWAYS_SHORT:
        check_control_line(queue)


def check_inbox_prefix(prefix: str) -> None:
    """Raise BadSubjectError unless `prefix` followed by `.` and a unique part is a subject to publish to."""
    if not _fits(_PUBLISH, prefix):
        _refuse("inbox prefix", prefix, wildcards=False)
    if "*" in prefix or ">" in prefix:
        raise BadSubjectError(f"inbox prefix {shorten(prefix)} must not contain '*' or '>'")
    size = len(prefix.encode())
    if size > _MAX_NAME - _UNIQUE:
        raise BadSubjectError(f"inbox prefix {shorten(prefix)} has {size} bytes, more than {_MAX_NAME - _UNIQUE}")


def check_control_line(*names: str) -> None:
    """Raise BadSubjectError if `names` (subject and reply, or subject and queue) do not fit in one control line."""
    size = sum(len(name.encode("utf-8", "surrogatepass")) + 1 for name in names) - 1
    if size > _MAX_NAME:
        raise BadSubjectError(
            f"{' and '.join(shorten(name) for name in names)}: {size} bytes, more than the {_MAX_NAME} that the "
            f"server's control line of {MAX_CONTROL_LINE} bytes leaves"
        )


def _fits(rule: re.Pattern[str], value: str) -> bool:
    try:
        return rule.fullmatch(value) is not None
    except TypeError:  # not a str
        return False


def _refuse(what: str, value: object, *, wildcards: bool, tokens: bool = True) -> NoReturn:
    """Raise for a value that its expression did not match, naming the first rule it breaks."""
    shown = shorten(value)
    if not isinstance(value, str):
        raise BadSubjectError(f"{what} must be a str, not {type(value).__name__}: {shown}")
    if not value:
        raise BadSubjectError(f"{what} must not be empty: {shown}")
    for position, character in enumerate(value):
        if character <= " " or character == "\x7f":
            raise BadSubjectError(
                f"{what} {shown} has {character!r} at {position}: no whitespace or control characters"
            )
        if "\ud800" <= character <= "\udfff":
            raise BadSubjectError(f"{what} {shown} has {character!r} at {position}: not encodable as UTF-8")
    if tokens:
        parts = value.split(".")
        if "" in parts:
            raise BadSubjectError(f"{what} {shown} has an empty token: no '.' at the start or end, no '..'")
        if not wildcards and ("*" in parts or ">" in parts):
            raise BadSubjectError(f"{what} {shown} has a wildcard: '*' and '>' cannot be published to")
        if ">" in parts[:-1]:
            raise BadSubjectError(f"{what} {shown} has '>' before its end: it can only be the last token")
    raise AssertionError(f"{what} {shown} was refused without a rule")


def matches(pattern: str, subject: str) -> bool:
    """Tell whether a message on `subject` goes to a subscription on `pattern`; both must be valid."""
    if pattern == subject:
        return True
    wanted, tokens = pattern.split("."), subject.split(".")
    if wanted[-1] == ">":
        wanted.pop()
        if len(tokens) <= len(wanted):
            return False
    elif len(tokens) != len(wanted):
        return False
    return all(want in ("*", token) for want, token in zip(wanted, tokens, strict=False))
