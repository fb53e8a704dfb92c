"""Every blocking public call, cancelled before it waits and while it waits (T13, T14).

One row of the table below says how to make a call wait, and what makes it complete. For each row: the call raises
Cancelled, leaves the object as it was, and completes afterwards as if the cancelled one had never been. Calls on
objects that any thread may use are cancelled in a plain thread and in a task of another loop as well.

The last test knows every public call of the package. A new one must be added to the table, or to ``NOT_BLOCKING``.
"""

from __future__ import annotations

import contextlib
import importlib
import inspect
import io
import os
import pkgutil
import signal
import socket
import tempfile
import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

import zio
from tests.zio.helpers_pool import FullPool, pool_taken
from tests.zio.helpers_tls import CLIENT, NAME, SERVER, both
from zio._core import ThreadHolder
from zio._core.dump import tasks_below
from zio.fs import files, paths
from zio.lowlevel import WaitQueue, current_holder, here
from zio.net.tls import TLSStream
from zio.process import DEVNULL, PIPE, Popen, run
from zio.testing import (
    MemoryNetwork,
    Sequencer,
    SimDatagramSocket,
    SimNetwork,
    check_stream,
    memory_stream_pair,
    wait_all_parked,
)

LONG = 3600.0  # a timeout that never passes


@dataclass
class Case:
    """A call that waits. ``complete()`` lets it end, with ``result``; ``state()`` is what a cancel must not change."""

    call: Callable[[], object]
    state: Callable[[], object]
    complete: Callable[[], object] | None = None
    result: object = None
    around: Callable[[], AbstractContextManager[Any]] = nullcontext  # entered by the caller outside the cancelled scope
    parked: Callable[[], object] = wait_all_parked
    again: Callable[[Callable[[], object]], object] = lambda call: call()  # how the main task makes the call


@dataclass
class Row:
    """``build(stack, timeout)`` runs in the main task."""

    calls: tuple[str, ...]
    build: Callable[[ExitStack, float | None], Case]
    timed: bool  # takes a timeout of its own
    callers: tuple[str, ...]
    hops: bool  # and is posted to the home loop then
    can_be_ready: bool  # complete() may come before the call
    waits: bool  # False: it can be cancelled before only
    id: str = field(default="")


ROWS: list[Row] = []


def row(
    *calls: str,
    timed: bool = False,
    anywhere: bool = False,  # may be called from plain threads and other loops
    callers: tuple[str, ...] = ("task",),
    hops: bool = True,
    can_be_ready: bool = True,
    waits: bool = True,
) -> Callable[[Callable[..., Case]], Callable[..., Case]]:
    def add(build: Callable[..., Case]) -> Callable[..., Case]:
        who = ("task", "thread", "other loop") if anywhere else callers
        ROWS.append(Row(calls, build, timed, who, hops, can_be_ready, waits, build.__name__))
        return build

    return add


def plain(value: Any) -> Any:
    if isinstance(value, WaitQueue):
        return len(value)
    return list(value) if isinstance(value, (deque, dict, list)) else value


def state_of(*objects: Any) -> Callable[[], object]:
    """All attributes of the objects; of a queue of waiters the number of those who wait still."""

    def look(thing: Any) -> dict[str, object]:
        names = {name for cls in type(thing).__mro__ for name in getattr(cls, "__slots__", ())}
        names |= set(getattr(thing, "__dict__", ()))
        # The home may become known by the call, and a lock may watch its owner; neither is visible from outside.
        names -= {"__weakref__", "__dict__", "_loop", "_watch"}
        return {name: plain(getattr(thing, name, None)) for name in sorted(names)}

    return lambda: [look(thing) for thing in objects]


# Tasks and time.


@row("Task.join", timed=True, anywhere=True)
def task_join(stack: ExitStack, timeout: float | None) -> Case:
    gate = zio.Event()
    task = zio.spawn(lambda: gate.wait() and "done")
    return Case(lambda: task.join(timeout), lambda: (task.done, task.cancelled, task._waiters or []), gate.set, "done")


@row("sleep", anywhere=True, hops=False)
def sleep(stack: ExitStack, timeout: float | None) -> Case:
    seconds = [LONG]
    return Case(lambda: zio.sleep(seconds[0]), lambda: None, lambda: seconds.insert(0, 0.0))


def until_started() -> None:
    """For calls that leave the task ready, so that it is never quiet."""
    while not _started:
        zio.pause()


_started: list[bool] = []


@row("pause")
def pause(stack: ExitStack, timeout: float | None) -> Case:
    enough: list[bool] = []

    def call() -> None:
        zio.pause()
        while not enough:
            zio.pause()

    return Case(call, lambda: None, lambda: enough.append(True), parked=until_started)


@row("maybe_pause")
def maybe_pause(stack: ExitStack, timeout: float | None) -> Case:
    enough: list[bool] = []

    def call() -> None:
        zio.maybe_pause()
        while not enough:
            zio.maybe_pause()

    return Case(call, lambda: None, lambda: enough.append(True), parked=until_started)


@row("testing.virtual.wait_all_parked")
def all_parked(stack: ExitStack, timeout: float | None) -> Case:
    idle = here().loop.idle_waiters
    return Case(wait_all_parked, lambda: len(idle), lambda: None, parked=until_started)


@row("testing.sequencer.Turn.__enter__", anywhere=True)
def sequencer_turn(stack: ExitStack, timeout: float | None) -> Case:
    seq = Sequencer()
    seq(1)
    before = seq._may_begin(1)

    def call() -> str:
        with seq(1):
            return "in turn"

    def complete() -> None:
        with seq(0):
            pass

    return Case(call, lambda: (1 in seq._taken, len(before._waiters)), complete, "in turn")


@row("testing.conformance.check_stream", can_be_ready=False)
def checking_a_stream(stack: ExitStack, timeout: float | None) -> Case:
    gate = zio.Event()

    def make_pair() -> tuple[Any, Any]:
        gate.wait()
        return memory_stream_pair()

    return Case(lambda: check_stream(make_pair), state_of(gate), gate.set)


@row("TaskGroup.__exit__")
def group_exit(stack: ExitStack, timeout: float | None) -> Case:
    gate = zio.Event()

    def call() -> None:
        with zio.TaskGroup() as group:
            group.spawn(gate.wait)

    return Case(call, state_of(gate), gate.set)


@row("TaskGroup.wait", timed=True, anywhere=True)
def group_wait(stack: ExitStack, timeout: float | None) -> Case:
    gate = zio.Event()
    group = stack.enter_context(zio.TaskGroup())
    group.spawn(gate.wait)
    return Case(lambda: group.wait(timeout), lambda: len(group._idlers or ()), gate.set, True)


@row("TaskGroup.spawn")
def group_spawn(stack: ExitStack, timeout: float | None) -> Case:
    gate, ran = zio.Event(), list[str]()
    group = stack.enter_context(zio.TaskGroup(limit=1))
    group.spawn(gate.wait)
    places: Any = group._places

    def call() -> bool:
        return group.spawn(ran.append, "ran").join() is None

    return Case(call, lambda: (list(ran), group._entering, len(places._waiters)), gate.set, True)


@row("TaskGroup.start", can_be_ready=False)
def group_start(stack: ExitStack, timeout: float | None) -> Case:
    gate = zio.Event()
    group = stack.enter_context(zio.TaskGroup())

    def serve(started: Callable[[str], None]) -> None:
        gate.wait()
        started("up")

    return Case(lambda: group.start(serve), lambda: len(group._scope.kids or ()), gate.set, "up")


@row("map")
def mapping(stack: ExitStack, timeout: float | None) -> Case:
    gate = zio.Event()
    return Case(lambda: zio.map(lambda item: gate.wait() and item, [1, 2]), state_of(gate), gate.set, [1, 2])


@row("completing.Completions.__next__", anywhere=True)
def completions_next(stack: ExitStack, timeout: float | None) -> Case:
    gate = zio.Event()
    task = zio.spawn(gate.wait)
    ended = zio.as_completed([task])
    return Case(lambda: next(ended) is task, state_of(ended), gate.set, True)


# Channels.


@row("Channel.recv", timed=True, anywhere=True)
def channel_recv(stack: ExitStack, timeout: float | None) -> Case:
    channel = zio.Channel[str](1)
    return Case(lambda: channel.recv(timeout), state_of(channel), lambda: channel.send("item"), "item")


@row("Channel.__next__", anywhere=True)
def channel_next(stack: ExitStack, timeout: float | None) -> Case:
    channel = zio.Channel[str](1)
    return Case(lambda: next(channel), state_of(channel), lambda: channel.send("item"), "item")


@row("Channel.send", timed=True, anywhere=True, can_be_ready=False)
def channel_send_direct(stack: ExitStack, timeout: float | None) -> Case:
    channel = zio.Channel[str]()
    return Case(
        lambda: channel.send("item", timeout),
        state_of(channel),
        lambda: zio.spawn(lambda: check(channel.recv() == "item")),
    )


