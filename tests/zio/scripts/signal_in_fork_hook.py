"""A fork hook from before the import of zio: in the child it runs before zio's, and a signal comes there."""

import os
import signal


def in_child() -> None:
    signal.raise_signal(signal.SIGTERM)


os.register_at_fork(after_in_child=in_child)

import zio  # noqa: E402


def main() -> int:
    with zio.signals(signal.SIGTERM):
        pid = os.fork()
        if not pid:
            os._exit(3)
        return os.waitpid(pid, 0)[1]


print("the child was ended by signal", os.WTERMSIG(zio.run(main)))
