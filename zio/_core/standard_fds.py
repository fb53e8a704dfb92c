"""The numbers 0, 1 and 2, which whoever writes to a standard stream takes for one, whatever they stand for."""

from __future__ import annotations

import os


def keep_standard_fds() -> None:
    """Open those that were closed when the program began (daemons) on the null device.

    Or the next socket would get such a number: a warning of a C library would go into a connection, a child process
    would find nothing there, and ``zio.fs.stdin`` somebody else's bytes.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            fd = os.open(os.devnull, os.O_RDWR)
            if fd == number:
                os.set_inheritable(fd, True)
            else:  # another thread has taken the number meanwhile
                os.close(fd)