@row("Channel.send", timed=True, anywhere=True)
def channel_send_full(stack: ExitStack, timeout: float | None) -> Case:
    channel = zio.Channel[str](1)
    channel.send("first")
    return Case(lambda: channel.send("second", timeout), state_of(channel), lambda: check(channel.recv() == "first"))


def check(condition: bool) -> None:
    assert condition


# Broadcasts.


@row("broadcast.BroadcastReceiver.recv", timed=True, anywhere=True)
def broadcast_recv(stack: ExitStack, timeout: float | None) -> Case:
    broadcast = zio.Broadcast[str](1)
    receiver = broadcast.subscribe()
    return Case(lambda: receiver.recv(timeout), state_of(broadcast, receiver), lambda: broadcast.send("item"), "item")


@row("broadcast.BroadcastReceiver.__next__", anywhere=True)
def broadcast_next(stack: ExitStack, timeout: float | None) -> Case:
    broadcast = zio.Broadcast[str](1)
    receiver = broadcast.subscribe()
    return Case(lambda: next(receiver), state_of(broadcast, receiver), lambda: broadcast.send("item"), "item")


# Select, each kind of source beside one that never completes.


def select_case(source: Any, complete: Callable[[], object], value: object, timeout: float | None, *more: Any) -> Case:
    other = zio.Channel[str]()
    stay = zio.Event()
    return Case(
        lambda: zio.select(other, it=source, no=stay, timeout=timeout),
        state_of(other, stay, *more),
        complete,
        ("it", value),
    )


@row("select", timed=True, anywhere=True)
def select_channel(stack: ExitStack, timeout: float | None) -> Case:
    channel = zio.Channel[str](1)
    return select_case(channel, lambda: channel.send("item"), "item", timeout, channel)


@row("select", timed=True, anywhere=True)
def select_send(stack: ExitStack, timeout: float | None) -> Case:
    channel = zio.Channel[str](1)
    channel.send("first")
    return select_case(channel.send_op("second"), lambda: check(channel.recv() == "first"), None, timeout, channel)


@row("select", timed=True, anywhere=True)
def select_task(stack: ExitStack, timeout: float | None) -> Case:
    gate = zio.Event()
    task = zio.spawn(lambda: gate.wait() and "done")
    case = select_case(task, gate.set, "done", timeout)
    rest = case.state
    case.state = lambda: (rest(), task.done, task._waiters or [])
    return case


@row("select", timed=True, anywhere=True)
def select_future(stack: ExitStack, timeout: float | None) -> Case:
    future = zio.Future[str]()
    return select_case(future, lambda: future.set_result("value"), "value", timeout, future)


@row("select", timed=True, anywhere=True)
def select_group(stack: ExitStack, timeout: float | None) -> Case:
    gate = zio.Event()
    group = stack.enter_context(zio.TaskGroup())
    group.spawn(gate.wait)
    case = select_case(group, gate.set, None, timeout)
    rest = case.state
    case.state = lambda: (rest(), len(group._idlers or ()))
    return case


@row("select", timed=True, anywhere=True)
def select_event(stack: ExitStack, timeout: float | None) -> Case:
    event = zio.Event()
    return select_case(event, event.set, True, timeout, event)


@row("select", timed=True, anywhere=True, can_be_ready=False)
def select_notify(stack: ExitStack, timeout: float | None) -> Case:
    notify = zio.Notify()

    def notify_later() -> None:
        wait_all_parked()
        notify.notify()

    return select_case(notify, lambda: zio.spawn(notify_later), True, timeout, notify)


@row("select", timed=True, anywhere=True)
def select_broadcast(stack: ExitStack, timeout: float | None) -> Case:
    broadcast = zio.Broadcast[str](1)
    receiver = broadcast.subscribe()
    return select_case(receiver, lambda: broadcast.send("item"), "item", timeout, broadcast, receiver)


@row("select", timed=True, anywhere=True)
def select_after(stack: ExitStack, timeout: float | None) -> Case:
    never = zio.after(LONG)
    gate = zio.Event()
    case = select_case(gate, gate.set, True, timeout, gate)
    return Case(
        lambda: zio.select(never, it=gate, timeout=timeout),
        lambda: (case.state(), list(never._armed)),
        gate.set,
        ("it", True),
    )


@row("select", timed=True)
def select_signals(stack: ExitStack, timeout: float | None) -> Case:
    receiver = stack.enter_context(zio.signals(signal.SIGUSR1))
    return select_case(receiver, lambda: signal.raise_signal(signal.SIGUSR1), signal.SIGUSR1, timeout, receiver)


@row("signals.SignalReceiver.wait", timed=True)
def signals_wait(stack: ExitStack, timeout: float | None) -> Case:
    receiver = stack.enter_context(zio.signals(signal.SIGUSR1))
    return Case(
        lambda: receiver.wait(timeout),
        state_of(receiver),
        lambda: signal.raise_signal(signal.SIGUSR1),
        signal.SIGUSR1,
    )


@row("signals.SignalReceiver.__next__")
def signals_next(stack: ExitStack, timeout: float | None) -> Case:
    receiver = stack.enter_context(zio.signals(signal.SIGUSR1))
    return Case(lambda: next(receiver), state_of(receiver), lambda: signal.raise_signal(signal.SIGUSR1), signal.SIGUSR1)


# Locks and what is made of them.


def held_by_another_task(lock: Any) -> Callable[[], object]:
    """Have another task hold ``lock``; returns what makes it release."""
    gate, held = zio.Event(), zio.Event()

    def hold() -> None:
        with lock:
            held.set()
            gate.wait()

    zio.spawn(hold)
    held.wait()
    return gate.set


@row("Lock.acquire", timed=True, anywhere=True)
def lock_acquire(stack: ExitStack, timeout: float | None) -> Case:
    lock = zio.Lock()
    let_go = held_by_another_task(lock)

    def call() -> bool:
        taken = lock.acquire(timeout=timeout)
        lock.release()
        return taken

    return Case(call, state_of(lock), let_go, True)


@row("Lock.__enter__", anywhere=True)
def lock_enter(stack: ExitStack, timeout: float | None) -> Case:
    lock = zio.Lock()
    let_go = held_by_another_task(lock)

    def call() -> None:
        with lock:
            pass

    return Case(call, state_of(lock), let_go)


@row("RLock.acquire", timed=True, anywhere=True)
def rlock_acquire(stack: ExitStack, timeout: float | None) -> Case:
    lock = zio.RLock()
    let_go = held_by_another_task(lock)

    def call() -> bool:
        taken = lock.acquire(timeout=timeout)
        lock.release()
        return taken

    # How often the next owner will have it is set when it has it.
    return Case(call, lambda: (lock.locked(), len(lock._waiters)), let_go, True)


@row("RLock.acquire", anywhere=True, waits=False)
def rlock_acquire_again(stack: ExitStack, timeout: float | None) -> Case:
    lock = zio.RLock()
    return Case(lambda: lock.acquire() and lock.acquire(), lambda: lock._depth, lambda: None, True)


def side_case(side: Any, call: Callable[[], object], result: object) -> Case:
    let_go = held_by_another_task(side.lock.write())
    return Case(call, state_of(side.lock), let_go, result)


def rwlock_acquire_case(side: Any, timeout: float | None) -> Case:
    def call() -> bool:
        taken: bool = side.acquire(timeout=timeout)
        side.release()
        return taken

    return side_case(side, call, True)


def rwlock_enter_case(side: Any) -> Case:
    def call() -> None:
        with side:
            pass

    return side_case(side, call, None)


@row("sync.rwlock.Side.acquire", timed=True, anywhere=True)
def rwlock_read(stack: ExitStack, timeout: float | None) -> Case:
    return rwlock_acquire_case(zio.RWLock().read(), timeout)


@row("sync.rwlock.Side.acquire", timed=True, anywhere=True)
def rwlock_write(stack: ExitStack, timeout: float | None) -> Case:
    return rwlock_acquire_case(zio.RWLock().write(), timeout)


@row("sync.rwlock.Side.__enter__", anywhere=True)
def rwlock_read_enter(stack: ExitStack, timeout: float | None) -> Case:
    return rwlock_enter_case(zio.RWLock().read())


@row("sync.rwlock.Side.__enter__", anywhere=True)
def rwlock_write_enter(stack: ExitStack, timeout: float | None) -> Case:
    return rwlock_enter_case(zio.RWLock().write())


@row("Barrier.wait", timed=True, anywhere=True)
def barrier_wait(stack: ExitStack, timeout: float | None) -> Case:
    """Cancelled, it breaks the barrier, which is its purpose; nobody is left in it."""
    barrier = zio.Barrier(2)

    def mend_and_come() -> None:
        barrier.reset()
        zio.spawn(barrier.wait)

    return Case(lambda: barrier.wait(timeout) in {0, 1}, lambda: barrier.n_waiting, mend_and_come, True)


