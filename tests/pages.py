"""Pages whose code runs: what is in them, and how it is run.

The code blocks of a page are executed in its order, with a server in the place of ``nats://127.0.0.1:4222``. A comment
before a block says how:

* none, before ```` ```python ````: all such blocks of the page are run in one namespace, in a process of its own, after
  the others. A ```` ```text ```` block right behind one is what it prints, to the letter;
* ``<!-- file: name.py -->``: the block is saved under that name, in a folder of the page;
* ``<!-- terminal -->`` before ```` ```console ````: its commands are run in that folder, and print what follows them;
* ``<!-- first terminal -->``: the same, but the command goes on while the next terminal or test is run; then it ends,
  or is interrupted where the page shows a ``^C``;
* ``<!-- pytest -->`` or ``<!-- pytest: test_name.py -->``: the block is a test file, and pytest must pass on it;
* ``<!-- not run: reason -->``: it is only compiled.
"""

from __future__ import annotations

import os
import re
import selectors
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple, Self

import pytest

ROOT = Path(__file__).resolve().parent.parent
URL = "nats://127.0.0.1:4222"
# By name, so that the tests need no installed nats-zio.
PLUGINS = ("-p", "nats_zio.testing.plugin", "-p", "nats_zio.testing.zio_plugin")
NOT_RUN = re.compile(r"<!-- not run: (.+) -->")
FILE = re.compile(r"<!-- file: (\S+) -->")
PYTEST = re.compile(r"<!-- pytest(?:: (test_\w+\.py))? -->")
TERMINAL = "<!-- terminal -->"
FIRST_TERMINAL = "<!-- first terminal -->"
PATIENCE = 100  # seconds

# Runs in the child: the blocks come as a literal on standard input.
RUNNER = r"""
import ast, contextlib, io, sys

page, blocks = ast.literal_eval(sys.stdin.read())
namespace = {"__name__": "__main__"}
for line, code, expected in blocks:
    output = io.StringIO()
    with contextlib.redirect_stdout(output):
        exec(compile("\n" * (line - 1) + code, page, "exec"), namespace)
    if expected is not None and output.getvalue() != expected:
        sys.exit(f"{page}:{line}: printed\n{output.getvalue()}but the page says\n{expected}")
"""


class Block(NamedTuple):
    line: int  # of its first line
    kind: str  # python or console
    code: str
    mark: str  # the comment before it
    output: str | None


def blocks_of(text: str) -> list[Block]:
    """The ```python and the marked ```console blocks of a page."""
    blocks: list[Block] = []
    lines = text.splitlines()
    above = ""  # the last line that was not empty
    at = 0
    while at < len(lines):
        line = lines[at]
        at += 1
        if line.startswith("```"):
            begin = at
            while lines[at] != "```":
                at += 1
            content = "".join(f"{line}\n" for line in lines[begin:at])
            at += 1
            kind = line[3:].strip()
            mark = above if above.startswith("<!--") else ""
            if kind == "python" or (kind == "console" and mark):
                blocks.append(Block(begin + 1, kind, content, mark, None))
            elif kind == "text" and above == "```python":
                blocks[-1] = blocks[-1]._replace(output=content)
            above = "```" + kind
        elif line.strip():
            assert "```" not in line, f"line {at}: code blocks start at the beginning of a line"
            above = line.strip()
    return blocks


def save_files(text: str, folder: Path) -> None:
    """Save the files that a page shows, as they are at its end."""
    for block in blocks_of(text):
        if file := FILE.fullmatch(block.mark):
            folder.joinpath(file[1]).parent.mkdir(parents=True, exist_ok=True)
            folder.joinpath(file[1]).write_text(block.code)


def run_page(text: str, name: str, server_url: str, folder: Path) -> None:
    """Run the code of a page; fails as a test does."""
    executed: list[tuple[int, str, str | None]] = []
    with Terminals(folder, server_url) as terminals:
        for block in blocks_of(text):
            where = f"{name}:{block.line}"
            code = block.code.replace(URL, server_url)
            if block.kind == "console":
                assert block.mark in (TERMINAL, FIRST_TERMINAL), f"{where}: what does {block.mark} mean?"
                terminals.use(code, where, goes_on=block.mark == FIRST_TERMINAL)
                continue
            compile(code, where, "exec")
            if reason := NOT_RUN.fullmatch(block.mark):
                print(f"{where} is not run: {reason[1]}")
            elif file := FILE.fullmatch(block.mark):
                folder.joinpath(file[1]).parent.mkdir(parents=True, exist_ok=True)
                folder.joinpath(file[1]).write_text(code)
            elif test := PYTEST.fullmatch(block.mark):
                file_name = test[1] or f"test_line_{block.line}.py"
                folder.joinpath(file_name).write_text(code)
                run_pytest(file_name, server_url, folder)
                terminals.end_first()
            else:
                assert not block.mark, f"{where}: what does {block.mark} mean?"
                executed.append((block.line, code, block.output))
    if executed:
        run_python("-c", RUNNER, stdin=repr((name, executed)), env=environment(), folder=folder)


