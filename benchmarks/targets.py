"""What is aimed at, as ratios between peers of one run, and whether a run has them.

A ratio is taken round by round, and holds when it does in at least four of five rounds. "best py" is the best Python
peer of that run by its median, whichever it is: by rate, or by CPU time where the row is about cost.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil
from typing import Any

Results = dict[str, dict[str, dict[str, Any]]]  # workload, peer, measures

RATE = "msgs_per_s"
CPU = "cpu_us_per_msg"
KIB = "rss_kb_per"
NOTHING = "nothing"  # the figure itself counts
PURE_LOOP = "pyraw"
BEST = "best py"
SHARE = 0.8  # of the rounds


@dataclass(frozen=True)
class Target:
    """``workload`` of ``peer`` against ``against`` (a peer, BEST, or a workload of its own)."""

    suite: str
    workload: str
    peer: str
    measure: str
    ratio: float
    against: str

    @property
    def at_most(self) -> bool:
        return self.measure in (CPU, KIB)


@dataclass(frozen=True)
class Outcome:
    target: Target
    opponent: str
    ratios: list[float]

    @property
    def holds(self) -> bool:
        wanted = self.target.ratio
        good = [ratio <= wanted if self.target.at_most else ratio >= wanted for ratio in self.ratios]
        return bool(good) and sum(good) >= ceil(SHARE * len(good))

    def line(self) -> str:
        target = self.target
        bound = f"{'≤' if target.at_most else '≥'} {target.ratio:g}"
        if target.against != NOTHING:
            bound += f" x {target.against}"
        against = "" if self.opponent == target.against else f" ({self.opponent})"
        measure = {CPU: "CPU", KIB: "KiB each"}.get(target.measure, "rate")
        ratios = " ".join(f"{ratio:.2f}" for ratio in self.ratios) or "not measured"
        verdict = "holds" if self.holds else "FAILS"
        return f"| {target.workload} | {target.peer} | {measure} {bound}{against} | {ratios} | {verdict} |"


def _foundation() -> list[Target]:
    ours, threads = "nats_zio", "nats_zio/threads"
    rows: list[Target] = []

    def nats(workload: str, ratio: float, against: str, peer: str = ours, measure: str = RATE) -> None:
        rows.append(Target("nats", workload, peer, measure, ratio, against))

    for workload, pure, best in (
        ("pub-16", 0.70, 1.8),
        ("pub-128", 0.70, 1.8),
        ("pub-1024", None, 1.5),
        ("pub-8192", None, 1.2),
        ("sub-16", 0.70, 2.0),
        ("sub-128", 0.70, 2.0),
        ("sub-1024", 0.70, 2.0),
        ("sub-8192", 0.80, None),
    ):
        if pure is not None:
            nats(workload, pure, PURE_LOOP)
        if best is not None:
            nats(workload, best, BEST)
    nats("subiter-16", 0.9, "sub-16")
    nats("rr-1", 0.85, BEST, measure=CPU)
    for workload, best in (("rr-64", 1.5), ("rr-1000", 1.5), ("serve", 1.5), ("fanout-1000", 1.8)):
        nats(workload, best, BEST)
    for workload in ("pub-16", "sub-16", "subiter-16"):
        nats(workload, 1.0, BEST, threads)
    nats("pub-16", 5, "nats-py-sync", threads)
    nats("rr-1", 1.0, BEST, threads, CPU)
    rows.append(Target("runtime", "spawn-100k", "zio", RATE, 2.5, BEST))
    rows.append(Target("runtime", "echo-64", "zio", CPU, 0.9, "asyncio+uvloop"))
    rows.append(Target("runtime", "echo-64", "zio", RATE, 1.8, "gevent"))
    return rows


def _runtime() -> list[Target]:
    def row(workload: str, ratio: float, against: str, measure: str = RATE) -> Target:
        return Target("runtime", workload, "zio", measure, ratio, against)

    return [
        row("spawn-100k", 3, BEST),
        row("spawn-100k", 0.9, "go/1 core"),
        row("pingpong-chan", 3, BEST),
        row("pingpong-event", 3, BEST),
        row("chan-1M", 0.55, "gevent"),
        row("chan-1M", 1.3, "asyncio"),
        row("yield-1M", 1.2, BEST),
        row("sleep-100k", 0.8, BEST),
        row("sleep-100k", 7.5, NOTHING, KIB),
        *(row(echo, 0.85, "asyncio+uvloop", CPU) for echo in ("echo-64", "echo-16k")),
        *(row(echo, 2, "gevent") for echo in ("echo-64", "echo-16k")),
        row("echo-tls-64", 1.3, "asyncio+uvloop"),
        row("to-thread", 1, BEST),
    ]


TARGETS = {"foundation": _foundation(), "runtime": _runtime()}

# The peers that the targets name, and those that can be the best Python peer. What has never been near is left out.
PEERS = {
    "nats": [
        "pyraw",
        "nats_zio",
        "nats_zio/threads",
        "nats-py",
        "nats-py+uvloop",
        "natsio",
        "natsio+uvloop",
        "nats-core",
        "nats-core+uvloop",
        "nats-py-sync",
    ],
    "runtime": ["zio", "asyncio", "asyncio+uvloop", "trio", "gevent", "go/1 core"],
}


def _opponent(target: Target, results: Results, kinds: dict[str, str]) -> tuple[str, str]:
    """Workload and peer to compare with."""
    if target.against in results:
        return target.against, target.peer
    rows = results.get(target.workload, {})
    if target.against != BEST:
        return target.workload, target.against
    medians = {peer: row[target.measure]["median"] for peer, row in rows.items() if kinds[peer] == "python"}
    if not medians:
        return target.workload, "none measured"
    return target.workload, (min if target.at_most else max)(medians, key=lambda peer: medians[peer])


def judge(name: str, suites: dict[str, dict[str, Any]]) -> list[Outcome]:
    """Every target of a set, in a saved run."""
    outcomes = []
    for target in TARGETS[name]:
        suite = suites.get(target.suite, {"kinds": {}, "workloads": {}})
        results: Results = suite["workloads"]
        workload, opponent = _opponent(target, results, suite["kinds"])
        own = results.get(target.workload, {}).get(target.peer)
        other = results.get(workload, {}).get(opponent)
        ratios = []
        if own is not None and target.against == NOTHING:
            ratios = own[target.measure]["rounds"]
        elif own is not None and other is not None:
            pairs = zip(own[target.measure]["rounds"], other[target.measure]["rounds"], strict=False)
            ratios = [mine / theirs for mine, theirs in pairs]
        outcomes.append(Outcome(target, target.against if workload == target.against else opponent, ratios))
    return outcomes


def report(outcomes: list[Outcome]) -> str:
    held = sum(outcome.holds for outcome in outcomes)
    head = ["| workload | peer | at least, at most | round by round | |", "|---|---|---|---|---|"]
    return "\n".join([*head, *(outcome.line() for outcome in outcomes), f"\n{held} of {len(outcomes)} hold"])
