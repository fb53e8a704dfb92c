"""``run``: a program from its start to its end."""

from __future__ import annotations

import locale
import sys
from contextlib import nullcontext
from subprocess import PIPE, CompletedProcess
from typing import TYPE_CHECKING, Any

from .._core import timeout as _timeout
from .popen import GRACE, Popen

if TYPE_CHECKING:
    from typing import Unpack

    from .ends import Redirect
    from .popen import Command, Options


def run(
    command: Command,
    *,
    input: bytes | str | None = None,
    stdin: Redirect = None,
    stdout: Redirect = None,
    stderr: Redirect = None,
    capture_output: bool = False,
    check: bool = False,
    timeout: float | None = None,
    grace: float = GRACE,
    text: bool = False,
    encoding: str | None = None,
    errors: str | None = None,
    **options: Unpack[Options],
) -> CompletedProcess[Any]:
    """Run ``command`` to its end, with the arguments of ``subprocess.run``; only the current task waits.

    If it takes longer than ``timeout`` seconds: TimeoutError. Then, and when it is cancelled or fails otherwise, the
    process gets SIGTERM, and ``grace`` seconds later SIGKILL; the call returns when it has ended. ``check`` raises
    CalledProcessError for a return code other than 0. OSError if there is no such program. Only inside a zio runtime.
    """
    if capture_output:
        if stdout is not None or stderr is not None:
            raise ValueError("capture_output=True stands for stdout=PIPE and stderr=PIPE; leave these out")
        stdout = stderr = PIPE
    if input is not None:
        if stdin is not None:
            raise ValueError("input= is written to the standard input, so stdin= must be left out")
        stdin = PIPE
    text = text or encoding is not None or errors is not None
    data = _encoded(input, text, encoding, errors)
    limit = nullcontext() if timeout is None else _timeout(timeout)
    with limit, Popen(command, stdin=stdin, stdout=stdout, stderr=stderr, grace=grace, **options) as process:
        output, error_output = process.communicate(data)
    code = process.returncode
    assert code is not None
    done: CompletedProcess[Any] = CompletedProcess(
        process.args, code, _decoded(output, text, encoding, errors), _decoded(error_output, text, encoding, errors)
    )
    if check:
        done.check_returncode()
    return done


def _encoded(data: bytes | str | None, text: bool, encoding: str | None, errors: str | None) -> bytes | None:
    if data is None:
        return None
    if isinstance(data, str) != text:
        raise TypeError(f"input must be {'str with' if text else 'bytes without'} text=True, encoding= or errors=")
    if isinstance(data, str):
        return data.encode(encoding or _locale(), errors or "strict")
    return data


def _decoded(data: bytes | None, text: bool, encoding: str | None, errors: str | None) -> bytes | str | None:
    if data is None or not text:
        return data
    return data.decode(encoding or _locale(), errors or "strict").replace("\r\n", "\n").replace("\r", "\n")


def _locale() -> str:
    return "utf-8" if sys.flags.utf8_mode else locale.getencoding()
