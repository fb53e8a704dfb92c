"""The rows of the table in docs/hazards.md, and which test is about which."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

Test = TypeVar("Test", bound=Callable[..., Any])

PAGE = Path(__file__).parents[2] / "docs" / "hazards.md"
SECTION = "What may be called from where"
tested: dict[str, str] = {}


def row(name: str) -> Callable[[Test], Test]:
    """Decorates the test of the row that begins with ``name``."""

    def note(test: Test) -> Test:
        assert name not in tested, f"two tests are of {name!r}"
        tested[name] = test.__name__
        return test

    return note


def rows_of_the_page() -> dict[str, list[str]]:
    """The other cells of each row."""
    text = PAGE.read_text(encoding="utf-8").partition(f"\n## {SECTION}\n")[2].partition("\n## ")[0]
    rows = [
        [cell.strip() for cell in line.strip().strip("|").split("|")] for line in text.splitlines() if line[:1] == "|"
    ]
    assert re.fullmatch("-+", rows[1][0]), "no table"
    return {first: rest for first, *rest in rows[2:]}
