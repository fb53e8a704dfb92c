"""Started with standard streams closed: what a program that uses all of zio finds there. Writes to the file argv[1]."""

from __future__ import annotations

import socket
import sys
from pathlib import Path

import zio
from zio.process import run


def main() -> list[object]:
    left, right = socket.socketpair()
    with left, right:
        numbers = min(left.fileno(), right.fileno()) > 2
        done = run(["cat"], input=b"through", capture_output=True)
        silent = run(["sh", "-c", "echo lost; echo lost >&2; cat"])
        with zio.timeout(30), zio.fs.stdin() as stdin:
            rest = stdin.recv(100)
        return [numbers, done.stdout, silent.returncode, rest]


Path(sys.argv[1]).write_text(repr(zio.run(main)))
