"""The kernel: the only code that knows greenlet, epoll and the clock.

It imports nothing from the rest of ``zio``; the rest uses the names below.
"""

from .background_runtime import background
from .cancel import CancelScope, move_on_after, shield, timeout
from .clock import Clock, MonotonicClock, VirtualClock, monotonic
from .errors import (
    BlockingNotAllowed,
    BrokenLock,
    Busy,
    Cancelled,
    ChannelClosed,
    Closed,
    Deadlock,
    ForkedError,
    Lagged,
    RuntimeClosed,
    WouldBlock,
    WrongLoop,
)
from .exiting import stay_if_over
from .fiber import NO_LOOP, Fiber, current_fiber
from .foreign import (
    RuntimeThread,
    call_elsewhere,
    current_owner,
    edit_elsewhere,
    inner_packages,
    need_stack,
    refuse_to_block_here,
    wait_in_thread,
    waits_on,
)
from .functions import UNRUN, check_function, kind_of_unrun
from .handlers import arrived_in_child, install_handler, is_installed, put_back
from .homed import Homed
from .instruments import Instrument
from .log_lines import log_later, wait_logged
from .poller import READ, WRITE, Pollable
from .pool import Job, worker_loop
from .runtime import Runtime, run, runtime_here, wait_done
from .scheduler import Loop, here
from .seconds import check_seconds, seconds_after
from .statistics import Statistics
from .task import Task, inherited_context
from .this_process import notice_fork, renew_in_child
from .thread_holder import ThreadHolder, current_holder, thread_holder, threads_in_scopes
from .waiter import ARMED, CANCELLED, FAILED, NOT_NOW, TIMED_OUT, WOKEN, Sleeper, StubbornWaiter, Waiter, WaitQueue

__all__ = [
    "ARMED",
    "CANCELLED",
    "FAILED",
    "NOT_NOW",
    "NO_LOOP",
    "READ",
    "TIMED_OUT",
    "UNRUN",
    "WOKEN",
    "WRITE",
    "BlockingNotAllowed",
    "BrokenLock",
    "Busy",
    "CancelScope",
    "Cancelled",
    "ChannelClosed",
    "Clock",
    "Closed",
    "Deadlock",
    "Fiber",
    "ForkedError",
    "Homed",
    "Instrument",
    "Job",
    "Lagged",
    "Loop",
    "MonotonicClock",
    "Pollable",
    "Runtime",
    "RuntimeClosed",
    "RuntimeThread",
    "Sleeper",
    "Statistics",
    "StubbornWaiter",
    "Task",
    "ThreadHolder",
    "VirtualClock",
    "WaitQueue",
    "Waiter",
    "WouldBlock",
    "WrongLoop",
    "arrived_in_child",
    "background",
    "call_elsewhere",
    "check_function",
    "check_seconds",
    "current_fiber",
    "current_holder",
    "current_owner",
    "edit_elsewhere",
    "here",
    "inherited_context",
    "inner_packages",
    "log_later",
    "install_handler",
    "is_installed",
    "kind_of_unrun",
    "monotonic",
    "move_on_after",
    "put_back",
    "notice_fork",
    "need_stack",
    "refuse_to_block_here",
    "renew_in_child",
    "run",
    "runtime_here",
    "seconds_after",
    "shield",
    "stay_if_over",
    "timeout",
    "thread_holder",
    "threads_in_scopes",
    "wait_done",
    "wait_in_thread",
    "wait_logged",
    "waits_on",
    "worker_loop",
]