@row("Notify.wait", timed=True, anywhere=True, can_be_ready=False)
def notify_wait(stack: ExitStack, timeout: float | None) -> Case:
    notify = zio.Notify()

    def notify_later() -> None:
        wait_all_parked()
        notify.notify()

    return Case(lambda: notify.wait(timeout), state_of(notify), lambda: zio.spawn(notify_later), True)


@row("Semaphore.acquire", timed=True, anywhere=True)
def semaphore_acquire(stack: ExitStack, timeout: float | None) -> Case:
    semaphore = zio.Semaphore(0)
    return Case(lambda: semaphore.acquire(timeout=timeout), state_of(semaphore), semaphore.release, True)


@row("Semaphore.__enter__", anywhere=True)
def semaphore_enter(stack: ExitStack, timeout: float | None) -> Case:
    semaphore = zio.Semaphore(0)
    return Case(semaphore.__enter__, state_of(semaphore), semaphore.release, semaphore)


@row("Event.wait", timed=True, anywhere=True)
def event_wait(stack: ExitStack, timeout: float | None) -> Case:
    event = zio.Event()
    return Case(lambda: event.wait(timeout), state_of(event), event.set, True)


@row("Future.result", timed=True, anywhere=True)
def future_result(stack: ExitStack, timeout: float | None) -> Case:
    future = zio.Future[str]()
    return Case(lambda: future.result(timeout), state_of(future), lambda: future.set_result("value"), "value")


@row("Future.exception", timed=True, anywhere=True)
def future_exception(stack: ExitStack, timeout: float | None) -> Case:
    future, error = zio.Future[str](), ValueError("no")
    return Case(lambda: future.exception(timeout), state_of(future), lambda: future.set_exception(error), error)


@row("Condition.acquire", timed=True, anywhere=True)
def condition_acquire(stack: ExitStack, timeout: float | None) -> Case:
    condition = zio.Condition()
    let_go = held_by_another_task(condition)

    def call() -> bool:
        taken = condition.acquire(timeout=timeout)
        condition.release()
        return taken

    return Case(call, state_of(condition, condition.lock), let_go, True)


@row("Condition.__enter__", anywhere=True)
def condition_enter(stack: ExitStack, timeout: float | None) -> Case:
    condition = zio.Condition()
    let_go = held_by_another_task(condition)

    def call() -> None:
        with condition:
            pass

    return Case(call, state_of(condition, condition.lock), let_go)


@row("Condition.wait", timed=True, anywhere=True, can_be_ready=False)
def condition_wait(stack: ExitStack, timeout: float | None) -> Case:
    condition = zio.Condition()

    def notify_later() -> None:
        wait_all_parked()
        with condition:
            condition.notify()

    return Case(
        lambda: condition.wait(timeout),
        state_of(condition, condition.lock),
        lambda: zio.spawn(notify_later),
        True,
        around=lambda: condition,
    )


@row("Condition.wait_for", timed=True, anywhere=True)
def condition_wait_for(stack: ExitStack, timeout: float | None) -> Case:
    condition = zio.Condition()
    found: list[str] = []

    def announce() -> None:
        with condition:
            found.append("it")
            condition.notify_all()

    return Case(
        lambda: condition.wait_for(lambda: found, timeout),
        state_of(condition, condition.lock),
        announce,
        ["it"],
        around=lambda: condition,
    )


# Threads.


@row("Runtime.call", anywhere=True)
def runtime_call(stack: ExitStack, timeout: float | None) -> Case:
    runtime, event = here().loop.runtime, zio.Event()
    return Case(lambda: runtime.call(event.wait), state_of(event), event.set, True)


@row("from_thread", callers=("pool thread",), can_be_ready=False)
def from_thread(stack: ExitStack, timeout: float | None) -> Case:
    event = zio.Event()
    return Case(lambda: zio.from_thread(event.wait), state_of(event), event.set, True, again=zio.to_thread)


@row("to_thread")
def to_thread_abandoned(stack: ExitStack, timeout: float | None) -> Case:
    gate, began = threading.Event(), threading.Event()
    jobs: list[threading.Thread] = []

    def job() -> str:
        jobs.append(threading.current_thread())
        began.set()
        gate.wait()
        return "done"

    def until_begun() -> None:
        while not began.is_set():
            zio.sleep(0.001)

    def end() -> None:
        gate.set()
        after_the_run.extend(thread.join for thread in jobs)

    stack.callback(end)
    return Case(lambda: zio.to_thread(job, abandon_on_cancel=True), lambda: None, gate.set, "done", parked=until_begun)


after_the_run: list[Callable[[], object]] = []


@row("to_thread", waits=False)
def to_thread_not_begun(stack: ExitStack, timeout: float | None) -> Case:
    ran: list[str] = []
    return Case(lambda: zio.to_thread(ran.append, "ran"), lambda: list(ran), lambda: None)


# Files: calls that wait for a thread of the pool, which never comes while they are to be cancelled.


def pool_case(stack: ExitStack, call: Callable[[], object], state: Callable[[], object], result: object) -> Case:
    taken = [True]
    waiting: list[FullPool] = []

    def in_full_pool() -> object:
        if not taken:
            return call()
        with pool_taken() as full:
            waiting[:] = [full]
            return call()

    def queued() -> None:
        while not waiting:
            zio.pause()
        waiting[0].queued()

    return Case(in_full_pool, lambda: (here().loop.jobs, state()), taken.clear, result, parked=queued)


def folder(stack: ExitStack) -> Path:
    """With a file in it, and a folder that has nothing in it."""
    path = Path(stack.enter_context(tempfile.TemporaryDirectory()))
    (path / "empty").mkdir()
    (path / "file").write_bytes(b"one\ntwo\n")
    return path


def content(path: Path) -> Callable[[], object]:
    return lambda: sorted((p.name, p.stat().st_mode, p.is_file() and p.read_bytes()) for p in path.iterdir())


FILE_CALLS: dict[str, tuple[Callable[[zio.fs.File[bytes]], object], object]] = {
    "read": (lambda file: file.read(3), b"one"),
    "readline": (lambda file: file.readline(), b"one\n"),
    "readlines": (lambda file: file.readlines(), [b"one\n", b"two\n"]),
    "readinto": (lambda file: file.readinto(bytearray(3)), 3),
    "__next__": (next, b"one\n"),
    "write": (lambda file: file.write(b"1"), 1),
    "writelines": (lambda file: file.writelines([b"1"]), None),
    "seek": (lambda file: file.seek(2), 2),
    "tell": (lambda file: file.tell(), 0),
    "truncate": (lambda file: file.truncate(1), 1),
    "flush": (lambda file: file.flush(), None),
    "sync": (lambda file: file.sync(), None),
}


def add_file_row(name: str, call: Callable[[zio.fs.File[bytes]], object], result: object) -> None:
    @row(f"fs.files.File.{name}")
    def build(stack: ExitStack, timeout: float | None) -> Case:
        path = folder(stack)
        file = stack.enter_context(zio.fs.open(path / "file", "rb+"))
        position = file.wrapped.tell
        return pool_case(stack, lambda: call(file), lambda: (content(path)(), position(), len(file._ahead)), result)

    ROWS[-1].id = f"file_{name.strip('_')}"


for _name, (_call, _result) in FILE_CALLS.items():
    add_file_row(_name, _call, _result)

PATH_ARGUMENTS: dict[str, tuple[str, tuple[Any, ...]]] = {
    "chmod": ("file", (0o600,)),
    "lchmod": ("file", (0o600,)),
    "glob": (".", ("*",)),
    "rglob": (".", ("*",)),
    "hardlink_to": ("new", ("{}/file",)),
    "symlink_to": ("new", ("{}/file",)),
    "iterdir": (".", ()),
    "mkdir": ("new", ()),
    "readlink": ("link", ()),
    "rename": ("file", ("{}/new",)),
    "replace": ("file", ("{}/new",)),
    "copy": ("file", ("{}/new",)),
    "move": ("file", ("{}/new",)),
    "copy_into": ("file", ("{}/empty",)),
    "move_into": ("file", ("{}/empty",)),
    "rmdir": ("empty", ()),
    "samefile": ("file", ("{}/file",)),
    "touch": ("new", ()),
    "write_bytes": ("file", (b"new",)),
    "write_text": ("file", ("new",)),
    "open": ("new", ("wb",)),
}


def add_path_row(name: str) -> None:
    @row(f"fs.paths.Path.{name}")
    def build(stack: ExitStack, timeout: float | None) -> Case:
        where = folder(stack)
        (where / "link").symlink_to(where / "file")
        which, arguments = PATH_ARGUMENTS.get(name, ("file", ()))
        path = zio.fs.Path(where / which)
        filled = [a.format(where) if isinstance(a, str) else a for a in arguments]

        def call() -> None:
            with contextlib.suppress(NotImplementedError):  # lchmod, on Linux
                made: Any = getattr(path, name)(*filled)
                if name == "open":
                    made.close()

        return pool_case(stack, call, content(where), None)

    ROWS[-1].id = f"path_{name}"


