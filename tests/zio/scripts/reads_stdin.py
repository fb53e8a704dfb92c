"""Reads its standard input in a task, while another task counts, and says what came and how it left things."""

from __future__ import annotations

import os

import zio


def main() -> None:
    before = [os.get_blocking(fd) for fd in (0, 1, 2)]
    turns = 0

    def count() -> None:
        nonlocal turns
        while True:
            turns += 1
            zio.sleep(0.001)

    counting = zio.spawn(count)
    with zio.fs.stdin() as stdin, zio.fs.stdout() as stdout:
        stdout.send_all(b"ready\n")
        received = b""
        while data := stdin.recv(65536):
            received += data
        during = [os.get_blocking(fd) for fd in (0, 1, 2)]
        counting.cancel()
        stdout.send_all(f"{len(received)} {turns > 0} {before == during}\n".encode())
    after = [os.get_blocking(fd) for fd in (0, 1, 2)]
    os.write(1, f"{before == after}\n".encode())  # which is open still


zio.run(main)
