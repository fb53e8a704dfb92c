"""Unique names for inboxes: 12 random characters and 10 that count on from a random start (the scheme of NUID)."""

from __future__ import annotations

import threading
from random import Random

_DIGITS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_BASE = len(_DIGITS)
_PREFIX = 12
_SEQUENCE = 10
_MAX = _BASE**_SEQUENCE


class Nuid:
    """A generator of names of 22 characters. Not secret. Safe to use from several threads."""

    def __init__(self, random: Random) -> None:
        self._random = random
        self._lock = threading.Lock()
        self._renew()

    def _renew(self) -> None:
        self._prefix = "".join(self._random.choices(_DIGITS, k=_PREFIX))
        self._number = self._random.randrange(_MAX)
        self._step = self._random.randrange(33, 333)

    def next(self) -> str:
        """A new name."""
        with self._lock:
            self._number += self._step
            if self._number >= _MAX:
                self._renew()
            number = self._number
            prefix = self._prefix
        digits = []
        for _ in range(_SEQUENCE):
            number, digit = divmod(number, _BASE)
            digits.append(_DIGITS[digit])
        return prefix + "".join(reversed(digits))