for _name in (*paths.CALLS, *paths.LOOPS, "open"):
    if hasattr(Path, _name):
        add_path_row(_name)


@row("fs.paths.Steps.__next__")
def path_steps(stack: ExitStack, timeout: float | None) -> Case:
    steps = zio.fs.Path(folder(stack)).glob("f*")
    return pool_case(stack, lambda: next(steps).name, lambda: None, "file")


@row("fs.files.open")
def file_open(stack: ExitStack, timeout: float | None) -> Case:
    path = folder(stack)
    return pool_case(stack, lambda: zio.fs.open(path / "new", "w").close(), content(path), None)


@row("fs.files.read_bytes", "fs.files.read_text", "fs.files.write_bytes", "fs.files.write_text")
def whole_files(stack: ExitStack, timeout: float | None) -> Case:
    path = folder(stack)
    file = path / "file"

    def call() -> object:
        cancelled = 0
        for part in (
            lambda: zio.fs.read_bytes(file),
            lambda: zio.fs.read_text(file),
            lambda: zio.fs.write_bytes(file, b"new"),
        ):
            try:
                part()
            except zio.Cancelled:
                cancelled += 1
        assert cancelled in {0, 3}
        return zio.fs.write_text(file, "new")

    return pool_case(stack, call, content(path), 3)


@row("fs.files.made_in_thread")
def made_in_thread(stack: ExitStack, timeout: float | None) -> Case:
    made: list[int] = []
    return pool_case(stack, lambda: files.made_in_thread(lambda: made.append(1), print), lambda: len(made), None)


@row("fs.atomic.AtomicWrite.__enter__", "fs.atomic.AtomicWrite.__exit__", waits=False)
def atomic_write(stack: ExitStack, timeout: float | None) -> Case:
    """Cancelled, it removes its file, for which it waits whatever is cancelled; so never in a full pool."""
    path = folder(stack)

    def call() -> None:
        with zio.fs.atomic_write(path / "file", "wb") as file:
            file.wrapped.write(b"new")

    return Case(call, content(path), lambda: None)


def pipe_pair(stack: ExitStack) -> tuple[Any, Any]:
    reader, writer = zio.fs.pipe()
    return stack.enter_context(reader), stack.enter_context(writer)


@row("fs.pipes.PipeStream.recv")
def pipe_recv(stack: ExitStack, timeout: float | None) -> Case:
    reader, writer = pipe_pair(stack)
    return Case(
        lambda: reader.recv(8),
        lambda: (reader._io.reader, here().loop.io_waiting),
        lambda: writer.send_all(b"data"),
        b"data",
    )


@row("net.stream.Stream.recv_into")
def pipe_recv_into(stack: ExitStack, timeout: float | None) -> Case:
    reader, writer = pipe_pair(stack)
    return Case(
        lambda: into(reader),
        lambda: (reader._io.reader, here().loop.io_waiting),
        lambda: writer.send_all(b"data"),
        b"data",
    )


def full_pipe_case(stack: ExitStack, call: Callable[[Any], object]) -> Case:
    reader, writer = pipe_pair(stack)
    sent = fill(writer)
    return Case(
        lambda: call(writer),
        lambda: (writer._io.writer, here().loop.io_waiting),
        lambda: drained(reader, sent),
    )


@row("fs.pipes.PipeStream.send_all")
def pipe_send_all(stack: ExitStack, timeout: float | None) -> Case:
    return full_pipe_case(stack, lambda writer: writer.send_all(b"data"))


@row("fs.pipes.PipeStream.wait_writable")
def pipe_wait_writable(stack: ExitStack, timeout: float | None) -> Case:
    return full_pipe_case(stack, lambda writer: writer.wait_writable())


@row("fs.pipes.PipeStream.shutdown_write", waits=False)
def pipe_shutdown_write(stack: ExitStack, timeout: float | None) -> Case:
    _reader, writer = pipe_pair(stack)
    return Case(writer.shutdown_write, lambda: writer.closed, lambda: None)


# Processes.


def reading_child(stack: ExitStack) -> Popen:
    """Ends when its input does."""
    return stack.enter_context(Popen(["cat"], stdin=PIPE, stdout=PIPE))


def running(process: Popen) -> Callable[[], object]:
    return lambda: (process.returncode, here().loop.io_waiting, open_sockets())


@row("process.popen.Popen.wait", timed=True)
def process_wait(stack: ExitStack, timeout: float | None) -> Case:
    process = reading_child(stack)
    assert process.stdin is not None
    return Case(lambda: process.wait(timeout), running(process), process.stdin.close, 0)


@row("process.popen.Popen.communicate", timed=True)
def process_communicate(stack: ExitStack, timeout: float | None) -> Case:
    script = "echo begun; read word; echo $word"
    process = stack.enter_context(Popen(["/bin/sh", "-c", script], stdin=PIPE, stdout=PIPE))
    stdin, process.stdin = process.stdin, None
    assert stdin is not None
    stack.enter_context(stdin)
    return Case(
        lambda: process.communicate(timeout=timeout),
        lambda: (process.returncode, here().loop.io_waiting),
        lambda: stdin.send_all(b"word\n"),
        (b"begun\nword\n", None),
    )


@row("process.popen.Popen.__exit__", can_be_ready=False)
def process_exit(stack: ExitStack, timeout: float | None) -> Case:
    """Cancelled, it ends the process: the next call has another one."""
    reading, writing = os.pipe()
    stack.callback(os.close, reading)
    done: list[int] = []

    def call() -> None:
        with Popen(["/bin/sh", "-c", f"head -c 1 < /dev/fd/{reading}"], stdout=DEVNULL, pass_fds=[reading]):
            pass

    def parked() -> None:
        while not here().loop.io_waiting:
            zio.sleep(0.001)

    return Case(call, lambda: (here().loop.io_waiting, done), lambda: os.close(writing), parked=parked)


@row("process.running.run", timed=True, can_be_ready=False)
def process_run(stack: ExitStack, timeout: float | None) -> Case:
    reading, writing = os.pipe()
    stack.callback(os.close, reading)
    command = ["/bin/sh", "-c", f"head -c 1 < /dev/fd/{reading}"]

    def parked() -> None:
        while not here().loop.io_waiting:
            zio.sleep(0.001)

    return Case(
        lambda: run(command, stdout=PIPE, pass_fds=[reading], timeout=timeout).stdout,
        lambda: here().loop.io_waiting,
        lambda: os.close(writing),
        b"",
        parked=parked,
    )


# The network.


def socket_pair(stack: ExitStack) -> tuple[Any, Any]:
    listener = stack.enter_context(zio.net.listen("127.0.0.1", 0))
    ours = stack.enter_context(zio.net.connect("127.0.0.1", listener.port))
    return ours, stack.enter_context(listener.accept())


def unix_pair(stack: ExitStack) -> tuple[Any, Any]:
    """Where full is full: of TCP the system moves something from one end to the other, or finds more room, later."""
    loop = here().loop
    ours, theirs = (zio.net.SocketStream(end, loop) for end in socket.socketpair())
    return stack.enter_context(ours), stack.enter_context(theirs)


def memory_pair(stack: ExitStack) -> tuple[Any, Any]:
    ours, theirs = memory_stream_pair(1024)
    return stack.enter_context(ours), stack.enter_context(theirs)


def unread(stream: Any) -> Callable[[], object]:
    """What could be received, and who waits."""

    def look() -> object:
        if isinstance(stream, zio.net.SocketStream):
            try:
                data = stream.socket.recv(65536, socket.MSG_PEEK)
            except BlockingIOError:
                data = b""
            return stream._rest + data, stream._io.reader, stream._io.writer, here().loop.io_waiting
        if isinstance(stream, TLSStream):
            # Half of what recv_exactly took from the engine is given back in clear.
            who = stream._reader, stream._writer, stream._feeding, len(stream._room), len(stream._fed)
            return stream._rest, len(stream._unsent), who
        return stream._rest + b"".join(stream._in.unread), stream._in.reader, stream.out.writer

    return look


def fill(stream: Any) -> int:
    """Send until there is no room."""
    total = 0
    while sent := stream.send_some(b"x" * 65536):
        total += sent
    return total


def drained(stream: Any, count: int) -> None:
    stream.recv_exactly(count)


def receive_case(
    call: Callable[[Any], object], pair: tuple[Any, Any], before: bytes, then: bytes, result: object
) -> Case:
    ours, theirs = pair
    if before:
        theirs.send_all(before)
        wait_all_parked()
    return Case(lambda: call(ours), unread(ours), lambda: theirs.send_all(then), result)


def into(stream: Any) -> bytes:
    buffer = bytearray(8)
    return bytes(buffer[: stream.recv_into(buffer)])


@row("net.sockets.SocketStream.recv")
def socket_recv(stack: ExitStack, timeout: float | None) -> Case:
    return receive_case(lambda s: s.recv(8), socket_pair(stack), b"", b"data", b"data")


@row("net.sockets.SocketStream.recv_into")
def socket_recv_into(stack: ExitStack, timeout: float | None) -> Case:
    return receive_case(into, socket_pair(stack), b"", b"data", b"data")


