"""Twice 100,000 tasks that park at once and finish: prints the growth of memory per task, and each peak, in bytes."""

from pathlib import Path

import zio

TASKS = 100_000


def resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


def main() -> None:
    before = resident()
    peaks = []
    for _ in range(2):
        event = zio.Event()

        def park(event: zio.Event = event) -> None:
            event.wait()

        with zio.TaskGroup() as group:
            for _ in range(TASKS):
                group.spawn(park)
            zio.testing.wait_all_parked()
            peaks.append(resident())
            event.set()
    print((peaks[0] - before) / TASKS, *peaks)


zio.run(main)