def environment(**more: str) -> dict[str, str]:
    """Of a program of a page: it finds this checkout, and `python` is the one that runs the tests."""
    env = {key: value for key, value in os.environ.items() if not key.startswith(("NATS_", "PYTEST_", "COV_"))}
    return {
        **env,
        "PATH": os.pathsep.join((str(Path(sys.executable).parent), env.get("PATH", ""))),
        "PYTHONPATH": os.pathsep.join(filter(None, (str(ROOT), env.get("PYTHONPATH")))),
        "PYTHONWARNINGS": "error",
        "PYTHONUNBUFFERED": "1",
        **more,
    }


def run_pytest(file_name: str, server_url: str, folder: Path) -> None:
    arguments = (
        "-q",
        "-p",
        "no:cacheprovider",
        *PLUGINS,
        "--rootdir",
        str(folder),
        file_name,
    )
    env = environment(NATS_URL=server_url, PYTEST_DISABLE_PLUGIN_AUTOLOAD="1")
    run_python("-m", "pytest", *arguments, env=env, folder=folder)


def run_python(*arguments: str, env: dict[str, str], folder: Path, stdin: str = "") -> None:
    done = subprocess.run(
        [sys.executable, *arguments],
        input=stdin,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        cwd=folder,
        env=env,
        check=False,
    )
    if done.returncode:
        pytest.fail(f"exit code {done.returncode}\n{done.stdout}\n{done.stderr}", pytrace=False)
    # A task or handler that fails is logged, and so is a message that is lost. Some pages show a slow consumer.
    unexpected = [line for line in done.stderr.splitlines() if not line.startswith("slow consumer: ")]
    assert not unexpected, done.stderr


# --- terminals


class Command(NamedTuple):
    """A command line, what it prints, and after a ``^C`` what else."""

    line: str
    output: str
    after_interrupt: str | None


def commands_of(block: str) -> list[Command]:
    """The commands of a ```console block."""
    commands = []
    for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
        line, _, output = part.partition("\n")
        before, interrupted, after = output.partition("^C\n")
        commands.append(Command(line.partition("  #")[0].strip(), before, after if interrupted else None))
    return commands


class Terminals:
    """What runs the commands of a page."""

    def __init__(self, folder: Path, server_url: str) -> None:
        self._folder = folder
        self._env = environment(NATS_URL=server_url)
        self._running: list[tuple[Command, subprocess.Popen[str], str]] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        try:
            if kind is None:
                self.end_first()
        finally:
            for _command, process, _where in self._running:
                process.kill()
                process.communicate()

    def use(self, block: str, where: str, *, goes_on: bool) -> None:
        commands = commands_of(block)
        assert commands, f"{where}: no command"
        for command in commands:
            process = subprocess.Popen(
                ["/bin/sh", "-c", f"exec {command.line}"],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                bufsize=0,
                cwd=self._folder,
                env=self._env,
            )
            if goes_on:
                self._running.append((command, process, where))
                first = _first_line(command)
                _check(_read(process, len(first)), first, where, command)  # then it is up
                continue
            try:
                printed, _ = process.communicate(timeout=PATIENCE)
            finally:
                process.kill()
            _check(printed, command.output, where, command)
        if not goes_on:
            self.end_first()

    def end_first(self) -> None:
        """The next terminal was used: Control-C for those that wait for it, and all come to their end."""
        while self._running:
            command, process, where = self._running[0]
            first = _first_line(command)
            printed, expected = first + _read(process, len(command.output) - len(first)), command.output
            if command.after_interrupt is not None:
                process.send_signal(signal.SIGINT)
                printed += "^C\n"
                expected += f"^C\n{command.after_interrupt}"
            rest, _ = process.communicate(timeout=PATIENCE)
            _check(printed + rest, expected, where, command)
            del self._running[0]


def _first_line(command: Command) -> str:
    return command.output.partition("\n")[0] + "\n"


def _read(process: subprocess.Popen[str], count: int) -> str:
    """The next characters that it prints; fewer if it ends, or does not print them."""
    assert process.stdout is not None
    text = b""
    fd = process.stdout.fileno()
    end = time.monotonic() + PATIENCE
    with selectors.DefaultSelector() as selector:
        selector.register(fd, selectors.EVENT_READ)
        while len(text) < count and selector.select(end - time.monotonic()):
            chunk = os.read(fd, count - len(text))
            if not chunk:
                break
            text += chunk
    return text.decode()


def _check(printed: str, expected: str, where: str, command: Command) -> None:
    if printed != expected:
        pytest.fail(f"{where}: $ {command.line}\nprinted\n{printed}\nbut the page says\n{expected}", pytrace=False)