@row("net.stream.Stream.recv_exactly")
def socket_recv_exactly(stack: ExitStack, timeout: float | None) -> Case:
    return receive_case(lambda s: s.recv_exactly(8), socket_pair(stack), b"half", b"more", b"halfmore")


@row("net.stream.Stream.recv_until")
def socket_recv_until(stack: ExitStack, timeout: float | None) -> Case:
    return receive_case(lambda s: s.recv_until(b"\r\n", 99), socket_pair(stack), b"half\r", b"\n", b"half\r\n")


@row("testing.sim.stream.SimStream.recv")
def memory_recv(stack: ExitStack, timeout: float | None) -> Case:
    return receive_case(lambda s: s.recv(8), memory_pair(stack), b"", b"data", b"data")


@row("net.stream.Stream.recv_into")
def memory_recv_into(stack: ExitStack, timeout: float | None) -> Case:
    return receive_case(into, memory_pair(stack), b"", b"data", b"data")


@row("net.stream.Stream.recv_exactly")
def memory_recv_exactly(stack: ExitStack, timeout: float | None) -> Case:
    return receive_case(lambda s: s.recv_exactly(8), memory_pair(stack), b"half", b"more", b"halfmore")


@row("net.stream.Stream.recv_until")
def memory_recv_until(stack: ExitStack, timeout: float | None) -> Case:
    return receive_case(lambda s: s.recv_until(b"\r\n", 99), memory_pair(stack), b"half\r", b"\n", b"half\r\n")


def send_case(pair: tuple[Any, Any], call: Callable[[Any], object]) -> Case:
    ours, theirs = pair
    sent = fill(ours)
    # A call in a full stream sends nothing, so what arrives is what was there before it.
    return Case(lambda: call(ours), unread(ours), lambda: drained(theirs, sent))


@row("net.sockets.SocketStream.send_all")
def socket_send_all(stack: ExitStack, timeout: float | None) -> Case:
    return send_case(unix_pair(stack), lambda s: s.send_all(b"data"))


@row("net.sockets.SocketStream.send_vectored")
def socket_send_vectored(stack: ExitStack, timeout: float | None) -> Case:
    return send_case(unix_pair(stack), lambda s: s.send_vectored([b"da", b"ta"]))


@row("net.stream.Stream.send_vectored")
def memory_send_vectored(stack: ExitStack, timeout: float | None) -> Case:
    return send_case(memory_pair(stack), lambda s: s.send_vectored([b"da", b"ta"]))


@row(
    "net.stream.Stream.send_file",
    "net.sockets.SocketStream.send_from",
    "net.files.send_file",
    "net.sockets.SocketStream.hold_sending",
    "net.stream.Stream.hold_sending",
)
def socket_send_file(stack: ExitStack, timeout: float | None) -> Case:
    file = Path(stack.enter_context(tempfile.TemporaryDirectory())) / "file"
    file.write_bytes(b"data")
    return send_case(unix_pair(stack), lambda s: s.send_file(file) and None)


@row("net.stream.Stream.send_file")
def memory_send_file(stack: ExitStack, timeout: float | None) -> Case:
    return send_case(memory_pair(stack), lambda s: s.send_file(io.BytesIO(b"data")) and None)


@row("net.sockets.SocketStream.wait_writable")
def socket_wait_writable(stack: ExitStack, timeout: float | None) -> Case:
    return send_case(unix_pair(stack), lambda s: s.wait_writable())


@row("testing.sim.stream.SimStream.send_all")
def memory_send_all(stack: ExitStack, timeout: float | None) -> Case:
    return send_case(memory_pair(stack), lambda s: s.send_all(b"data"))


@row("testing.sim.stream.SimStream.wait_writable")
def memory_wait_writable(stack: ExitStack, timeout: float | None) -> Case:
    return send_case(memory_pair(stack), lambda s: s.wait_writable())


@row("net.tls.TLSStream.recv")
def tls_recv(stack: ExitStack, timeout: float | None) -> Case:
    return receive_case(lambda s: s.recv(8), tls_pair(stack), b"", b"data", b"data")


@row("net.stream.Stream.recv_into")
def tls_recv_into(stack: ExitStack, timeout: float | None) -> Case:
    return receive_case(into, tls_pair(stack), b"", b"data", b"data")


@row("net.tls.TLSStream.send_all")
def tls_send_all(stack: ExitStack, timeout: float | None) -> Case:
    return send_case(tls_pair(stack), lambda s: s.send_all(b"data"))


@row("net.tls.TLSStream.wait_writable")
def tls_wait_writable(stack: ExitStack, timeout: float | None) -> Case:
    return send_case(tls_pair(stack), lambda s: s.wait_writable())


@row("net.tls.TLSStream.shutdown_write", waits=False)
def tls_shutdown_write(stack: ExitStack, timeout: float | None) -> Case:
    ours, theirs = tls_pair(stack)
    return Case(ours.shutdown_write, lambda: (ours._write_ended, arrived(theirs.raw)), lambda: None)


@row("net.stream.Stream.start_tls", can_be_ready=False)
def start_tls_unanswered(stack: ExitStack, timeout: float | None) -> Case:
    """Cancelled, it closes the stream, so it cannot complete; nobody is left in it."""
    ours, _theirs = memory_pair(stack)
    return Case(lambda: ours.start_tls(CLIENT, NAME), lambda: ours._in.reader)


@row("net.stream.Stream.start_tls", waits=False)
def start_tls_not_begun(stack: ExitStack, timeout: float | None) -> Case:
    """T14: cancelled before it begins, it sends nothing and leaves the stream as it is."""
    ours, theirs = memory_pair(stack)
    return Case(
        lambda: ours.start_tls(CLIENT, NAME).version,
        lambda: arrived(theirs),
        lambda: zio.spawn(theirs.start_tls, SERVER),
        "TLSv1.3",
    )


@row("net.sockets.SocketStream.shutdown_write", waits=False)
def socket_shutdown_write(stack: ExitStack, timeout: float | None) -> Case:
    ours, theirs = socket_pair(stack)
    return Case(ours.shutdown_write, unread(theirs), lambda: None)


def arrived(stream: Any) -> bytes:
    """What has come to the end of a stream in memory; it stays there."""
    with zio.move_on_after(0.01):
        stream._rest = stream.recv(65536)
    return bytes(stream._rest)


def tls_pair(stack: ExitStack) -> tuple[Any, Any]:
    ours, theirs = both(1024)
    for stream in (ours, theirs):  # what follows the handshake is received
        stack.enter_context(stream).send_all(b"x")
    assert ours.recv(1) == theirs.recv(1) == b"x"
    return ours, theirs


def accept_case(stack: ExitStack, call: Callable[[Any], Any]) -> Case:
    listener = stack.enter_context(zio.net.listen("127.0.0.1", 0))

    def accept() -> str:
        stack.enter_context(call(listener))
        return "accepted"

    def connect() -> None:
        stack.enter_context(zio.net.connect("127.0.0.1", listener.port))

    io = listener._polled.io
    return Case(accept, lambda: (io.reader, here().loop.io_waiting), connect, "accepted")


@row("net.tcp.Listener.accept")
def listener_accept(stack: ExitStack, timeout: float | None) -> Case:
    return accept_case(stack, lambda listener: listener.accept())


@row("net.serving.Acceptor.__next__")
def listener_next(stack: ExitStack, timeout: float | None) -> Case:
    return accept_case(stack, next)


@row("net.serving.Acceptor.serve", can_be_ready=False)
def serve(stack: ExitStack, timeout: float | None) -> Case:
    """Cancelled it closes the listener, so that what is called again returns at once."""
    listener = stack.enter_context(zio.net.listen("127.0.0.1", 0))
    pollable = listener._polled.io

    def again(call: Callable[[], object]) -> object:
        listener.close()
        return call()

    return Case(
        lambda: listener.serve(lambda stream: None),
        lambda: (pollable.reader, here().loop.io_waiting),
        listener.close,
        again=again,
    )


def datagram_pair(stack: ExitStack) -> tuple[Any, Any]:
    ours = stack.enter_context(zio.net.udp("127.0.0.1"))
    return ours, stack.enter_context(zio.net.udp(remote=ours.address))


def receive_datagram(stack: ExitStack, pair: tuple[Any, Any], call: Callable[[Any], Any]) -> Case:
    ours, theirs = pair

    def state() -> object:
        if isinstance(ours, SimDatagramSocket):
            return list(ours._queue), ours._reader
        return ours._polled.io.reader, here().loop.io_waiting

    def complete() -> None:
        theirs.send(b"data")
        zio.sleep(0.01)  # on its way

    return Case(lambda: call(ours).data, state, complete, b"data")


@row("net.datagrams.SystemDatagramSocket.recv")
def datagram_recv(stack: ExitStack, timeout: float | None) -> Case:
    return receive_datagram(stack, datagram_pair(stack), lambda s: s.recv())


