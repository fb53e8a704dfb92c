"""Repeat one run: `python -m tests.client.simulation SEED`; with `--journal` see all that happened on the network."""

from __future__ import annotations

import argparse
import hashlib

from tests.client.simulation import simulate

parser = argparse.ArgumentParser(prog="python -m tests.client.simulation", description="Repeat one simulated run.")
parser.add_argument("seed", type=int)
parser.add_argument("--journal", action="store_true", help="print all that happened on the network")
args = parser.parse_args()
result = simulate(args.seed, journal=True)
print(*result.log, sep="\n")
if args.journal:
    print(result.journal)
print(f"seed {args.seed}: all was well; journal {hashlib.sha256(result.journal.encode()).hexdigest()[:16]}")
