"""The whole client in simulated time on a simulated network, under faults of all kinds in all states, at every byte."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterable
from itertools import product
from pathlib import Path

import pytest

from tests.client.catalogue import CATALOGUE
from tests.client.simulation import (
    CUTS,
    FAULTS,
    LIVING,
    SEEDS_FOR_CUTS,
    SEEDS_FOR_PAIRS,
    SEEDS_FOR_PLACES,
    STATES,
    Cut,
    Result,
    simulate,
)
from tests.client.simulation.frames import DOWN, UP, Scanner

pytestmark = pytest.mark.simulated

SEEDS = int(os.environ.get("NATS_ZIO_SEEDS", "15"))
MANY = 200  # seeds after which every text of the -ERR catalogue has come by too
COUNTED = {
    "lost": "messages lost",
    "given_up": "messages given up",
    "refused": "handshakes refused",
    "raised": "handlers that raised",
    "signals": "signals",
    "struck": "of these raised in the loop",
}

_results: dict[int, Result] = {}


@pytest.fixture(scope="session")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for what the processes of this run have done."""
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "simulated"
    folder.mkdir(exist_ok=True)
    return folder


@pytest.fixture
def result_of(shared: Path) -> Callable[[int], Result]:
    """The result of a simulated run, which takes place once, in whatever process."""

    def result_of(seed: int) -> Result:
        file = shared / str(seed)
        if seed not in _results and file.exists():
            _results[seed] = pickle.loads(file.read_bytes())
        if seed not in _results:
            _results[seed] = simulate(seed)
            unfinished = shared / f"{seed}-{os.getpid()}"
            unfinished.write_bytes(pickle.dumps(_results[seed]))
            unfinished.rename(file)
        return _results[seed]

    return result_of


@pytest.mark.parametrize("seed", range(SEEDS))
def test_whatever_happens(seed: int, result_of: Callable[[int], Result]) -> None:
    """Nothing lasts longer than its timeout, nothing comes twice or to the wrong place, all losses are reported."""
    result_of(seed)


@pytest.mark.timeout(600)
def test_every_state_has_met_every_fault_and_every_place_was_cut(
    result_of: Callable[[int], Result], tell: Callable[[str], None]
) -> None:
    met: Counter[tuple[str, str]] = Counter()
    cut: Counter[Cut] = Counter()
    errors: Counter[str] = Counter()
    more: Counter[str] = Counter()
    for seed in range(SEEDS):
        result = result_of(seed)
        met += result.met
        cut += result.cut
        errors += result.errors
        more += Counter({what: getattr(result, what) for what in COUNTED})
    told = [f"faults met in {SEEDS} simulated runs, by what the client was doing:"]
    told += table(FAULTS, STATES, lambda fault, state: met[state, fault])
    for direction, frames in (("up", UP), ("down", DOWN)):
        told.append(f"\nconnections cut within what the {'client' if direction == 'up' else 'server'} sends:")
        ways = sorted({one.way for one in CUTS if one.direction == direction})
        places = {f"{verb} {part}": (verb, part) for verb, parts in frames.items() for part in parts}
        told += table(places, ways, lambda place, way: cut[Cut(direction, *places[place], way)])  # noqa: B023
    told.append(
        f"\n-ERR: {sum(errors.values())} of {len(errors)} texts. Messages lost, all of them reported: {more['lost']}"
    )
    told.append(", ".join(f"{meaning}: {more[what]}" for what, meaning in COUNTED.items() if what != "lost"))
    tell("\n".join(told))
    planned = set(product(LIVING, FAULTS)) if SEEDS >= SEEDS_FOR_PAIRS else set()
    if len(FAULTS) <= SEEDS:
        planned |= set(product(STATES, FAULTS))
    if SEEDS >= SEEDS_FOR_PAIRS:
        assert all(more[what] for what in COUNTED), more
    assert planned <= set(met)
    if SEEDS >= SEEDS_FOR_PLACES:
        assert {one[:3] for one in CUTS} <= {one[:3] for one in cut}
    if SEEDS >= SEEDS_FOR_CUTS:
        assert set(CUTS) <= set(cut)
    if SEEDS >= MANY:
        assert {row.text for row in CATALOGUE} <= set(errors)


def table(rows: Iterable[str], columns: Iterable[str], number: object) -> list[str]:
    assert callable(number)
    rows, columns = list(rows), list(columns)
    width = max(map(len, rows))
    lines = [f"{'':{width}} {' '.join(columns)}"]
    lines += [f"{row:{width}} {' '.join(f'{number(row, column):{len(column)}}' for column in columns)}" for row in rows]
    return lines


@pytest.mark.parametrize("seed", [0, 1, 2, 3])
def test_a_seed_repeats_exactly(seed: int) -> None:
    """Also in another process, where objects lie elsewhere and texts have other hashes."""
    said = set()
    for hashes in ("1", "2"):
        process = subprocess.run(
            [sys.executable, "-m", "tests.client.simulation", str(seed)],
            cwd=Path(__file__).parents[2],
            env={**os.environ, "PYTHONHASHSEED": hashes},
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        )
        said.add(process.stdout)
    assert len(said) == 1
    assert f"seed {seed}: all was well; journal " in said.pop()


@pytest.mark.parametrize("pieces", [1, 2, 7, 1000])
def test_every_byte_of_a_stream_belongs_to_one_part_of_a_frame(pieces: int) -> None:
    """The tables of places are only as good as that."""
    stream = (
        b'CONNECT {"a":1}\r\nPING\r\nSUB a.b team 12\r\nSUB a 3\r\nUNSUB 12\r\nUNSUB 3 5\r\n'
        b"PUB a 0\r\n\r\nPUB a r 5\r\nhello\r\nHPUB a 12 14\r\nNATS/1.0\r\n\r\nhi\r\n"
        b"HPUB a r 12 12\r\nNATS/1.0\r\n\r\n\r\n"
        b"INFO {}\r\nMSG a 1 2\r\nab\r\nHMSG a 1 r 12 13\r\nNATS/1.0\r\n\r\nx\r\nPONG\r\n+OK\r\n-ERR 'x y'\r\n"
    )
    scanner = Scanner()
    found = [frame for at in range(0, len(stream), pieces) for frame in scanner.feed(stream[at : at + pieces])]
    text = {
        (frame.verb, part): stream[places.start : places.stop]
        for frame in found
        for part, places in frame.parts.items()
    }
    assert sorted(at for frame in found for places in frame.parts.values() for at in places) == list(range(len(stream)))
    assert text["CONNECT", "options"] == b' {"a":1}'
    assert text["SUB", "queue"] == b" team"
    assert text["UNSUB", "max"] == b" 5"
    assert text["PUB", "payload"] == b"hello"
    assert text["PUB", "end"] == b"\r\n"
    assert text["HPUB", "headers"] == b"NATS/1.0\r\n\r\n"
    assert text["HMSG", "reply"] == b" r"
    assert text["HMSG", "payload"] == b"x"
    assert text["-ERR", "text"] == b" 'x y'"
    assert {(frame.verb, part) for frame in found for part in frame.parts} <= {
        (verb, part) for frames in (UP, DOWN) for verb, parts in frames.items() for part in parts
    }