@row("net.datagrams.DatagramSocket.__next__")
def datagram_next(stack: ExitStack, timeout: float | None) -> Case:
    return receive_datagram(stack, datagram_pair(stack), next)


@row("testing.sim.datagrams.SimDatagramSocket.recv")
def sim_datagram_recv(stack: ExitStack, timeout: float | None) -> Case:
    network = SimNetwork(1, latency=0.0)
    ours = stack.enter_context(network.udp(("host", 1), None))
    theirs = stack.enter_context(network.udp(None, ("host", 1)))
    return receive_datagram(stack, (ours, theirs), lambda s: s.recv())


def full_datagrams(stack: ExitStack, connected: bool) -> tuple[Any, Any, str, int]:
    """One with a queue that has no room for another, and how many are in it."""
    path = f"{stack.enter_context(tempfile.TemporaryDirectory())}/socket"
    ours = stack.enter_context(zio.net.unix_datagram(path))
    theirs = stack.enter_context(zio.net.unix_datagram(remote=path if connected else None))
    count = 0
    with contextlib.suppress(BlockingIOError):
        while True:
            theirs.socket.sendto(b"x", path) if not connected else theirs.socket.send(b"x")
            count += 1
    return ours, theirs, path, count


def send_datagram(pair: tuple[Any, Any, str, int], call: Callable[[Any, str], object]) -> Case:
    ours, theirs, path, count = pair

    def drain() -> None:
        for _ in range(count):
            assert ours.recv().data == b"x"

    def parked() -> None:
        for _ in range(3):
            zio.pause()

    return Case(
        lambda: call(theirs, path),
        lambda: (theirs._polled.io.writer, here().loop.io_waiting),
        drain,
        parked=parked,
    )


@row("net.datagrams.SystemDatagramSocket.send", can_be_ready=False)
def datagram_send(stack: ExitStack, timeout: float | None) -> Case:
    return send_datagram(full_datagrams(stack, True), lambda s, _path: s.send(b"data"))


@row("net.datagrams.SystemDatagramSocket.send_to", can_be_ready=False)
def datagram_send_to(stack: ExitStack, timeout: float | None) -> Case:
    return send_datagram(full_datagrams(stack, False), lambda s, path: s.send_to(b"data", path))


@row("testing.sim.datagrams.SimDatagramSocket.send", "testing.sim.datagrams.SimDatagramSocket.send_to", waits=False)
def sim_datagram_send(stack: ExitStack, timeout: float | None) -> Case:
    network = SimNetwork(1, latency=0.0)
    stack.enter_context(network.udp(("host", 1), None))
    ours = stack.enter_context(network.udp(None, ("host", 1)))
    return Case(lambda: ours.send(b"data"), lambda: len(network.journal), lambda: None)


def memory_accept_case(stack: ExitStack, call: Callable[[Any], Any]) -> Case:
    network = MemoryNetwork()
    listener: Any = stack.enter_context(network.listen("host", 1, 1))

    def accept() -> str:
        stack.enter_context(call(listener))
        return "accepted"

    def connect() -> None:
        stack.enter_context(network.connect("host", 1))

    return Case(accept, lambda: (len(listener._arrived), listener._waiter), connect, "accepted")


@row("testing.sim.network.SimListener.accept")
def memory_listener_accept(stack: ExitStack, timeout: float | None) -> Case:
    return memory_accept_case(stack, lambda listener: listener.accept())


@row("net.serving.Acceptor.__next__")
def memory_listener_next(stack: ExitStack, timeout: float | None) -> Case:
    return memory_accept_case(stack, next)


@row("testing.sim.network.SimNetwork.connect")
def sim_connect(stack: ExitStack, timeout: float | None) -> Case:
    """The connection is there, and its answer is on its way when the cancel comes: nobody is left with half of it."""
    network = SimNetwork(1, latency=0.02)
    stack.enter_context(network.listen("host", 1))

    def connect() -> str:
        stack.enter_context(network.connect("host", 1))
        return "connected"

    return Case(connect, lambda: [c for c in network.connections if not c.client.closed], lambda: None, "connected")


def open_sockets() -> int:
    return len(here().loop.poller._table)  # type: ignore[attr-defined]


@row("net.connect", timed=True)
def connect_unanswered(stack: ExitStack, timeout: float | None) -> Case:
    """The listener's queue is full, so that the handshake does not end."""
    raw = stack.enter_context(socket.socket())
    raw.bind(("127.0.0.1", 0))
    raw.listen(0)
    host, port = raw.getsockname()
    for _ in range(3):
        other = stack.enter_context(socket.socket())
        other.setblocking(False)
        other.connect_ex((host, port))
    return Case(lambda: zio.net.connect(host, port, timeout=timeout), lambda: (open_sockets(), here().loop.io_waiting))


@row("net.connect", timed=True, waits=False)
def connect_answered(stack: ExitStack, timeout: float | None) -> Case:
    """T14: no handshake begins in a cancelled scope."""
    raw = stack.enter_context(socket.socket())
    raw.bind(("127.0.0.1", 0))
    raw.listen(8)
    raw.setblocking(False)
    host, port = raw.getsockname()

    def call() -> str:
        zio.net.connect(host, port, timeout=timeout).close()
        return "connected"

    return Case(call, lambda: (connections_at(raw), open_sockets()), lambda: None, "connected")


def connections_at(listener: socket.socket) -> int:
    """How many connections had come; none is left."""
    count = 0
    with contextlib.suppress(BlockingIOError):
        while True:
            listener.accept()[0].close()
            count += 1
    return count


def full_unix_listener(stack: ExitStack) -> tuple[socket.socket, str]:
    """A listener that has no room for one more, and its path."""
    path = f"{stack.enter_context(tempfile.TemporaryDirectory())}/socket"
    raw = stack.enter_context(socket.socket(socket.AF_UNIX))
    raw.bind(path)
    raw.listen(0)
    raw.setblocking(False)
    with contextlib.suppress(BlockingIOError):
        while True:
            other = stack.enter_context(socket.socket(socket.AF_UNIX))
            other.setblocking(False)
            other.connect(path)
    return raw, path


@row("net.connect_unix", timed=True, can_be_ready=False)
def connect_unix_without_room(stack: ExitStack, timeout: float | None) -> Case:
    raw, path = full_unix_listener(stack)

    def call() -> str:
        zio.net.connect_unix(path, timeout=timeout).close()
        return "connected"

    def parked() -> None:
        for _ in range(3):
            zio.pause()

    return Case(call, open_sockets, lambda: raw.accept()[0].close(), "connected", parked=parked)


@row("net.connect_unix", timed=True, waits=False)
def connect_unix_answered(stack: ExitStack, timeout: float | None) -> Case:
    """No connection is made in a cancelled scope."""
    path = f"{stack.enter_context(tempfile.TemporaryDirectory())}/socket"
    raw = stack.enter_context(socket.socket(socket.AF_UNIX))
    raw.bind(path)
    raw.listen(8)
    raw.setblocking(False)

    def call() -> str:
        zio.net.connect_unix(path, timeout=timeout).close()
        return "connected"

    return Case(call, lambda: (connections_at(raw), open_sockets()), lambda: None, "connected")


@row("testing.sim.network.SimNetwork.connect_unix")
def sim_connect_unix(stack: ExitStack, timeout: float | None) -> Case:
    network = SimNetwork(1, latency=0.02)
    stack.enter_context(network.listen_unix("/socket"))

    def connect() -> str:
        stack.enter_context(network.connect_unix("/socket"))
        return "connected"

    return Case(connect, lambda: [c for c in network.connections if not c.client.closed], lambda: None, "connected")


def slow_name(stack: ExitStack) -> tuple[str, Callable[[], object]]:
    """A name that is being looked up until the function is called; look-ups that begin later end at once."""
    gate = threading.Event()
    begun: list[threading.Thread] = []
    real = socket.getaddrinfo

    def getaddrinfo(host: Any, port: Any, *, type: int = 0, flags: int = 0) -> Any:
        if host != "slow.example" or flags:
            return real(host, port, type=type, flags=flags)
        begun.append(threading.current_thread())
        gate.wait()
        return real("127.0.0.1", port, type=type)

    patch = stack.enter_context(pytest.MonkeyPatch.context())
    patch.setattr(socket, "getaddrinfo", getaddrinfo)

    def end() -> None:
        gate.set()
        after_the_run.extend(thread.join for thread in begun)

    stack.callback(end)
    return "slow.example", gate.set


def looking_up() -> object:
    """The names that somebody waits for."""
    return [host for host, lookup in here().loop.runtime.names.items() if lookup.waiters]


def until_looking_up() -> None:
    while not looking_up():
        zio.pause()


@row("net.resolve", can_be_ready=False)
def resolve_unanswered(stack: ExitStack, timeout: float | None) -> Case:
    name, answer = slow_name(stack)
    found = [(socket.AF_INET, ("127.0.0.1", 80))]
    return Case(lambda: zio.net.resolve(name, 80), looking_up, answer, found, parked=until_looking_up)


