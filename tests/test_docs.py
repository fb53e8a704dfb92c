"""The code in README.md and docs/*.md runs, so that it cannot rot.

Every ```python block of a page is executed, in order and in one namespace, in a process of its own, with a server in
the place of ``nats://127.0.0.1:4222``. What stands around a block decides the rest:

* a ```text block right behind it is what it prints, to the letter;
* ``<!-- pytest -->`` before it: the block is a test file, and pytest must pass on it;
* ``<!-- not run: reason -->`` before it: it is only compiled.
"""

from __future__ import annotations

import inspect
import os
import re
import subprocess
import sys
from dataclasses import fields
from pathlib import Path
from typing import NamedTuple

import pytest

import nats_zio
import zio
from nats_zio.testing import NatsServer

ROOT = Path(__file__).resolve().parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
URL = "nats://127.0.0.1:4222"
PLUGIN = "nats_zio.testing.plugin"  # by name, so that the tests need no installed nats-zio
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
    # A task or handler that fails is logged, and so is a message that is lost. One page shows a slow consumer.
    unexpected = [line for line in done.stderr.splitlines() if not line.startswith("slow consumer: ")]
    assert not unexpected, done.stderr


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
                arguments = ("-q", "-p", "no:cacheprovider", "-p", PLUGIN, "--rootdir", str(tmp_path), str(file))
                env = {"NATS_URL": server.url, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
                run("", "", "-m", "pytest", *arguments, env=env, cwd=tmp_path)
            else:
                assert not block.mark, f"{name}:{block.line}: what does {block.mark} mean?"
                executed.append((block.line, code, block.output))
        if executed:
            run(RUNNER, repr((name, executed)), cwd=tmp_path)


def test_blocks_are_found_with_their_marks_and_output() -> None:
    text = (
        "\n\n```python\na = 1\n```\n\n```text\n1\n```\n<!-- not run: why -->\n\n```python\n\nb\n```\n```sh\nls\n```\n"
    )
    assert blocks_of(text) == [Block(4, "a = 1\n", "", "1\n"), Block(13, "\nb\n", "<!-- not run: why -->", None)]


def test_every_page_is_in_the_navigation() -> None:
    config = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    missing = [page.name for page in PAGES[1:] if page.name not in config]
    assert not missing


def tables_of(section: str) -> dict[str, list[str]]:
    """The rows of the tables under a heading of the reference, by name: default, unit and meaning."""
    reference = (ROOT / "docs" / "options.md").read_text(encoding="utf-8")
    text = reference.partition(f"\n## {section}\n")[2].partition("\n## ")[0]
    rows = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in text.splitlines() if line[:3] == "| `"]
    assert len({row[0] for row in rows}) == len(rows), "a name stands there twice"
    return {row[0].strip("`"): row[1:] for row in rows}


def test_the_reference_has_exactly_the_options_of_connect_with_their_defaults() -> None:
    rows = tables_of("connect")
    defaults = {field.name: field.default for field in fields(nats_zio.Options)}
    shown = {name: eval(row[0].strip("`"), {"MiB": 1 << 20}) for name, row in rows.items()}
    assert shown == defaults


def test_the_reference_has_exactly_the_options_of_subscribe_with_their_defaults() -> None:
    keywords = {
        name: parameter.default
        for name, parameter in inspect.signature(nats_zio.Client.subscribe).parameters.items()
        if parameter.kind is parameter.KEYWORD_ONLY
    }
    rows = tables_of("subscribe")
    assert list(rows) == list(keywords)
    of_connect = {field.name for field in fields(nats_zio.Options)}
    for name, row in rows.items():
        if name in of_connect:
            assert row[0] == "that of `connect`"
        else:
            assert eval(row[0].strip("`")) == keywords[name]


def test_every_option_of_the_reference_has_a_unit() -> None:
    rows = tables_of("connect") | tables_of("subscribe")
    assert [name for name, row in rows.items() if len(row) != 3 or not row[1]] == []


def test_every_error_is_in_the_reference() -> None:
    reference = (ROOT / "docs" / "options.md").read_text(encoding="utf-8")
    names = [name for name in nats_zio.__all__ if name.endswith("Error")]
    names += [name for name, value in vars(zio).items() if isinstance(value, type) and issubclass(value, BaseException)]
    missing = [name for name in names if f"| `{name}` |" not in reference]
    assert not missing
