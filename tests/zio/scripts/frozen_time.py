"""The clocks stand still, as a test library makes them do, before or after zio is imported; do waits time out?"""

from __future__ import annotations

import sys
import time
from typing import Any

CLOCKS = ("time", "time_ns", "monotonic", "monotonic_ns", "perf_counter", "perf_counter_ns")


def freeze() -> None:
    """Whatever module has one of the functions by whatever name gets one that stands still."""
    frozen: dict[Any, Any] = {getattr(time, name): (lambda: 1_000_000) for name in CLOCKS}
    for module in [module for name, module in sys.modules.items() if name.split(".")[0] in ("time", "zio", "nats_zio")]:
        for name, value in list(vars(module).items()):
            if callable(value) and value in CLOCK_FUNCTIONS:
                setattr(module, name, frozen[value])


CLOCK_FUNCTIONS = [getattr(time, name) for name in CLOCKS]
if sys.argv[1] == "before":
    freeze()
import zio  # noqa: E402
import zio.net  # noqa: E402

if sys.argv[1] == "after":
    freeze()
assert time.monotonic() == time.perf_counter() == 1_000_000


def main() -> None:
    zio.sleep(0.001)
    with zio.move_on_after(0.001):
        zio.Event().wait()


zio.run(main)
zio.sleep(0.001)
assert not zio.Event().wait(timeout=0.001)
if len(sys.argv) > 2:
    import nats_zio

    with nats_zio.connect(sys.argv[2]) as nc, nc.subscribe("quiet") as sub:
        for call in (lambda: nc.request("quiet.too", timeout=0.01), lambda: sub.next(timeout=0.01)):
            try:
                call()
            except (TimeoutError, nats_zio.NoRespondersError):
                continue
print("all timed out")
