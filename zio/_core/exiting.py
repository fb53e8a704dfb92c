"""Daemon threads that wait when the interpreter exits: what they wait for ends, and they end without a word."""

from __future__ import annotations

import threading


def end_daemon_at_exit(error: BaseException) -> None:
    """To be called before ``error`` says that a wait has ended with its client or runtime.

    Nobody wants the traceback of a daemon thread from a program that has come to its end as it should: the thread gets
    SystemExit instead, which ends it quietly. It must not stay in its wait, since an exit handler may join it.
    """
    if threading.main_thread().is_alive():
        return
    thread = threading.current_thread()
    if thread.daemon and thread is not threading.main_thread():
        raise SystemExit from error
