"""A running program: its streams, its end, and what happens to it when its task is cancelled."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
from collections.abc import Sequence
from contextlib import nullcontext
from typing import TYPE_CHECKING, Self, TypedDict

from greenlet import getcurrent

from .._core import (
    READ,
    Fiber,
    Job,
    Waiter,
    WaitQueue,
    WrongLoop,
    check_seconds,
    here,
    log_later,
    move_on_after,
    seconds_after,
    shield,
)
from .._core import timeout as _timeout
from ..fs.pipes import PipeStream
from ..groups import TaskGroup
from ..tasks import maybe_pause
from ..threads import to_thread
from .ends import Pipes, Redirect
from .waiting import pidfd, until_ended

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from types import TracebackType
    from typing import Unpack

    from .._core import Loop

StrPath = str | os.PathLike[str]
Command = StrPath | Sequence[StrPath]

GRACE = 5.0  # seconds between SIGTERM and SIGKILL
LOST = 255  # the return code of a process whose status somebody else has taken
CHUNK = 65536

logger = logging.getLogger("zio")


class Options(TypedDict, total=False):
    """What ``run`` and ``Popen`` take besides, as in ``subprocess``."""

    cwd: StrPath | None
    env: Mapping[str, str] | None
    shell: bool
    executable: StrPath | None
    pass_fds: Sequence[int]
    start_new_session: bool
    process_group: int | None
    umask: int
    user: str | int | None
    group: str | int | None
    extra_groups: Iterable[str | int] | None


class Popen:
    """A running program: ``with zio.process.Popen(command, stdout=PIPE) as process: ...``

    The arguments are those of ``subprocess.Popen`` (see ``Options``); ``PIPE`` gives a stream of bytes. Making one
    waits until the program has begun; OSError if there is none such. Leaving the block closes the pipes and waits for
    the end of the process; with an error or a cancel it gets SIGTERM, and ``grace`` seconds later SIGKILL. So no
    process and no zombie is left behind. Only inside a zio runtime.
    """

    def __init__(
        self,
        command: Command,
        *,
        stdin: Redirect = None,
        stdout: Redirect = None,
        stderr: Redirect = None,
        grace: float = GRACE,
        **options: Unpack[Options],
    ) -> None:
        unknown = options.keys() - Options.__optional_keys__
        if unknown:
            raise TypeError(f"Popen has no option {', '.join(sorted(unknown))}; it has {', '.join(_option_names())}")
        check_seconds("grace", grace)
        if grace < 0:
            raise ValueError(f"grace={grace!r}: must be a number of seconds, 0 or more")
        for name, value in (("stdin", stdin), ("stdout", stdout), ("stderr", stderr)):
            if isinstance(value, PipeStream):
                raise TypeError(f"{name}: a zio pipe does not block, which programs do not expect; use os.pipe()")
        try:
            self._loop: Loop = here().loop
        except RuntimeError:
            raise RuntimeError("zio.process needs a running zio task: call it inside zio.run(...)") from None
        self.args = command
        self._program = "of a shell" if options.get("shell") else repr(_name_of(command))
        self._grace = grace
        self._unsent: memoryview | None = None
        self._communicating = False
        self._received: dict[PipeStream, list[bytes]] = {}
        self._ended = WaitQueue()  # of those whom a thread tells
        self._watched = False
        self._child: subprocess.Popen[bytes] | None = None
        self.returncode: int | None = None
        self.stdin: PipeStream | None = None
        self.stdout: PipeStream | None = None
        self.stderr: PipeStream | None = None
        pipes = Pipes(stdin, stdout, stderr)
        try:
            to_thread(self._start, pipes, options)
            self.stdin, self.stdout, self.stderr = pipes.streams(self._loop)
        except BaseException:
            pipes.close()
            if self._child is not None:
                with shield():
                    to_thread(_destroy, self._child)
            raise
        assert self._child is not None
        self.pid: int = self._child.pid

    def _start(self, pipes: Pipes, options: Options) -> None:
        with pipes.for_child() as (stdin, stdout, stderr):
            self._child = subprocess.Popen(self.args, stdin=stdin, stdout=stdout, stderr=stderr, **options)

    # Its end.

    def poll(self) -> int | None:
        """The return code, None if it is running. Does not wait."""
        self._fiber("poll")
        return self._reaped()

    def wait(self, timeout: float | None = None) -> int:
        """Wait for its end: the return code; of a process that a signal ended, minus the number of that.

        TimeoutError after ``timeout`` seconds. Timed out or cancelled, the process goes on.
        """
        fiber = self._fiber("wait")
        loop = self._loop
        if loop.budget <= 0:
            loop.checkpoint(fiber)
        else:
            loop.budget -= 1
        until = None if timeout is None else seconds_after(loop.clock.now(), timeout, "a timeout")
        while (code := self._reaped()) is None:
            left = None if until is None else until - loop.clock.now()
            if not self._await_end(fiber, left):
                raise TimeoutError(f"{self!r} did not end within {timeout} s")
        return code

    def send_signal(self, number: int) -> None:
        """Send it a signal; one that has ended gets none."""
        self._fiber("send_signal")
        if self._reaped() is None:  # so its number is its own still
            os.kill(self.pid, number)

    def terminate(self) -> None:
        """Ask it to end: SIGTERM."""
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """End it: SIGKILL."""
        self.send_signal(signal.SIGKILL)

    def _end(self) -> None:
        """See to it that it ends, whatever is cancelled."""
        with shield():
            self.terminate()
            with move_on_after(self._grace):
                self.wait()
            if self.returncode is None:
                self.kill()
                self.wait()

    def _reaped(self) -> int | None:
        if self.returncode is None:
            assert self._child is not None
            try:
                pid, status = os.waitpid(self.pid, os.WNOHANG)
            except ChildProcessError:
                code = LOST
                log_later(
                    logger,
                    logging.WARNING,
                    "the return code of %r is not known: somebody else has waited for it (SIGCHLD is ignored, or has a "
                    "handler that waits for every child)",
                    self,
                )
            else:
                if pid == 0:
                    return None
                code = os.waitstatus_to_exitcode(status)
            self.returncode = self._child.returncode = code
        return self.returncode

    def _await_end(self, fiber: Fiber, seconds: float | None) -> bool:
        """Park until it may have ended; False after ``seconds``."""
        loop = self._loop
        waiter = Waiter(fiber, self)
        fd = pidfd(self.pid)
        if fd is None:
            return self._await_thread(waiter, seconds)
        try:
            pollable = loop.poller.add(fd)
            try:
                pollable.reader = waiter
                if loop.poller.must_arm:
                    loop.poller.arm(pollable, READ)
                loop.io_waiting += 1
                try:
                    return loop.wait(waiter, seconds, _nothing)
                finally:
                    loop.io_waiting -= 1
                    pollable.reader = None
            finally:
                loop.poller.remove(pollable)
        finally:
            os.close(fd)

    def _await_thread(self, waiter: Waiter, seconds: float | None) -> bool:
        loop = self._loop
        if not self._watched:
            self._watched = True
            job = Job(until_ended, (self.pid,), lambda _job: loop.post(self._thread_saw_the_end, optional=True), None)
            loop.runtime.pool.submit(job, at_once=True)
        self._ended.push(waiter)
        loop.outside_wakers += 1
        try:
            return loop.wait(waiter, seconds, self._ended.discard)
        finally:
            loop.outside_wakers -= 1

    def _thread_saw_the_end(self) -> None:
        self._watched = False
        self._ended.wake_all()

    # Its pipes.

    def communicate(
        self,
        input: bytes | None = None,
        timeout: float | None = None,
    ) -> tuple[bytes | None, bytes | None]:
        """Send ``input``, read all output, wait for the end: what came from stdout and stderr, None without a pipe.

        Everything at once, so that no pipe fills up and stops the process. A process that does not read all of its
        input is no error. TimeoutError after ``timeout`` seconds. Timed out or cancelled nothing is lost: call it
        again, without ``input``.
        """
        self._fiber("communicate")
        if input is not None:
            if self.stdin is None:
                raise ValueError("communicate(input) needs stdin=PIPE")
            if self._communicating:
                raise ValueError("communicate has been called before: its input is being sent")
            if isinstance(input, str):
                raise TypeError("communicate(input) needs bytes")
        with nullcontext() if timeout is None else _timeout(timeout):
            maybe_pause()
            if not self._communicating:
                self._communicating = True
                self._unsent = memoryview(input or b"")
            with TaskGroup() as group:
                if self.stdin is not None and not self.stdin.closed:
                    group.spawn(self._feed, self.stdin)
                for stream in (self.stdout, self.stderr):
                    if stream is not None and not stream.closed:
                        group.spawn(self._collect, stream)
            self.wait()
        return self._collected(self.stdout), self._collected(self.stderr)

    def _feed(self, stream: PipeStream) -> None:
        try:
            while self._unsent:
                sent = stream.send_some(self._unsent[:CHUNK])
                self._unsent = self._unsent[sent:]
                stream.wait_writable()
        except BrokenPipeError:
            pass  # it does not want more
        self._unsent = None
        stream.close()

    def _collect(self, stream: PipeStream) -> None:
        parts = self._received.setdefault(stream, [])
        while data := stream.recv(CHUNK):
            parts.append(data)
        stream.close()

    def _collected(self, stream: PipeStream | None) -> bytes | None:
        return None if stream is None else b"".join(self._received.get(stream, ()))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None) -> None:
        try:
            self._close_pipes()
            if exc is None:
                self.wait()
        finally:
            if self.returncode is None:
                self._end()

    def _close_pipes(self) -> None:
        for stream in (self.stdout, self.stderr, self.stdin):
            if stream is not None:
                stream.close()

    def _fiber(self, what: str) -> Fiber:
        fiber = getcurrent()
        if type(fiber) is not Fiber:
            raise RuntimeError(f"{what} needs a task of the process's runtime: call it inside zio.run(...)")
        if fiber.loop is not self._loop:
            raise WrongLoop(f"{what}: the process belongs to {self._loop!r}, {fiber.task!r} to {fiber.loop!r}")
        return fiber

    def __repr__(self) -> str:
        # Without its arguments, which may be secret.
        state = "running" if self.returncode is None else f"ended with {self.returncode}"
        return f"<Popen {self._program} process {getattr(self, 'pid', '?')} {state}>"


def _destroy(child: subprocess.Popen[bytes]) -> None:
    """Of a process that nobody gets to see."""
    child.kill()
    child.wait()


def _name_of(command: Command) -> str:
    if isinstance(command, (str, os.PathLike)):
        return os.fspath(command)
    if not command:
        raise ValueError("the command is empty: it must at least name a program")
    return os.fspath(command[0])


def _option_names() -> list[str]:
    return sorted(Options.__optional_keys__)


def _nothing(_waiter: Waiter) -> None:
    """Whoever waited forgets the waiter."""
