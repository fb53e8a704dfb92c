"""Our log lines: written by a thread of their own, so that a handler may use what has something to say."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable, Iterator

import pytest

import zio
from zio.lowlevel import log_later, wait_logged

logger = logging.getLogger("tests.log_lines")


class Handler(logging.Handler):
    """Calls a function with each record, and lets its errors out."""

    def __init__(self, handle: Callable[[logging.LogRecord], object]) -> None:
        super().__init__()
        self._handle = handle

    def emit(self, record: logging.LogRecord) -> None:
        self._handle(record)


@pytest.fixture
def handled() -> Iterator[Callable[[Callable[[logging.LogRecord], object]], None]]:
    """Give it a function: it is called with each record of the logger."""
    handlers = []

    def handle(function: Callable[[logging.LogRecord], object]) -> None:
        handlers.append(Handler(function))
        logger.addHandler(handlers[-1])

    yield handle
    wait_logged()
    for handler in handlers:
        logger.removeHandler(handler)


def test_lines_are_written_in_their_order(handled: Callable[..., None]) -> None:
    seen: list[str] = []
    handled(lambda record: seen.append(record.getMessage()))
    for number in range(100):
        log_later(logger, logging.WARNING, "line %d", number)
    assert wait_logged()
    assert seen == [f"line {number}" for number in range(100)]


def test_arguments_are_shown_as_they_were_when_the_line_was_put_aside(handled: Callable[..., None]) -> None:
    seen: list[str] = []
    handled(lambda record: seen.append(record.getMessage()))
    changing = [1]
    log_later(logger, logging.WARNING, "%s %r %d", changing, "text", 5)
    changing.append(2)
    wait_logged()
    assert seen == ["[1] 'text' 5"]


def test_a_handler_may_wait_for_the_loop_that_has_something_to_say(handled: Callable[..., None]) -> None:
    answers: list[int] = []
    runtime = zio.Runtime()
    handled(lambda record: answers.append(runtime.call(lambda: 42)))

    def main() -> None:
        told = zio.Event()
        log_later(logger, logging.WARNING, "something")
        zio.to_thread(wait_logged)
        told.set()

    runtime.run(main)
    assert answers == [42]


def test_a_thread_that_holds_the_handlers_lock_may_wait_for_the_loop(handled: Callable[..., None]) -> None:
    lock, holds, seen = threading.Lock(), threading.Event(), []
    runtime = zio.Runtime()

    def handle(record: logging.LogRecord) -> None:
        with lock:
            seen.append(record.getMessage())

    handled(handle)

    def logging_thread() -> None:
        with lock:
            holds.set()
            runtime.call(log_later, logger, logging.WARNING, "from the loop")

    def main() -> None:
        zio.to_thread(logging_thread)
        assert holds.is_set()

    runtime.run(main)
    wait_logged()
    assert seen == ["from the loop"]


def test_a_handler_that_logs_by_us_writes_the_next_line(handled: Callable[..., None]) -> None:
    seen: list[str] = []

    def handle(record: logging.LogRecord) -> None:
        seen.append(record.getMessage())
        if len(seen) < 4:
            log_later(logger, logging.WARNING, "line %d", len(seen))

    handled(handle)
    log_later(logger, logging.WARNING, "line 0")
    assert wait_logged()
    assert seen == ["line 0", "line 1", "line 2", "line 3"]


def test_a_handler_that_raises_does_not_keep_the_next_line_back(
    handled: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen, told = [], []
    monkeypatch.setattr("sys.excepthook", lambda kind, error, trace: told.append(str(error)))

    def handle(record: logging.LogRecord) -> None:
        seen.append(record.getMessage())
        if len(seen) == 1:
            raise ValueError("no room")

    handled(handle)
    log_later(logger, logging.WARNING, "first")
    wait_logged()
    log_later(logger, logging.WARNING, "second")
    wait_logged()
    assert (seen, told) == (["first", "second"], ["no room"])


def test_without_threads_a_line_is_written_at_once(
    handled: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    seen: list[str] = []
    handled(lambda record: seen.append(record.getMessage()))
    monkeypatch.setattr(threading.Thread, "start", refuse)
    log_later(logger, logging.WARNING, "a line")
    assert seen == ["a line"]
    monkeypatch.undo()
    log_later(logger, logging.WARNING, "another one")
    assert wait_logged()
    assert seen == ["a line", "another one"]


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_a_forked_child_leaves_the_lines_of_the_parent_to_it(handled: Callable[..., None]) -> None:
    seen: list[str] = []
    forked = threading.Event()
    entered = threading.Event()

    def handle(record: logging.LogRecord) -> None:
        seen.append(record.getMessage())
        entered.set()
        forked.wait(30)

    handled(handle)
    log_later(logger, logging.WARNING, "first")
    entered.wait(30)
    log_later(logger, logging.WARNING, "second")
    pid = os.fork()
    if not pid:
        forked.set()
        log_later(logger, logging.WARNING, "the child's")
        right = wait_logged() and seen == ["first", "the child's"]
        os._exit(0 if right else 1)
    forked.set()
    assert os.waitpid(pid, 0)[1] == 0
    wait_logged()
    assert seen == ["first", "second"]
