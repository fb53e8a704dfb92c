"""Counts that users give: whole numbers from some number up."""

from __future__ import annotations


def check_count(name: str, n: object, least: int) -> None:
    """TypeError or ValueError, which names the value and the rule, unless ``n`` is a whole number from ``least`` up."""
    if not isinstance(n, int):
        raise TypeError(f"{name}={n!r} must be a whole number")
    if n < least:
        raise ValueError(f"{name}={n!r} must be {least} or more")
