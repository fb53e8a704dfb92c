"""Seconds that users give: what is wrong is said in their terms, and looked at only where something has failed."""

from __future__ import annotations

from typing import Any


def not_seconds(what: str, seconds: object) -> TypeError:
    """The error for ``what`` (such as "a timeout") that is no number."""
    return TypeError(f"{what} must be a number of seconds, not {seconds!r}")


def check_seconds(what: str, seconds: Any) -> None:
    """TypeError if it is no number, ValueError if it is NaN."""
    seconds_after(0.0, seconds, what)


def seconds_after(now: float, seconds: float, what: str) -> float:
    """The moment ``seconds`` after ``now``. TypeError if it is no number, ValueError if it is NaN."""
    try:
        moment = now + seconds
    except TypeError:
        raise not_seconds(what, seconds) from None
    if moment != moment:
        raise ValueError(f"{what} must be a number of seconds, not NaN")
    return moment
