"""Files, paths and pipes in blocking style: what waits for the disk does so in a thread of the pool.

In plain threads everything here but the pipes works too, without a thread of the pool.
"""

from .atomic import AtomicWrite, atomic_write
from .files import File, open, read_bytes, read_text, write_bytes, write_text
from .paths import Path
from .pipes import PipeStream, fd_stream, pipe, stderr, stdin, stdout

__all__ = [
    "AtomicWrite",
    "File",
    "Path",
    "PipeStream",
    "atomic_write",
    "fd_stream",
    "open",
    "pipe",
    "read_bytes",
    "read_text",
    "stderr",
    "stdin",
    "stdout",
    "write_bytes",
    "write_text",
]
