"""The whole client in simulated time on a simulated network, under faults of all kinds in all states."""

from __future__ import annotations

import os
from collections import Counter
from itertools import product

import pytest

from tests.client.simulation import FAULTS, STATES, Result, simulate

SEEDS = int(os.environ.get("NATS_ZIO_SEEDS", "50"))

_results: dict[int, Result] = {}


def result_of(seed: int) -> Result:
    if seed not in _results:
        result = simulate(seed)
        result.journal = ""  # 50 of them need not be kept
        _results[seed] = result
    return _results[seed]


@pytest.mark.parametrize("seed", range(SEEDS))
def test_whatever_happens(seed: int) -> None:
    """Nothing lasts longer than its timeout, nothing comes twice or to the wrong place, all losses are reported."""
    result_of(seed)


@pytest.mark.timeout(600)
def test_every_state_has_met_every_fault(capsys: pytest.CaptureFixture[str]) -> None:
    met: Counter[tuple[str, str]] = Counter()
    for seed in range(SEEDS):
        met += result_of(seed).met
    width = max(map(len, FAULTS))
    lines = [f"{'':{width}} {' '.join(STATES)}"]
    lines += [
        f"{fault:{width}} {' '.join(f'{met[state, fault]:{len(state)}}' for state in STATES)}" for fault in FAULTS
    ]
    with capsys.disabled():
        print(f"\nfaults met in {SEEDS} simulated runs:", *lines, sep="\n")
        print(f"messages lost, all of them reported: {sum(result.lost for result in _results.values())}")
    missing = [pair for pair in product(STATES, FAULTS) if not met[pair]]
    assert not missing


@pytest.mark.parametrize("seed", [0, 1, 2, 3])
def test_a_seed_repeats_exactly(seed: int) -> None:
    first, second = simulate(seed), simulate(seed)
    assert first.journal == second.journal
    assert first.log == second.log
