"""For packages built on the runtime: what its own primitives are made of.

See the module documentation of the park-and-wake protocol (``Waiter``) and of rule 0 (``Homed``) before use.
"""

from ._core import (
    ARMED,
    CANCELLED,
    FAILED,
    TIMED_OUT,
    WOKEN,
    Fiber,
    Homed,
    Job,
    Loop,
    Runtime,
    Waiter,
    WaitQueue,
    call_elsewhere,
    current_holder,
    current_owner,
    edit_elsewhere,
    here,
    refuse_to_block_here,
    runtime_here,
    thread_holder,
    wait_done,
    wait_in_thread,
)

__all__ = [
    "ARMED",
    "CANCELLED",
    "FAILED",
    "TIMED_OUT",
    "WOKEN",
    "Fiber",
    "Homed",
    "Job",
    "Loop",
    "Runtime",
    "WaitQueue",
    "Waiter",
    "call_elsewhere",
    "current_holder",
    "current_owner",
    "edit_elsewhere",
    "here",
    "refuse_to_block_here",
    "runtime_here",
    "thread_holder",
    "wait_done",
    "wait_in_thread",
]
