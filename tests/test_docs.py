"""The code in README.md and docs/*.md runs, so that it cannot rot.

Every ```python block of a page is executed, in order and in one namespace, in a process of its own, with a server in
the place of ``nats://127.0.0.1:4222``. What stands around a block decides the rest:

* a ```text block right behind it is what it prints, to the letter;
* ``<!-- pytest -->`` before it: the block is a test file, and pytest must pass on it;
* ``<!-- not run: reason -->`` before it: it is only compiled.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

from nats_zio.testing import NatsServer

ROOT = Path(__file__).resolve().parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
URL = "nats://127.0.0.1:4222"
NOT_RUN = re.compile(r"<!-- not run: (.+) -->")

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
    line: int  # of the first line of code
    code: str
    mark: str  # the comment before it
    output: str | None


def blocks_of(text: str) -> list[Block]:
    """The ```python blocks of a page."""
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
            if kind == "python":
                blocks.append(Block(begin + 1, content, above if above.startswith("<!--") else "", None))
            elif kind == "text" and above == "```python":
                blocks[-1] = blocks[-1]._replace(output=content)
            above = "```" + kind
        elif line.strip():
            assert "```" not in line, f"line {at}: code blocks start at the beginning of a line"
            above = line.strip()
    return blocks


def run(code: str, stdin: str = "", *args: str, env: dict[str, str] | None = None, cwd: Path) -> None:
    path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
    done = subprocess.run(
        [sys.executable, "-W", "error", *(("-c", code) if code else ()), *args],
        input=stdin,
        capture_output=True,
        text=True,
        timeout=50,
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": path, **(env or {})},
        check=False,
    )
    if done.returncode:
        pytest.fail(f"exit code {done.returncode}\n{done.stdout}\n{done.stderr}", pytrace=False)
    # A task or handler that fails is logged, and so is a message that was lost.
    assert not done.stderr, done.stderr


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_the_code_of_the_page_runs(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NATS_URL", raising=False)
    name = str(page.relative_to(ROOT))
    executed: list[tuple[int, str, str | None]] = []
    with NatsServer() as server:
        for block in blocks_of(page.read_text(encoding="utf-8")):
            code = block.code.replace(URL, server.url)
            compile(code, f"{name}:{block.line}", "exec")
            if reason := NOT_RUN.fullmatch(block.mark):
                print(f"{name}:{block.line} is not run: {reason[1]}")
            elif block.mark == "<!-- pytest -->":
                file = tmp_path / f"test_line_{block.line}.py"
                file.write_text(code)
                arguments = ("-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir", str(tmp_path), str(file))
                run("", "", *arguments, env={"NATS_URL": server.url}, cwd=tmp_path)
            else:
                assert not block.mark, f"{name}:{block.line}: what does {block.mark} mean?"
                executed.append((block.line, code, block.output))
        if executed:
            run(RUNNER, repr((name, executed)), cwd=tmp_path)


def test_blocks_are_found_with_their_marks_and_output() -> None:
    text = "# T\n\n```python\na = 1\n```\n\n```text\n1\n```\n<!-- not run: later -->\n\n```python\n\nb\n```\n```sh\nls\n```\n"
    assert blocks_of(text) == [Block(4, "a = 1\n", "", "1\n"), Block(13, "\nb\n", "<!-- not run: later -->", None)]


def test_every_page_is_in_the_navigation() -> None:
    config = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    missing = [page.name for page in PAGES[1:] if page.name not in config]
    assert not missing