@row("net.udp", can_be_ready=False)
def udp_unanswered(stack: ExitStack, timeout: float | None) -> Case:
    """The name of its peer is being looked up."""
    name, answer = slow_name(stack)

    def call() -> str:
        zio.net.udp(remote=(name, 80)).close()
        return "made"

    return Case(call, lambda: (looking_up(), open_sockets()), answer, "made", parked=until_looking_up)


@row("net.udp", waits=False)
def udp(stack: ExitStack, timeout: float | None) -> Case:
    def call() -> str:
        zio.net.udp("127.0.0.1").close()
        return "made"

    return Case(call, open_sockets, lambda: None, "made")


@row("net.connect", timed=True, can_be_ready=False)
def connect_to_several(stack: ExitStack, timeout: float | None) -> Case:
    """Neither address answers. It cannot complete; nobody is left who tries."""
    network = SimNetwork(1)
    network.name("site", "a", "b")
    network.host("a").connects = network.host("b").connects = "drop"
    runtime = here().loop.runtime
    before, runtime.network = runtime.network, network
    stack.callback(setattr, runtime, "network", before)
    loop = here().loop
    return Case(lambda: zio.net.connect("site", 1, timeout=timeout), lambda: sum(1 for _ in tasks_below(loop.root)) > 2)


@row("net.resolve", waits=False)
def resolve(stack: ExitStack, timeout: float | None) -> Case:
    def call() -> bool:
        return bool(zio.net.resolve("localhost", 80))

    return Case(call, lambda: here().loop.jobs, lambda: None, True)


# Other threads read an outcome that is there without a hop, and without a look at their scopes.
NO_HOP_WHEN_DONE = {"task_join", "future_result", "future_exception"}

# The callers.


class Caller:
    """A caller of its own, who makes ``case.call()`` in ``scope`` and notes how it ended."""

    def __init__(self, case: Case, scope: zio.CancelScope) -> None:
        self.case = case
        self.scope = scope
        self.outcome: list[str] = []
        self.holder: Any = None
        _started.clear()

    def call(self) -> None:
        self.holder = current_holder()
        with self.case.around(), self.scope:
            _started.append(True)
            try:
                self.case.call()
            except zio.Cancelled:
                self.outcome.append("cancelled")
                raise
            except BaseException as exc:
                self.outcome.append(repr(exc))
                raise
            self.outcome.append("returned")


@contextlib.contextmanager
def task_caller(caller: Caller) -> Iterator[None]:
    task = zio.spawn(caller.call)
    yield
    task.join(30)


@contextlib.contextmanager
def thread_caller(caller: Caller, run: Callable[[Callable[[], None]], None] = lambda fn: fn()) -> Iterator[None]:
    ended = zio.Future[None]()

    def main() -> None:
        try:
            run(caller.call)
        finally:
            ended.set_result(None)

    thread = threading.Thread(target=main)
    thread.start()
    yield
    ended.result(30)
    thread.join()


def loop_caller(caller: Caller) -> AbstractContextManager[None]:
    return thread_caller(caller, zio.run)


@contextlib.contextmanager
def pool_caller(caller: Caller) -> Iterator[None]:
    task = zio.spawn(zio.to_thread, caller.call)
    yield
    task.join(30)


CALLERS: dict[str, Callable[[Caller], AbstractContextManager[None]]] = {
    "task": task_caller,
    "pool thread": pool_caller,
    "thread": thread_caller,
    "other loop": loop_caller,
}


def wait_until_parked(row: Row, caller: Caller, kind: str) -> None:
    if kind == "task":
        caller.case.parked()
        return
    calls = here().loop.calls

    def parked() -> bool:
        holder = caller.holder
        if isinstance(holder, ThreadHolder):
            waits = bool(holder.waits)
        else:
            waits = holder is not None and holder.fiber is not None and holder.fiber.waiter is not None
        posted = tasks_below(calls)
        return (
            waits
            and bool(posted) == row.hops
            and all(task.fiber is not None and task.fiber.waiter is not None for task in posted)
        )

    while not parked():
        zio.sleep(0.001)


# The tests.


def variants(*, ready: bool = False, only: Callable[[Row], bool] = lambda _row: True) -> list[Any]:
    return [
        pytest.param(row, timeout, kind, id=f"{row.id}{'' if timeout is None else '-timeout'}-{kind}")
        for row in ROWS
        if only(row)
        for timeout in ((None, LONG) if row.timed else (None,))
        for kind in (row.callers[:1] if ready and row.id in NO_HOP_WHEN_DONE else row.callers)
    ]


def run_case(row: Row, timeout: float | None, test: Callable[[Case], None]) -> None:
    def main() -> None:
        with ExitStack() as stack:
            case = row.build(stack, timeout)
            test(case)

    try:
        zio.run(main)
    finally:
        while after_the_run:
            after_the_run.pop()()


def completes(case: Case) -> None:
    """The call works as if nothing had been."""
    if case.complete is not None:
        case.complete()
        with case.around():
            assert case.again(case.call) == case.result


@pytest.mark.parametrize(("row", "timeout", "kind"), variants(only=lambda row: row.waits))
def test_cancelled_while_it_waits_it_raises_and_changes_nothing(row: Row, timeout: float | None, kind: str) -> None:
    """T13."""

    def test(case: Case) -> None:
        wait_all_parked()
        before = case.state()
        caller = Caller(case, zio.CancelScope())
        with CALLERS[kind](caller):
            wait_until_parked(row, caller, kind)
            assert caller.outcome == []
            caller.scope.cancel()
        assert caller.outcome == ["cancelled"]
        assert caller.scope.cancelled_caught
        assert case.state() == before
        completes(case)

    run_case(row, timeout, test)


@pytest.mark.parametrize(("row", "timeout", "kind"), variants())
def test_cancelled_before_it_raises_and_changes_nothing(row: Row, timeout: float | None, kind: str) -> None:
    """T13, T14."""

    def test(case: Case) -> None:
        wait_all_parked()
        before = case.state()
        caller = Caller(case, zio.CancelScope())
        caller.scope.cancel()
        with CALLERS[kind](caller):
            pass
        assert caller.outcome == ["cancelled"]
        assert case.state() == before
        completes(case)

    run_case(row, timeout, test)


@pytest.mark.parametrize(
    ("row", "timeout", "kind"),
    variants(only=lambda row: row.can_be_ready and row.waits and row.id != "connect_unanswered", ready=True),
)
def test_cancelled_before_it_raises_even_if_it_need_not_wait(row: Row, timeout: float | None, kind: str) -> None:
    """T13: and what is there stays there for the next."""

    def test(case: Case) -> None:
        assert case.complete is not None
        case.complete()
        wait_all_parked()
        before = case.state()
        caller = Caller(case, zio.CancelScope())
        caller.scope.cancel()
        with CALLERS[kind](caller):
            pass
        assert caller.outcome == ["cancelled"]
        assert case.state() == before
        with case.around():
            assert case.call() == case.result

    run_case(row, timeout, test)


# The table is complete.


def each_of(owner: str, methods: str) -> list[str]:
    return [f"{owner}.{method}" for method in methods.split()]


