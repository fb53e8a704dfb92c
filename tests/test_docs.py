"""The code in README.md and docs/*.md runs (`tests/pages.py` says how), and the reference is complete."""

from __future__ import annotations

import inspect
from dataclasses import fields
from pathlib import Path

import pytest

import nats_zio
import zio
from nats_zio import events
from nats_zio.options import OVERFLOWS
from nats_zio.testing import NatsServer

from .pages import ROOT, Block, Command, blocks_of, commands_of, run_page

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_the_code_of_the_page_runs(page: Path, tmp_path: Path) -> None:
    with NatsServer() as server:
        run_page(page.read_text(encoding="utf-8"), str(page.relative_to(ROOT)), server.url, tmp_path)


def test_blocks_are_found_with_their_marks_and_output() -> None:
    text = (
        "\n\n```python\na = 1\n```\n\n```text\n1\n```\n<!-- not run: why -->\n\n```python\n\nb\n```\n```sh\nls\n```\n"
        "```console\n$ not looked at\n```\n\n<!-- terminal -->\n\n```console\n$ ls\n```\n"
    )
    assert blocks_of(text) == [
        Block(4, "python", "a = 1\n", "", "1\n"),
        Block(13, "python", "\nb\n", "<!-- not run: why -->", None),
        Block(26, "console", "$ ls\n", "<!-- terminal -->", None),
    ]


def test_commands_are_found_with_what_they_print() -> None:
    assert commands_of("$ a b    # why\n$ c\nprinted\n\nmore\n$ d\nup\n^C\ndown\n") == [
        Command("a b", "", None),
        Command("c", "printed\n\nmore\n", None),
        Command("d", "up\n", "down\n"),
    ]


INTERRUPTED = """<!-- file: f.py -->
```python
import time
try:
    print("up")
    print("more")
    time.sleep(60)
except KeyboardInterrupt:
    print("down")
```

<!-- first terminal -->
```console
$ python f.py
up
more
^C
d
```
"""


@pytest.mark.parametrize(
    ("page", "problem"),
    [
        ("```python\nprint(1)\n```\n\n```text\n2\n```\n", "printed\n1\nbut the page says\n2\n"),
        ("```python\n1 / 0\n```\n", "ZeroDivisionError"),
        ("<!-- pytest -->\n```python\ndef test_it():\n    assert 1 == 2\n```\n", "assert 1 == 2"),
        ("<!-- terminal -->\n```console\n$ echo one\ntwo\n```\n", "printed\none\n\nbut the page says\ntwo\n"),
        ("<!-- first terminal -->\n```console\n$ true\nup\n^C\n```\n", "but the page says\nup\n"),
        (INTERRUPTED, "printed\nup\nmore\n^C\ndown\n\nbut the page says\nup\nmore\n^C\nd\n"),
        ("<!-- first terminal -->\n```console\n$ echo up\nup\ndown\n```\n", "but the page says\nup\ndown\n"),
    ],
)
def test_a_page_that_is_wrong_fails(page: str, problem: str, tmp_path: Path) -> None:
    with pytest.raises(pytest.fail.Exception) as failure:
        run_page(page, "page.md", "nats://127.0.0.1:1", tmp_path)
    assert problem in str(failure.value)


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


def test_every_event_is_in_the_guide_with_its_fields() -> None:
    guide = (ROOT / "docs" / "messaging.md").read_text(encoding="utf-8")
    kinds = [value for value in vars(events).values() if isinstance(value, type) and issubclass(value, events.Event)]
    assert len(kinds) > 5
    for kind in kinds:
        if kind is not events.Event:
            names = ", ".join(inspect.signature(kind).parameters)
            assert f"| `{kind.__name__}({names})` |" in guide


@pytest.mark.parametrize("page", ["options.md", "messaging.md", "promises.md"])
def test_every_way_to_treat_overflow_is_on_the_page(page: str) -> None:
    text = (ROOT / "docs" / page).read_text(encoding="utf-8")
    assert [policy for policy in OVERFLOWS if f'`"{policy}"`' not in text] == []
