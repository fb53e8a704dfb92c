"""What is measured: workloads by name, as (adapter workload, parameters, helper).

The helper is the other side: a part of the `raw` program (feed, respond, load), a JetStream stream made or filled
before (jsstream:STORE, jsfill:STORE), or the load generator of the echo server.
"""

from __future__ import annotations

from typing import Any

Spec = tuple[str, dict[str, Any], str | None]

MB = 1 << 20
FEED_WINDOW = 24 * MB  # per credit; two are out: 50,000 messages or 48 MiB, below every client's default limits
JS_FILL = 100_000


def _nats() -> dict[str, Spec]:
    table: dict[str, Spec] = {}
    for size in (16, 128, 1024, 8192):
        table[f"pub-{size}"] = ("pub", {"size": size, "subject": "bench.nobody"}, None)
    for size in (16, 128, 1024, 8192):
        table[f"sub-{size}"] = ("sub", {"size": size, "subject": "bench.s", "subs": 1}, "feed")
    for size in (16, 1024):
        table[f"subiter-{size}"] = ("subiter", {"size": size, "subject": "bench.s", "subs": 1}, "feed")
    for conc in (1, 64, 1000):
        table[f"rr-{conc}"] = ("rr", {"size": 16, "conc": conc, "subject": "bench.rr"}, "respond")
    table["serve"] = ("serve", {"size": 16, "subject": "bench.serve"}, "load")
    for store in ("memory", "file"):
        for window in (1, 256):
            parameters = {"size": 128, "conc": window, "subject": "js.x"}
            table[f"jspub-{store}-{window}"] = ("jspub", parameters, f"jsstream:{store}")
    table["jsfetch-500"] = ("jsfetch", {"batch": 500, "stream": "JS", "consumer": "c"}, "jsfill:memory")
    table["jsconsume"] = ("jsconsume", {"batch": 500, "stream": "JS", "consumer": "c"}, "jsfill:memory")
    table["fanout-1000"] = ("fanout", {"size": 16, "subject": "bench.f", "subs": 1000}, "feed")
    table["idlesubs-10k"] = ("idlesubs", {"n": 10_000}, None)
    table["conns-500"] = ("conns", {"n": 500}, None)
    return table


SUITES: dict[str, dict[str, Spec]] = {
    "nats": _nats(),
    "runtime": {
        "spawn-100k": ("spawn", {"n": 100_000}, None),  # spawn and join tasks that do nothing
        "pingpong-chan": ("pingpong_chan", {"n": 500_000}, None),  # two tasks over two channels of one place
        "pingpong-event": ("pingpong_event", {"n": 500_000}, None),  # two tasks over two semaphores
        "chan-1M": ("chan", {"n": 1_000_000, "cap": 1024}, None),  # one producer, one consumer, bounded
        "yield-1M": ("yield", {"n": 1_000_000}, None),  # two tasks that only yield
        "sleep-100k": ("sleep", {"n": 100_000}, None),  # tasks that all sleep
        "echo-64": ("echo", {"size": 64, "conns": 50}, "echo"),
        "echo-16k": ("echo", {"size": 16384, "conns": 50}, "echo"),
        "echo-tls-64": ("echo_tls", {"size": 64, "n": 20_000}, None),  # both sides in the peer, 20 connections
        "to-thread": ("to_thread", {"n": 20_000}, None),  # a function that does nothing, run by the pool, one by one
        "echoproto-64": ("echo_proto", {"size": 64, "conns": 50}, "echo"),  # asyncio's callback API
    },
}


def echo_requests(spec: Spec) -> int:
    """How many requests one run of an echo workload has."""
    return 120_000 if spec[1]["size"] < 1000 else 40_000
