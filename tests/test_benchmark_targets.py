"""The judging of benchmark runs: ratios round by round, and four of five."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))
import targets  # type: ignore[import-not-found]
from report import summarise  # type: ignore[import-not-found]


def suites(**rates: list[float]) -> dict[str, Any]:
    """A saved run of pub-16: the rate of each peer, round by round."""
    rows = {
        peer.replace("_", "-"): summarise([{"msgs": 1, "msgs_per_s": rate, "cpu_us_per_msg": rate} for rate in rounds])
        for peer, rounds in rates.items()
    }
    rows["nats_zio"] = rows.pop("ours")
    kinds = {peer: "floor" if peer == "pyraw" else "python" for peer in rows} | {"nats_zio": "other"}
    return {"nats": {"kinds": kinds, "workloads": {"pub-16": rows}}}


def outcome(saved: dict[str, Any], measure: str, ratio: float, against: str, monkeypatch: pytest.MonkeyPatch) -> Any:
    target = targets.Target("nats", "pub-16", "nats_zio", measure, ratio, against)
    monkeypatch.setitem(targets.TARGETS, "test", [target])
    (result,) = targets.judge("test", saved)
    return result


@pytest.mark.parametrize(
    ("ours", "holds"), [([20, 20, 20, 20, 20], True), ([19, 20, 20, 20, 20], True), ([19, 19, 20, 20, 20], False)]
)
def test_a_rate_holds_in_four_of_five_rounds(ours: list[float], holds: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    saved = suites(ours=ours, natsio=[10.0] * 5)
    assert outcome(saved, targets.RATE, 2.0, targets.BEST, monkeypatch).holds is holds


@pytest.mark.parametrize(("ours", "holds"), [([8, 8, 8, 8, 9], True), ([8, 8, 8, 9, 9], False)])
def test_a_cost_is_to_be_low(ours: list[float], holds: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    saved = suites(ours=ours, natsio=[10.0] * 5, nats_py=[20.0] * 5)
    result = outcome(saved, targets.CPU, 0.8, targets.BEST, monkeypatch)
    assert result.opponent == "natsio"
    assert result.holds is holds


def test_the_best_is_the_best_by_its_median_and_no_floor(monkeypatch: pytest.MonkeyPatch) -> None:
    saved = suites(ours=[10.0] * 3, natsio=[5.0, 5.0, 90.0], nats_py=[8.0] * 3, pyraw=[99.0] * 3)
    result = outcome(saved, targets.RATE, 1.2, targets.BEST, monkeypatch)
    assert result.opponent == "nats-py"
    assert result.ratios == [1.25] * 3


def test_what_was_not_measured_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    saved = suites(ours=[10.0] * 3)
    result = outcome(saved, targets.RATE, 0.5, targets.PURE_LOOP, monkeypatch)
    assert result.ratios == []
    assert not result.holds
    assert "FAILS" in targets.report([result])


def test_every_target_names_a_workload_and_peers_that_there_are() -> None:
    import tomllib

    from machine import BENCH  # type: ignore[import-not-found]
    from workloads import SUITES  # type: ignore[import-not-found]

    peers = tomllib.loads((BENCH / "peers.toml").read_text())
    for target in targets.TARGETS["foundation"]:
        assert target.workload in SUITES[target.suite]
        known = {*peers[target.suite], *SUITES[target.suite], targets.BEST}
        assert {target.peer, target.against} <= known
        assert target.peer in targets.PEERS[target.suite]
