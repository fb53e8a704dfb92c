"""Looking into a running program."""

from __future__ import annotations

from ._core import background, runtime_here
from ._core.dump import dump_loop

__all__ = ["dump"]


def dump() -> str:
    """Every task of the current runtime, what each waits on, and where; in plain threads the background's."""
    runtime = runtime_here()
    if runtime is not None:
        return dump_loop(runtime.loop)
    runtime = background()
    return runtime.call(dump_loop, runtime.loop)
