"""Unique names for inboxes: 12 random characters and 10 that count on from a random start (the scheme of NUID)."""

from __future__ import annotations

from itertools import count
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
        self._renew()

    def _renew(self) -> None:
        prefix = "".join(self._random.choices(_DIGITS, k=_PREFIX))
        numbers = count(self._random.randrange(_MAX), self._random.randrange(33, 333))
        self._names = prefix, numbers  # in one step: they belong together

    def next(self) -> str:
        """A new name."""
        while True:
            prefix, numbers = self._names
            number = next(numbers)  # in one step of C, whoever else is at it
            if number < _MAX:
                break
            self._renew()
        digits = []
        for _ in range(_SEQUENCE):
            number, digit = divmod(number, _BASE)
            digits.append(_DIGITS[digit])
        return prefix + "".join(reversed(digits))
