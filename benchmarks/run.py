#!/usr/bin/env python3
"""Side-by-side benchmark of NATS clients and coroutine runtimes. Standard library only.

    benchmarks/run.py --suite nats                       # everything in peers.toml
    benchmarks/run.py -p natsio,nats_zio -w pub,sub-16   # some peers, workloads by prefix
    benchmarks/run.py --suite runtime
    benchmarks/run.py --check foundation                 # what is aimed at, row by row: holds or FAILS
    benchmarks/run.py -p nats_zio -n 100 -r 1            # does it run at all?

Each workload gets a fresh private nats-server; each run is a process of its own; peers are interleaved A B C A B C ...;
the number of operations is calibrated for each peer so that a run takes about --seconds. Prints markdown, writes JSON.
Exit status 1 if a peer fails (not: if it is missing, or has no such workload).
Environment: PEERS_HOME (where setup_peers.sh has put the peers; default .bench in the repository), NATS_SERVER (the
server binary), GO (a Go toolchain's binary), BENCH_BUILD (where C programs are built).
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import signal
import statistics
import sys
import tomllib
from pathlib import Path
from typing import Any

from machine import BENCH, Cores, Peer, SkipPeerError, build_tools
from report import matrix, summarise, table
from rounds import run_workload
from targets import PEERS, TARGETS, judge, report
from workloads import SUITES


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--suite", choices=[*SUITES, "all"], default="nats")
    add("-p", "--peers", help="comma list (default: all)")
    add("-w", "--workloads", help="comma list of prefixes (default: all)")
    add("-r", "--rounds", type=int, help="default: 3; for --check 5")
    add("-s", "--seconds", type=float, default=0.8, help="aim of one run")
    add("-n", "--operations", type=int, help="so many in each run, instead of what fills the seconds")
    add("-c", "--conf", action="append", default=[], help="further peers files")
    add("-o", "--out", help="write PREFIX.json and PREFIX.md")
    add("--pin", action="store_true", help="one core for the peer, the others for all else")
    add("--check", choices=list(TARGETS), help="run what these targets need; status 1 if one fails")
    add("--from", dest="saved", help="with --check: judge this saved run, run nothing")
    return parser.parse_args()


def peer_tables(files: list[str]) -> dict[str, dict[str, Any]]:
    tables: dict[str, dict[str, Any]] = {suite: {} for suite in SUITES}
    for file in [BENCH / "peers.toml", *map(Path, files)]:
        for suite, peers in tomllib.loads(file.read_text()).items():
            tables[suite].update(peers)
    return tables


class Run:
    """One call of this program."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.rounds = options.rounds or (5 if options.check else 3)
        self.machine = f"{platform.machine()} {os.cpu_count()} cores, {platform.release()}"
        self.saved: dict[str, Any] = {"machine": self.machine, "rounds": self.rounds, "suites": {}}
        self.text: list[str] = []

    def say(self, text: str) -> None:
        self.text.append(text)
        print(text, flush=True)
        if self.options.out:
            Path(self.options.out + ".json").write_text(json.dumps(self.saved, indent=1))
            Path(self.options.out + ".md").write_text("\n".join(self.text) + "\n")

    def wants(self, suite: str, workload: str) -> bool:
        prefixes = self.options.workloads
        if prefixes and not any(workload.startswith(prefix) for prefix in prefixes.split(",")):
            return False
        check = self.options.check
        return not check or any((row.suite, row.workload) == (suite, workload) for row in TARGETS[check])

    def peers(self, suite: str, tables: dict[str, Any]) -> list[Peer]:
        names = self.options.peers.split(",") if self.options.peers else None
        if self.options.check and names is None:
            names = PEERS[suite]
        peers = []
        for name, conf in tables.items():
            if names is None or name in names:
                try:
                    peers.append(Peer(name, conf))
                except SkipPeerError as error:
                    self.say(f"{name}: skipped, {error}")
        return peers

    def suite(self, suite: str, peers: list[Peer]) -> None:
        kinds = {peer.name: peer.kind for peer in peers}
        results: dict[str, Any] = {}
        notes: dict[str, Any] = {}
        self.saved["suites"][suite] = {"kinds": kinds, "workloads": results, "notes": notes}
        self.say(f"\n# {suite}: {self.machine}, {self.rounds} rounds, load {os.getloadavg()[0]:.2f}")
        for workload, spec in SUITES[suite].items():
            if not self.wants(suite, workload):
                continue
            if self.options.operations:
                parameters = spec[1] | {"n": self.options.operations}
                spec = (spec[0], parameters, spec[2])  # noqa: PLW2901
            runs, notes[workload] = run_workload(peers, spec, self.rounds, self.options.seconds, suite == "nats")
            results[workload] = {peer: summarise(of_peer) for peer, of_peer in runs.items() if of_peer}
            foreign = statistics.mean([run["foreign"] for of_peer in runs.values() for run in of_peer] or [0])
            title = f"{workload}  (foreign CPU {foreign:.1%}, load {os.getloadavg()[0]:.2f})"
            self.say(table(title, results[workload], kinds, notes[workload]))
        self.say(matrix(results, kinds))

    def notes(self) -> list[str]:
        suites = self.saved["suites"].values()
        return [note for suite in suites for notes in suite["notes"].values() for note in notes.values()]

    def run(self) -> int:
        options = self.options
        if options.saved:
            self.saved = json.loads(Path(options.saved).read_text())
        else:
            if options.pin:
                Cores.pin()
            build_tools()
            tables = peer_tables(options.conf)
            everything = options.suite == "all" or options.check
            for suite in SUITES if everything else [options.suite]:
                self.suite(suite, self.peers(suite, tables[suite]))
        if not options.check:
            return int(any(note.startswith("FAILED") for note in self.notes()))
        outcomes = judge(options.check, self.saved["suites"])
        self.say(f"\n## {options.check}\n\n{report(outcomes)}")
        return 0 if all(outcome.holds for outcome in outcomes) else 1


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    sys.exit(Run(parse_arguments()).run())
