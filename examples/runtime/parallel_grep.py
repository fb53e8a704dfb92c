"""Parallel grep: files are found, read and searched by several tasks; what blocks, a disk, does so in threads.

python examples/runtime/parallel_grep.py PATTERN FOLDER
"""

from __future__ import annotations

import re
import sys
from typing import NamedTuple

import zio
from zio.fs import Path

AT_ONCE = 8


class Hit(NamedTuple):
    path: str
    line: int
    text: str


def find(folder: str, paths: zio.Channel[Path]) -> None:
    """Send all Python files below the folder; waits while the others have enough to do."""
    for path in Path(folder).rglob("*.py"):
        paths.send(path)
    paths.close()


def search(pattern: re.Pattern[str], path: Path) -> list[Hit]:
    text = path.read_text(encoding="utf-8", errors="replace")
    # A long search would hold up all tasks: it is done in a thread, too.
    return zio.to_thread(hits_in, pattern, str(path), text)


def hits_in(pattern: re.Pattern[str], path: str, text: str) -> list[Hit]:
    return [Hit(path, number, line) for number, line in enumerate(text.splitlines(), 1) if pattern.search(line)]


def main(expression: str, folder: str) -> int:
    pattern = re.compile(expression)
    paths, results = zio.Channel[Path](AT_ONCE), zio.Channel[list[Hit]](AT_ONCE)

    def search_all() -> None:
        with zio.TaskGroup(limit=AT_ONCE) as searching:
            for path in paths:
                searching.spawn(lambda path=path: results.send(search(pattern, path)))  # waits for a free place
        results.close()

    files = found = 0
    with zio.TaskGroup() as group:
        group.spawn(find, folder, paths)
        group.spawn(search_all)
        for hits in results:
            files += 1
            found += len(hits)
            for hit in hits:
                print(f"{hit.path}:{hit.line}: {hit.text.strip()}")
    print(f"{found} lines in {files} files")
    return 0 if found else 1


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit("usage: parallel_grep.py PATTERN FOLDER")
    sys.exit(zio.run(main, *sys.argv[1:]))
