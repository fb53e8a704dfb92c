"""Each planted mistake can be planted, and the tests that are to find it exist. Whether they do: `make mutants`."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from tests.mutants import MUTANTS, ROOT, Mutant, NotPlanted, place, plant


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_it_can_be_planted_and_is_still_python(mutant: Mutant, tmp_path: Path) -> None:
    file, _ = place(mutant, ROOT)
    copy = tmp_path / mutant.file
    copy.parent.mkdir(parents=True)
    copy.write_text(file.read_text())
    assert plant(mutant, tmp_path) == copy
    assert copy.read_text() != file.read_text()
    ast.parse(copy.read_text())


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_the_tests_that_are_to_find_it_exist(mutant: Mutant) -> None:
    assert mutant.tests
    for test in mutant.tests:
        file, _, function = test.partition("::")
        assert re.search(rf"^def {function}\(" if function else "^def test_", (ROOT / file).read_text(), re.MULTILINE)


def test_names_are_told_apart() -> None:
    assert len({mutant.name for mutant in MUTANTS}) == len(MUTANTS)


def planted(tmp_path: Path, text: str) -> str:
    """What becomes of a file that should have ``a = (1 + 2)`` in it once."""
    (tmp_path / "sums.py").write_text(text)
    return plant(Mutant("the sum is wrong", "sums.py", "a = (1 + 2)", "a = 4\nb = 5", "urls.py"), tmp_path).read_text()


def test_line_ends_and_indentation_do_not_matter(tmp_path: Path) -> None:
    text = "if True:\n    a = (1\n        + 2)\n"
    assert planted(tmp_path, text) == "if True:\n    a = 4\n    b = 5\n"


@pytest.mark.parametrize("times", [0, 2])
def test_code_that_does_not_stand_in_one_place_is_an_error(tmp_path: Path, times: int) -> None:
    with pytest.raises(NotPlanted, match="the sum is wrong"):
        planted(tmp_path, "a = (1 + 2)\n" * times)
