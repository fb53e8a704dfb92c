"""Shared by the runtime adapters: the meter and arguments of the NATS adapters."""

import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "adapters"))
import common
from common import Args, emit, run_async, unsupported

SLEEP = float(os.environ.get("BENCH_SLEEP", "3"))  # seconds each sleeping task sleeps; taken off the wall time


class Meter(common.Meter):
    def stop(self, n, minus=0, **extra):
        r = super().stop(n, **extra)
        if minus:
            r["wall"] = max(r["wall"] - minus, 1e-6)
            r["msgs_per_s"] = n / r["wall"]
        return r


def pick(names):
    a = Args()
    return a, names.get(a.workload) or names.get(a.workload + "_") or unsupported(a.workload)


def main_async(names):
    a, f = pick(names)

    async def run():
        emit(await f(a))

    run_async(run)


def main(names):
    a, f = pick(names)
    emit(f(a))
