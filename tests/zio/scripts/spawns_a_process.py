"""Starts a process by ``multiprocessing`` in the middle of a run; the child has a run of its own."""

from __future__ import annotations

import multiprocessing
from typing import Any

import zio


def child(queue: Any) -> None:
    queue.put(zio.run(lambda: zio.spawn(lambda: "from the child").join()))


def main() -> tuple[str, int | None]:
    context = multiprocessing.get_context("spawn")
    queue = context.SimpleQueue()
    process = context.Process(target=child, args=(queue,))
    process.start()
    answer = zio.to_thread(queue.get)
    zio.to_thread(process.join)
    return answer, process.exitcode


if __name__ == "__main__":
    print(*zio.run(main))
