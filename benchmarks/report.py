"""Tables of results, in markdown."""

from __future__ import annotations

import statistics
from typing import Any

Rows = dict[str, dict[str, Any]]

MEASURES = (
    "msgs_per_s",
    "cpu_us_per_msg",
    "p50_us",
    "p99_us",
    "rss_kb_per",
    "server_cpu_us_per_msg",
    "foreign",
    "max_rss_kb",
    "wall",
)


def si(number: float) -> str:
    for limit, suffix in ((1e6, "M"), (1e3, "k")):
        if number >= limit:
            return f"{number / limit:.3g}{suffix}"
    return f"{number:.3g}"


def summarise(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """Each measure of one peer in one workload: median, extremes, and the value of each round."""
    out: dict[str, Any] = {"n": runs[0]["msgs"], "runs": len(runs)}
    for measure in MEASURES:
        values = [run[measure] for run in runs if measure in run]
        if values:
            out[measure] = {
                "median": statistics.median(values),
                "min": min(values),
                "max": max(values),
                "rounds": values,
            }
    return out


def table(title: str, rows: Rows, kinds: dict[str, str], notes: dict[str, str]) -> str:
    """One workload."""
    medians = {peer: row["msgs_per_s"]["median"] for peer, row in rows.items()}
    best = max((rate for peer, rate in medians.items() if kinds[peer] == "python"), default=None)
    raw = next((rate for peer, rate in medians.items() if kinds[peer] == "raw"), None)
    lines = [
        f"\n### {title}\n",
        "| peer | per s (median) | min-max | CPU µs | ÷ best | ÷ raw | p50 µs | p99 µs | KiB each | server µs | MiB |",
        "|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for peer in sorted(medians, key=lambda name: -medians[name]):
        row, rate = rows[peer], rows[peer]["msgs_per_s"]

        def get(measure: str, form: str = "{:.3g}", row: dict[str, Any] = row) -> str:
            return form.format(row[measure]["median"]) if measure in row else ""

        cells = [
            peer,
            si(medians[peer]),
            f"{si(rate['min'])}-{si(rate['max'])}",
            get("cpu_us_per_msg"),
            f"{medians[peer] / best:.2f}" if best else "",
            f"{medians[peer] / raw:.3f}" if raw else "",
            get("p50_us", "{:.0f}"),
            get("p99_us", "{:.0f}"),
            get("rss_kb_per"),
            get("server_cpu_us_per_msg"),
            f"{row['max_rss_kb']['median'] / 1024:.0f}",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    lines += [f"\n{peer}: {note}" for peer, note in notes.items() if note != "unsupported"]
    unsupported = [peer for peer, note in notes.items() if note == "unsupported"]
    if unsupported:
        lines.append(f"\nnot supported: {', '.join(unsupported)}")
    return "\n".join(lines)


def matrix(results: dict[str, Rows], kinds: dict[str, str]) -> str:
    """All workloads, medians only."""
    names = [peer for peer in kinds if any(peer in rows for rows in results.values())]
    head = ["| workload | " + " | ".join(names) + " |", "|---|" + "--:|" * len(names)]
    out: list[str] = []
    for title, measure, form in (
        ("operations per second", "msgs_per_s", si),
        ("client CPU µs per operation", "cpu_us_per_msg", "{:.3g}".format),
    ):
        out += [f"\n## Medians, {title}\n", *head]
        for workload, rows in results.items():
            cells = [form(rows[peer][measure]["median"]) if peer in rows else "-" for peer in names]
            out.append(f"| {workload} | {' | '.join(cells)} |")
    return "\n".join(out)
