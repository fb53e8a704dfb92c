"""Small things for tasks to do."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TypeVar

import zio

T = TypeVar("T")


def forever() -> None:
    """Wait without end."""
    zio.sleep(math.inf)


def boom(text: str = "boom") -> None:
    """Fail."""
    raise ValueError(text)


def sleep_then(seconds: float, fn: Callable[[], T]) -> T:
    """``fn()``, later."""
    zio.sleep(seconds)
    return fn()