# What can be called in a task and never waits. (From other threads some of it takes the way home and back.)
NOT_BLOCKING = {
    # Beginning, end and inspection.
    *("run", "Runtime.run", "testing.virtual.run_virtual"),  # refused inside a task; a run ends when its main task does
    *("Runtime.close", "Runtime.on_close", "Runtime.forget_closer", "background", "debug.dump"),
    *(
        "CancelScope.make_sure_it_is_left",
        "Runtime.cancel_main",
        "Runtime.forget_settler",
        "Runtime.on_process_exit",
    ),
    *(
        "Runtime.settle_before_exit",
        "Runtime.wait_ended",
        "fs.fifos.open_fifo",
    ),
    *(
        "fs.fifos.opening_waits",
        "net.resolving.every_interface",
        "process.left_over.LeftOver.__call__",
    ),
    *(
        "process.left_over.LeftOver.detach",
        "process.left_over.clear_away",
        "process.left_over.end",
    ),
    *("process.popen.Popen.detach",),
    *each_of("Runtime", "statistics add_instrument remove_instrument"),
    *("debug.watchdog.log_stall", "debug.watchdog.Watchdog.start"),
    *each_of("debug.watchdog.Watchdog", "close __enter__ __exit__"),  # which wait for a thread that ends at once
    "starting.Start.started",
    "starting.Start.wait",  # the inner part of TaskGroup.start
    *("as_completed", "completing.Completions.__iter__"),
    *("spawn", "TaskGroup.__enter__", "TaskGroup.cancel", "current_task", "now"),
    *("Task.cancel", "Task.result", "Task.finish", "Task.now", "Task.cancel_arrived", "Task.scope_changed"),
    # Scopes.
    *("timeout", "move_on_after", "shield", "after", "selecting.told_with_homes"),
    *each_of("CancelScope", "__enter__ __exit__ cancel alive expire run_out"),
    # Channels and locks: what gives, and what only looks.
    *("Broadcast.close", "Broadcast.send", "Broadcast.subscribe"),
    *("broadcast.BroadcastReceiver.__iter__", "broadcast.BroadcastReceiver.try_recv"),
    *("Channel.__iter__", "Channel.close", "Channel.send_op", "Channel.try_recv", "Channel.try_send"),
    *("Condition.__exit__", "Condition.notify", "Condition.notify_all", "Condition.release"),
    *("Event.clear", "Event.is_set", "Event.set", "Future.set_exception", "Future.set_result"),
    *each_of("Lock", "__exit__ held_by locked owner_ended release release_all"),
    *("RLock.release_all", "Lock.acquire_again", "RLock.acquire_again"),  # the inner parts of Condition.wait
    *("RWLock.locked", "RWLock.owner_ended", "RWLock.read", "RWLock.write"),
    *("sync.rwlock.Side.__exit__", "sync.rwlock.Side.release"),
    *("Barrier.abort", "Barrier.reset", "Notify.notify", "Notify.notify_all"),
    *each_of("sync.ownership.OwnerWatch", "stand_by stand_down thread_ended wake"),
    *("sync.ownership.has_ended", "sync.counting.check_count"),
    *("Semaphore.__exit__", "Semaphore.release"),
    # Signals.
    *("signals", "signals.SignalReceiver.__enter__", "signals.SignalReceiver.__exit__"),
    "signals.SignalReceiver.__iter__",
    # Files.
    *("fs.files.File.__enter__", "fs.files.File.__exit__", "fs.files.File.__iter__"),
    "fs.files.File.close",  # done whatever is cancelled, as is the end of a block
    *each_of("fs.files.File", "fileno readable writable seekable"),
    *("fs.atomic.atomic_write", "fs.paths.Steps.__iter__"),
    *each_of("fs.pipes.PipeStream", "fileno isatty send_some close hold_sending send_held"),
    *each_of("fs.pipes", "pipe stdin stdout stderr fd_stream"),
    # Processes.
    *each_of("process.popen.Popen", "__enter__ poll send_signal terminate kill"),
    *("process.ends.Pipes.close", "process.ends.Pipes.for_child", "process.ends.Pipes.streams"),
    *("process.ends.ChildEnds.__enter__", "process.ends.ChildEnds.__exit__"),
    *("process.waiting.pidfd", "process.waiting.until_ended"),  # the latter is for a thread
    # The network.
    *("net.listen", "net.network.SystemNetwork.listen", "net.tcp.tcp_stream"),
    *("net.network.SystemNetwork.connect", "net.tcp.connect_socket"),  # the inner parts of net.connect
    *("net.connecting.connect_to_any", "net.connecting.interleaved"),
    *("net.listen_unix", "net.network.SystemNetwork.listen_unix", "net.unix.listen_unix_socket", "net.unix.unix_path"),
    *("net.network.SystemNetwork.connect_unix", "net.unix.connect_unix_socket"),  # the inner parts of connect_unix
    *("net.unix.UnixListener.close", "net.unix.is_abstract"),
    *("net.network.SystemNetwork.resolve", "net.resolving.by_name"),  # the inner parts of net.resolve
    *("net.resolving.by_number", "net.resolving.number_of"),
    *each_of("net.network", "entered network_of running"),
    *("net.network.SystemNetwork.udp", "net.datagrams.bound_socket"),  # the inner parts of net.udp
    *("net.unix_datagram", "net.unix.unix_datagram_socket", "net.unix.UnixDatagramSocket.close"),
    *each_of("net.datagrams.DatagramSocket", "recv send send_to close"),  # abstract
    *each_of("net.datagrams.DatagramSocket", "__enter__ __exit__ __iter__"),
    "net.datagrams.SystemDatagramSocket.close",
    *each_of("testing.sim.datagrams.SimDatagramSocket", "close take"),
    *each_of("net.serving.Acceptor", "accept close"),  # abstract
    *each_of("net.serving.Acceptor", "__enter__ __exit__ __iter__"),
    *each_of("net.sockets.SocketStream", "set_keepalive set_user_timeout"),
    *("net.stream.Stream.send_held", "net.sockets.SocketStream.send_held"),  # parts of send_file
    *("net.tls.TLSStream.hold_sending", "net.tls.TLSStream.send_held"),
    *each_of("testing.sim.stream.SimStream", "hold_sending send_held"),
    *("net.tcp.Listener.close", "net.sockets.SocketStream.close", "net.sockets.SocketStream.send_some"),
    *("net.polled.PolledSocket.close", "net.polled.PolledSocket.fiber", "net.polled.shut_down"),
    "net.stream.Stream.take_rest",
    *("net.stream.checked_size", "net.datagrams.checked_address"),
    *("net.stream.Stream.discard_received", "net.sockets.SocketStream.discard_received"),  # a part of closing TLS
    *("net.tls.TLSStream.discard_received", "testing.sim.stream.SimStream.discard_received"),
    *("net.stream.Stream.lend", "net.sockets.SocketStream.lend"),  # gives a task nothing
    *(
        "net.stream.Stream.end_loan",
        "net.sockets.SocketStream.end_loan",
        "net.lending.Loan.begin",
        "net.lending.Loan.end",
    ),
    *("net.stream.Stream.send_noted", "net.sockets.SocketStream.send_noted"),
    *("net.polled.PolledSocket.register", "net.polled.PolledSocket.close_for_good"),
    *each_of("net.lending.Loan", "wait peek skip"),  # which no task ever has
    *("net.polled.PolledSocket.wait_readable", "net.polled.PolledSocket.wait_writable"),  # parts of recv and send
    *("net.stream.Stream.__enter__", "net.stream.Stream.__exit__"),
    *("net.stream.Stream.close", "net.stream.Stream.recv", "net.stream.Stream.send_all"),  # abstract
    *("net.stream.Stream.send_some", "net.stream.Stream.shutdown_write"),  # abstract
    "net.stream.Stream.wait_writable",  # abstract
    *("net.tls.start_tls", "net.tls.TLSStream.shake_hands"),  # the inner parts of Stream.start_tls
    *("net.tls.TLSStream.close", "net.tls.TLSStream.peer_certificate", "net.tls.TLSStream.send_some"),
    *each_of("testing.sim.network.SimListener", "arrive close"),
    *each_of("testing.sim.stream.SimStream", "close fail send_some shutdown_write"),
    "testing.sim.memory.memory_stream_pair",
    *("testing.sequencer.Sequencer.__call__", "testing.sequencer.Turn.__exit__"),
    *each_of(
        "testing.sim.network.SimNetwork",
        "alias between change_links coverage forget heal host link listen listen_unix name note partition report",
    ),
    *each_of("testing.sim.network.SimNetwork", "host_of resolve socket_at udp unbind unlisten"),
    "testing.sim.memory.MemoryNetwork.listen",
    *each_of("testing.sim.connection.Connection", "note reset settled vanish"),
    *each_of("testing.sim.flow.At", "alive expire"),
    *each_of("testing.sim.flow.Flow", "allow discard finish read release reset_at send_reset take vanish"),
}


def own_methods(cls: type) -> Iterator[str]:
    """The calls a class of ours defines: public ones, and those that statements make."""
    for name, member in vars(cls).items():
        if name.startswith("select_"):
            continue  # the protocol behind select, whose methods never block
        if (not name.startswith("_") or name in {"__call__", "__enter__", "__exit__", "__iter__", "__next__"}) and (
            inspect.isfunction(member) or isinstance(member, (classmethod, staticmethod))
        ):
            yield name


def public_calls() -> set[str]:
    """Every function and method a user can reach, named by module and class; without the kernel's own names."""
    found: set[str] = set()

    def add(prefix: str, name: str, thing: Any) -> None:
        if inspect.isclass(thing):
            if issubclass(thing, BaseException) or getattr(thing, "_is_protocol", False):
                return
            found.update(f"{prefix}{name}.{method}" for method in own_methods(thing))
        elif inspect.isfunction(thing):
            found.add(f"{prefix}{name}")

    for name in zio.__all__:
        add("", name, getattr(zio, name))
    exported = {id(getattr(zio, name)) for name in zio.__all__}
    for info in pkgutil.walk_packages(zio.__path__, "zio."):
        if info.name.startswith(("zio._core", "zio.lowlevel")):
            continue
        module = importlib.import_module(info.name)
        for name, thing in vars(module).items():
            of_ours = getattr(thing, "__module__", None) == info.name
            if not name.startswith("_") and id(thing) not in exported and of_ours:
                add(info.name.removeprefix("zio.") + ".", name, thing)
    return found


def test_every_public_call_is_in_the_table() -> None:
    """T13: a new call that blocks needs a row."""
    known = {call for row in ROWS for call in row.calls}
    assert public_calls() - known - NOT_BLOCKING == set()
    assert (known | NOT_BLOCKING) - public_calls() == set()
    assert known & NOT_BLOCKING == set()
