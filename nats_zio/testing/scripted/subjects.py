"""Subjects and patterns, by the rules of the server."""

from __future__ import annotations


def matches(pattern: str, subject: str) -> bool:
    """Whether a message to ``subject`` goes to a subscription of ``pattern``."""
    wanted, tokens = pattern.split("."), subject.split(".")
    for position, token in enumerate(wanted):
        if token == ">":
            return len(tokens) > position
        if position >= len(tokens) or token not in ("*", tokens[position]):
            return False
    return len(wanted) == len(tokens)


def covers(pattern: str, subject: str) -> bool:
    """Whether all that ``subject`` stands for, wildcards included, is in ``pattern``."""
    wanted, tokens = pattern.split("."), subject.split(".")
    for position, token in enumerate(wanted):
        if token == ">":
            return len(tokens) > position
        if position >= len(tokens) or tokens[position] == ">":
            return False
        if token not in ("*", tokens[position]):
            return False
    return len(wanted) == len(tokens)


def order(pattern: str) -> list[int]:
    """The key by which the server sorts the patterns that match a subject."""
    tokens = pattern.split(".")
    return [0 if token == ">" else 1 if token == "*" else 2 for token in tokens]


def is_valid(subject: str) -> bool:
    """Whether the server takes a subscription to it."""
    tokens = subject.split(".")
    return all(tokens) and ">" not in tokens[:-1]


def is_literal(subject: str) -> bool:
    """Whether it has no wildcards."""
    return not any(token in ("*", ">") for token in subject.split("."))
