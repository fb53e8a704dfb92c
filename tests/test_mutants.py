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
    copy = tmp_path / file.relative_to(ROOT)
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


def planted(tmp_path: Path, **files: str) -> str:
    """What becomes of ``a = (1 + 2)`` in these files of the client, one of which should have it."""
    (tmp_path / "nats_zio").mkdir()
    for name, text in files.items():
        (tmp_path / f"nats_zio/{name}.py").write_text(text)
    mutant = Mutant("the sum is wrong", "nats_zio/first.py", "a = (1 + 2)", "a = 4\nb = 5", "sums.py")
    return plant(mutant, tmp_path).read_text()


def test_line_ends_and_indentation_do_not_matter(tmp_path: Path) -> None:
    text = "if True:\n    a = (1\n        + 2)\n"
    assert planted(tmp_path, first=text, second="") == "if True:\n    a = 4\n    b = 5\n"


def test_code_that_has_moved_to_another_file_is_found_there(tmp_path: Path) -> None:
    assert planted(tmp_path, first="", second="a = (1 + 2)\n") == "a = 4\nb = 5\n"


@pytest.mark.parametrize("times", [0, 2])
def test_code_that_does_not_stand_in_one_place_is_an_error(tmp_path: Path, times: int) -> None:
    with pytest.raises(NotPlanted, match="the sum is wrong"):
        planted(tmp_path, first="a = (1 + 2)\n" * times)
