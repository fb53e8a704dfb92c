"""What every Python adapter shares: arguments, the meter, the result line. Stdlib only."""

import json
import os
import resource
import sys
import time
from pathlib import Path

UNSUPPORTED = 3  # exit status of an adapter that has no such workload


class Args(dict):
    """`adapter.py WORKLOAD key=value ...` -> workload name and attributes (numbers become int)."""

    def __init__(self, argv=None):
        argv = sys.argv[1:] if argv is None else argv
        self.workload = argv[0]
        super().__init__((k, int(v) if v.lstrip("-").isdigit() else v) for k, v in (a.split("=", 1) for a in argv[1:]))

    __getattr__ = dict.__getitem__

    @property
    def url(self):
        return f"nats://127.0.0.1:{self.port}"


def rss_kb():
    return int(Path("/proc/self/statm").read_text().split()[1]) * (resource.getpagesize() // 1024)


def peak_rss_kb():  # not ru_maxrss: that one survives exec and shows the harness
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))


class Meter:
    """start() ... stop(n): wall and CPU of the process between the two, as the result dict."""

    def start(self):
        u = resource.getrusage(resource.RUSAGE_SELF)
        self.cpu0, self.rss0 = u.ru_utime + u.ru_stime, rss_kb()
        self.t0 = time.perf_counter()
        return self

    def stop(self, n, lat_ns=None, **extra):
        wall = time.perf_counter() - self.t0
        u = resource.getrusage(resource.RUSAGE_SELF)
        cpu = u.ru_utime + u.ru_stime - self.cpu0
        out = {"wall": wall, "msgs": n, "msgs_per_s": n / wall, "cpu": cpu, "cpu_us_per_msg": cpu / n * 1e6}
        if lat_ns:
            lat_ns = sorted(lat_ns)
            out["p50_us"] = lat_ns[len(lat_ns) // 2] / 1e3
            out["p99_us"] = lat_ns[int(len(lat_ns) * 0.99)] / 1e3
        out.update(extra)
        return out

    def rss_kb_per(self, n):
        return (rss_kb() - self.rss0) / n


def emit(result):
    result["max_rss_kb"] = peak_rss_kb()
    print(json.dumps(result), flush=True)
    os._exit(0)  # a result is a result: no teardown of loops and threads


def unsupported(name):
    print(f"unsupported: {name}", file=sys.stderr)
    os._exit(UNSUPPORTED)


def run_async(main):
    """Run a coroutine function on asyncio, or on uvloop when BENCH_LOOP=uvloop."""
    if os.environ.get("BENCH_LOOP") == "uvloop":
        import uvloop

        uvloop.run(main())
    else:
        import asyncio

        asyncio.run(main())
