"""Messages that say who sent them and which they are, and the books about what a subscription got of them."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable
from itertools import pairwise

import nats_zio


def payload(publisher: int, number: int) -> bytes:
    """Its text says all about the message, so that a torn or mixed one shows."""
    return b"%d:%d:" % (publisher, number) + b"%c" % (97 + number % 26) * (number * 37 % 3000)


def parse(data: bytes) -> tuple[int, int]:
    publisher, number = (int(part) for part in data.split(b":", 2)[:2])
    assert data == payload(publisher, number), f"message {number} of publisher {publisher} is not whole"
    return publisher, number


def falls(numbers: Iterable[int]) -> list[tuple[int, int]]:
    """Neighbours of which the second is less than the first."""
    return [(a, b) for a, b in pairwise(numbers) if a > b]


class Collector:
    """What one subscription got, by publisher."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.numbers: dict[int, list[int]] = defaultdict(list)

    def take(self, message: nats_zio.Message) -> None:
        publisher, number = parse(message.data)
        self.numbers[publisher].append(number)

    def check(self, late: bool) -> None:
        """Nothing twice, and in order; with `late`, what one connection sent may come amid what the next one sent."""
        for publisher, numbers in self.numbers.items():
            twice = [number for number, count in Counter(numbers).items() if count > 1]
            assert not twice, f"{self.name}: got messages of publisher {publisher} twice: {twice[:10]}"
            steps = falls(numbers)
            if steps and late:
                # The numbers of the later connection are above those of the earlier one: is there such a limit?
                lowest, highest = max(b for _, b in steps), min(a for a, _ in steps)
                if any(
                    not falls(n for n in numbers if n < limit) and not falls(n for n in numbers if n >= limit)
                    for limit in range(lowest + 1, highest + 1)
                ):
                    steps = []
            assert not steps, f"{self.name}: order of publisher {publisher} broken at {steps[:5]}"


def runs(numbers: Iterable[int]) -> list[list[int]]:
    """Cut into stretches of numbers that follow each other."""
    found: list[list[int]] = []
    for number in numbers:
        if found and found[-1][-1] == number - 1:
            found[-1].append(number)
        else:
            found.append([number])
    return found
