"""Producers and consumers on one channel: a fast side waits for the slow one, and the end reaches everybody.

python examples/runtime/producer_consumer.py
"""

from __future__ import annotations

from collections import Counter

import zio

PRODUCERS = 3
CONSUMERS = 4
ITEMS = 100  # of each producer


def produce(name: int, jobs: zio.Channel[int]) -> None:
    for number in range(ITEMS):
        jobs.send(name * ITEMS + number)  # waits while ten jobs are there that nobody has taken
        if number % 10 == 0:
            zio.sleep(0.001)


def consume(name: str, jobs: zio.Channel[int], results: zio.Channel[tuple[str, int]]) -> None:
    for job in jobs:  # ends when the channel is closed and empty
        zio.sleep(0.0005)
        results.send((name, job * job))


def main() -> None:
    jobs, results = zio.Channel[int](10), zio.Channel[tuple[str, int]](10)

    def all_producers() -> None:
        with zio.TaskGroup() as group:
            for name in range(PRODUCERS):
                group.spawn(produce, name, jobs)
        jobs.close()

    def all_consumers() -> None:
        with zio.TaskGroup() as group:
            for number in range(CONSUMERS):
                group.spawn(consume, f"consumer {number}", jobs, results)
        results.close()

    total, done_by = 0, Counter[str]()
    with zio.TaskGroup() as group:
        group.spawn(all_producers)
        group.spawn(all_consumers)
        for name, square in results:
            total += square
            done_by[name] += 1
    print(f"{done_by.total()} jobs done by {len(done_by)} consumers, sum of squares {total}")


if __name__ == "__main__":
    zio.run(main)
