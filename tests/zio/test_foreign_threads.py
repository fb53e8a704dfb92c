"""Rule 0 from outside: plain threads and tasks of other loops use objects at home elsewhere (T18, T39, T52)."""

from __future__ import annotations

import asyncio
import contextlib
import math
import re
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import greenlet
import pytest

import zio
from tests.zio.helpers_outside import OUTSIDE, Outside, Thread, in_other_loop, parked_calls
from tests.zio.helpers_scripts import run_script
from zio import Channel, Condition, Event, Future, Lock, Semaphore
from zio._core import foreign
from zio.lowlevel import here
from zio.testing import memory_stream_pair, wait_all_parked

T = TypeVar("T")


@contextlib.contextmanager
def frequent_switches() -> Iterator[None]:
    """Have the interpreter switch threads at nearly every instruction, so that rare interleavings are common."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        yield
    finally:
        sys.setswitchinterval(interval)


# Each primitive, used from outside.


@OUTSIDE
def test_a_channel_connects_loops_and_threads(outside: Outside) -> None:
    """Rule 0."""

    def main() -> None:
        there, back = Channel[int](2), Channel[int]()

        def echo() -> str:
            for item in there:
                back.send(item + 1)
            with pytest.raises(zio.ChannelClosed):
                there.recv()
            with pytest.raises(zio.WouldBlock):
                back.try_send(0)
            with pytest.raises(zio.WouldBlock):
                back.try_recv()
            with pytest.raises(TimeoutError):
                back.recv(timeout=0.01)
            back.close()
            return "echoed"

        thread = outside(echo)
        for item in range(100):
            there.send(item)
            assert back.recv() == item + 1
        there.close()
        assert thread.outcome() == "echoed"
        assert back.closed

    zio.run(main)


@OUTSIDE
def test_an_event_is_waited_for_and_set_from_outside(outside: Outside) -> None:
    """Rule 0."""

    def main() -> None:
        go, ready = Event(), Event()

        def answer() -> bool:
            assert ready.wait(timeout=0) is False
            assert go.wait()
            ready.set()
            assert ready.is_set()
            return ready.wait()

        thread = outside(answer)
        parked_calls()
        go.set()
        assert ready.wait(30)
        assert thread.outcome() is True
        Thread(ready.clear).outcome()
        assert not ready.is_set()

    zio.run(main)


@OUTSIDE
def test_a_future_is_settled_and_read_from_outside(outside: Outside) -> None:
    """Rule 0."""

    def main() -> None:
        question, answer, failure = Future[int](), Future[int](), Future[int]()

        def work() -> None:
            answer.set_result(question.result() * 2)
            with pytest.raises(RuntimeError, match="already"):
                answer.set_result(0)
            failure.set_exception(ValueError("no"))
            with pytest.raises(ValueError, match="no"):
                failure.result()

        thread = outside(work)
        parked_calls()
        question.set_result(21)
        assert answer.result(30) == 42
        with pytest.raises(ValueError, match="no"):
            failure.result(30)
        thread.outcome()

    zio.run(main)


@OUTSIDE
def test_a_semaphore_counts_permits_of_all(outside: Outside) -> None:
    """Rule 0."""

    def main() -> None:
        semaphore = Semaphore(1)

        def use() -> None:
            with semaphore:
                assert not semaphore.acquire(blocking=False)
                assert not semaphore.acquire(timeout=0.01)
            semaphore.release()

        outside(use).outcome()
        assert semaphore.value == 2

    zio.run(main)


@OUTSIDE
def test_a_condition_is_waited_for_and_notified_from_outside(outside: Outside) -> None:
    """Rule 0: the lock's owner is the caller, not the task that waits on its behalf."""

    def main() -> None:
        condition, state = Condition(), list[str]()

        def answer() -> bool:
            with condition:
                assert condition.wait_for(lambda: state == ["asked"])
                state.append("answered")
                condition.notify_all()
                assert condition.wait(timeout=0.01) is False
                condition.release()  # so the lock is held again after wait, by this caller
                condition.acquire()
            with pytest.raises(RuntimeError, match="does not hold"):
                condition.notify()
            return True

        thread = outside(answer)
        parked_calls()
        with condition:
            state.append("asked")
            condition.notify()
            assert condition.wait_for(lambda: len(state) == 2, timeout=30)
        assert thread.outcome()

    zio.run(main)


@OUTSIDE
def test_a_lock_taken_outside_belongs_to_the_caller(outside: Outside) -> None:
    """Rule 0: a posted call carries its owner."""

    def main() -> None:
        lock, step = Lock(), Event()

        def hold() -> None:
            lock.acquire()
            with pytest.raises(RuntimeError, match="not re-entrant"):
                lock.acquire()
            step.set()
            assert lock.locked()
            waiter.until_blocked()
            lock.release()
            with pytest.raises(RuntimeError, match="cannot release"):
                lock.release()

        def wait() -> str:
            with lock:
                return "mine"

        waiter = Thread(lambda: step.wait() and wait())
        holder = outside(hold)
        step.wait()
        with pytest.raises(RuntimeError, match="cannot release"):
            lock.release()  # of the other
        assert waiter.outcome() == "mine"
        holder.outcome()
        assert not lock.locked()

    zio.run(main)


def test_a_call_within_a_posted_call_keeps_the_owner() -> None:
    """Rule 0: thread A calls into loop B, which uses a lock of loop C; the lock is A's."""

    def main() -> None:
        lock = Lock()  # at home here
        runtime = Future[zio.Runtime]()
        end = Event()

        def other() -> None:
            runtime.set_result(here().loop.runtime)
            end.wait()

        def through() -> None:
            middle = runtime.result()
            middle.call(lock.acquire)
            with pytest.raises(RuntimeError, match="not re-entrant"):
                lock.acquire()
            lock.release()

        loop = in_other_loop(other)
        Thread(through).outcome()
        end.set()
        loop.outcome()
        assert not lock.locked()

    zio.run(main)


def test_a_lock_breaks_when_its_owner_in_another_loop_ends() -> None:
    """T27 across loops: those who wait learn it in their own loop."""

    def main() -> None:
        lock, taken, gate = Lock(), Event(), Event()

        def take_and_end() -> None:
            def careless() -> None:
                lock.acquire()
                taken.set()
                gate.wait()

            zio.spawn(careless).join()

        thread = in_other_loop(take_and_end)
        taken.wait()
        waiting = zio.spawn(lock.acquire)
        wait_all_parked()
        gate.set()
        with pytest.raises(zio.BrokenLock):
            waiting.join()  # no timeout, whose timer would wake the loop as well
        thread.outcome()
        with pytest.raises(zio.BrokenLock):
            lock.acquire()
        with pytest.raises(zio.BrokenLock):
            Thread(lock.acquire).outcome()

    zio.run(main)


@OUTSIDE
def test_a_lock_is_passed_back_and_forth(outside: Outside) -> None:
    """Mutual exclusion holds between tasks and what comes from outside."""

    def main() -> None:
        lock, inside, count = Lock(), list[int](), [0]

        def use() -> None:
            for _ in range(50):
                with lock:
                    inside.append(1)
                    assert len(inside) == 1
                    count[0] += 1
                    zio.pause()
                    inside.pop()

        threads = [outside(use) for _ in range(2)]
        tasks = [zio.spawn(use) for _ in range(2)]
        for each in tasks:
            each.join()
        for thread in threads:
            thread.outcome()
        assert count == [200]

    zio.run(main)


@OUTSIDE
def test_tasks_are_joined_and_cancelled_from_outside(outside: Outside) -> None:
    """T18: the result, the error, the timeout, and Cancelled for a task that was cancelled."""

    def main() -> None:
        gate = Event()

        def fail() -> None:
            gate.wait()
            raise ValueError("no")

        returns, fails, endless = zio.spawn(lambda: gate.wait() and 42), zio.spawn(fail), zio.spawn(zio.sleep, 3600)

        def watch() -> None:
            with pytest.raises(TimeoutError):
                returns.join(timeout=0.01)
            gate.set()
            for _ in range(2):  # pending at first, ended the second time
                assert returns.join() == 42
                with pytest.raises(ValueError, match="no"):
                    fails.join()
            endless.cancel()
            for _ in range(2):
                with pytest.raises(zio.Cancelled):
                    endless.join()
            endless.cancel()
            assert endless.done

        outside(watch).outcome()

    zio.run(main)


@OUTSIDE
def test_select_from_outside_waits_at_the_home_of_its_sources(outside: Outside) -> None:
    """Rule 0: channels, offers, tasks, events and futures."""

    def main() -> None:
        channel, room, event, future = Channel[str](1), Channel[str](1), Event(), Future[str]()
        room.send("in the way")
        task = zio.spawn(lambda: event.wait() and "done")

        def choose() -> list[Any]:
            return [
                zio.select(item=channel, event=event),
                zio.select(room=room.send_op("offer"), event=event),
                zio.select(future=future, event=event),
                zio.select(task=task),
                zio.select(channel, named=event, timeout=30)[0],
            ]

        thread = outside(choose)
        parked_calls()
        channel.send("item")
        parked_calls()
        assert room.recv() == "in the way"
        parked_calls()
        future.set_result("value")
        parked_calls()
        event.set()
        assert thread.outcome() == [
            ("item", "item"),
            ("room", None),
            ("future", "value"),
            ("task", "done"),
            "named",
        ]
        assert room.recv() == "offer"
        for queue in (channel._receivers, room._senders, event._waiters, future._waiters):
            assert len(queue) == 0

    zio.run(main)


def test_select_over_sources_of_two_loops_is_refused() -> None:
    """Rule 0."""

    def main() -> None:
        here_event, there, end = Event(), Future[Event](), Event()

        def other() -> None:
            there.set_result(Event())
            end.wait()

        thread = in_other_loop(other)
        there_event = there.result()
        with pytest.raises(zio.WrongLoop, match="2 different loops") as caught:
            zio.select(here_event, there_event)
        for event, place in ((here_event, "MainThread"), (there_event, thread.name)):
            told = rf"{re.escape(repr(event))} belongs to <loop of Runtime \d+, in thread '{re.escape(place)}'>"
            assert re.search(told, str(caught.value))
        end.set()
        thread.outcome()

    zio.run(main)


def test_a_plain_thread_spawns_and_sleeps(background_runtime: zio.Runtime) -> None:
    """Design 9: the work is done by the background runtime, the sleep by the thread itself."""
    names: list[str] = []

    def work(number: int) -> int:
        names.append(threading.current_thread().name)
        zio.sleep(0.001)
        return number * 2

    tasks = [zio.spawn(work, number) for number in range(5)]
    zio.sleep(0.001)
    assert [task.join() for task in tasks] == [0, 2, 4, 6, 8]
    assert set(names) == {"zio-background"}


def test_plain_threads_talk_through_the_background_runtime(background_runtime: zio.Runtime) -> None:
    """Objects made and used in plain threads only."""
    channel, done = Channel[int](), Future[int]()

    def consume() -> None:
        done.set_result(sum(channel))

    thread = Thread(consume)
    for item in range(100):
        channel.send(item)
    channel.close()
    assert done.result() == sum(range(100))
    thread.outcome()


# Scopes in plain threads.


def test_a_timeout_block_in_a_plain_thread_ends_a_call_elsewhere(background_runtime: zio.Runtime) -> None:
    """Design, rule 0: nothing is taken by the call that was cut short."""
    channel = Channel[int](1)
    with pytest.raises(TimeoutError, match=r"0\.01"), zio.timeout(0.01):
        channel.recv()
    with zio.move_on_after(0.01) as scope:
        channel.recv()
    assert scope.expired
    channel.send(1)
    assert channel.recv() == 1


def test_a_timeout_block_in_a_plain_thread_ends_a_sleep() -> None:
    """The block's deadline is looked at by the thread itself."""
    with pytest.raises(TimeoutError), zio.timeout(0.01):
        zio.sleep(3600)
    with zio.move_on_after(0.01) as outer, zio.timeout(3600):
        zio.sleep(3600)
    assert outer.expired


@pytest.mark.parametrize("seconds", [None, float("inf"), 1e300, 1e10])
def test_a_timeout_that_never_comes_does_no_harm_in_a_plain_thread(
    seconds: float | None, background_runtime: zio.Runtime
) -> None:
    """T25: None, infinity, and numbers that no lock takes as a timeout."""
    event = Event()
    with zio.timeout(seconds):
        zio.sleep(0.001)
        thread = Thread(event.wait)
        event.set()
        assert event.wait()
    assert thread.outcome()


def test_a_wait_that_has_ended_when_its_block_times_out_counts(background_runtime: zio.Runtime) -> None:
    """T24 in a plain thread: what the call took, it returns."""
    channel = Channel[int](10_000)
    for item in range(2000):
        channel.send(item)
    received = []
    for _ in range(2000):
        with zio.move_on_after(0.0002):
            received.append(channel.recv())
    received += [channel.try_recv() for _ in range(len(channel))]
    assert received == list(range(2000))


@pytest.mark.parametrize("call", ["sleep", "event", "pause", "maybe_pause"])
def test_a_cancel_from_another_thread_ends_what_a_plain_thread_is_in(
    call: str, background_runtime: zio.Runtime
) -> None:
    """T18: also before it has begun, and again and again until the block is left."""
    scope, event, count = zio.CancelScope(), Event(), [0]
    calls: dict[str, Callable[[], object]] = {
        "sleep": lambda: zio.sleep(3600),
        "event": event.wait,
        "pause": zio.pause,
        "maybe_pause": zio.maybe_pause,
    }

    def wait() -> None:
        with scope:
            try:
                while True:
                    calls[call]()
            except zio.Cancelled:
                for again in calls.values():
                    with pytest.raises(zio.Cancelled):
                        again()
                    count[0] += 1
                raise

    thread = Thread(wait)
    if call in {"sleep", "event"}:
        thread.until_blocked()
    scope.cancel()
    thread.outcome()
    assert count == [4]
    assert scope.cancelled_caught


def test_a_shielded_block_in_a_plain_thread_goes_on(background_runtime: zio.Runtime) -> None:
    """T15 in a plain thread."""
    scope, event = zio.CancelScope(), Event()
    log: list[str] = []

    def wait() -> None:
        with scope:
            with zio.shield():
                event.wait()
                log.append("waited")
            zio.sleep(3600)

    thread = Thread(wait)
    thread.until_blocked()
    scope.cancel()
    event.set()
    thread.outcome()
    assert log == ["waited"]
    assert scope.cancelled_caught


@pytest.mark.slow
def test_scopes_are_cancelled_while_their_thread_enters_and_leaves_others() -> None:
    """T18: at any moment; each cancel is seen, none fails."""
    rounds = 6000
    scopes = [zio.CancelScope() for _ in range(rounds)]
    entered = [threading.Lock() for _ in range(rounds)]
    for lock in entered:
        lock.acquire()

    def churn() -> None:
        for scope, lock in zip(scopes, entered, strict=True):
            with scope:
                lock.release()
                while True:
                    with zio.CancelScope(), zio.CancelScope():
                        zio.maybe_pause()

    with frequent_switches():
        thread = Thread(churn)
        for scope, lock in zip(scopes, entered, strict=True):
            lock.acquire()
            scope.cancel()
        thread.outcome()
    assert all(scope.cancelled_caught for scope in scopes)


@OUTSIDE
def test_cancelling_scopes_and_tasks_of_a_loop_that_has_ended_is_no_error(outside: Outside) -> None:
    """T18: whoever cancels need not know."""
    scope, tasks = zio.CancelScope(), list[zio.Task[None]]()

    def main() -> None:
        with scope:
            tasks.append(zio.spawn(zio.sleep, 3600))

    zio.run(main)
    (task,) = tasks
    for _ in range(2):
        outside(scope.cancel).outcome()
        outside(task.cancel).outcome()
    assert task.done


@OUTSIDE
def test_locks_are_released_in_cancelled_scopes_outside(outside: Outside) -> None:
    """Giving is no cancel point: release, set, close, try_send work in a cancelled scope."""

    def main() -> None:
        lock, semaphore, event, channel, future = Lock(), Semaphore(1), Event(), Channel[int](2), Future[int]()

        def work() -> None:
            with zio.CancelScope() as scope, lock, semaphore:
                scope.cancel()
                event.set()
                channel.try_send(1)
                channel.try_send(2)
                assert channel.try_recv() == 1
                channel.close()
                future.set_result(3)
                with pytest.raises(zio.Cancelled):
                    semaphore.acquire()
                zio.sleep(0)

        outside(work).outcome()
        assert not lock.locked()
        assert semaphore.value == 1
        assert event.is_set()
        assert channel.closed
        assert list(channel) == [2]
        assert future.result() == 3

    zio.run(main)


@OUTSIDE
def test_a_call_that_ends_while_it_is_cancelled_loses_nothing(outside: Outside) -> None:
    """Cancel and completion cross on their way between the loops."""

    def main() -> None:
        channel, scopes = Channel[int](math.inf), Channel[zio.CancelScope]()
        got: list[int] = []
        rounds = 300

        def take() -> None:
            for _ in range(rounds):
                scope = zio.CancelScope()
                with scope:
                    with zio.shield():
                        scopes.send(scope)
                    got.append(channel.recv())

        thread = outside(take)
        for item in range(rounds):
            scope = scopes.recv()
            channel.send(item)
            scope.cancel()
        thread.outcome()
        got.extend(channel.recv() for _ in range(len(channel)))
        assert sorted(got) == list(range(rounds))

    with frequent_switches():
        zio.run(main)


class CrossingCall(foreign.ForeignCall):
    """A call whose outcome is known when its cancelled caller looks, while the message about it is still to be sent."""

    known = threading.Event()
    seen = threading.Event()

    def _finish(self, value: Any, error: BaseException | None) -> None:
        self.value, self.error = value, error
        self._done = True
        self.known.set()
        self.seen.wait(30)
        assert self.wake_task is not None
        self.wake_task()

    def _await_outcome(self, loop: Any, fiber: Any) -> None:
        self.known.wait(30)
        super()._await_outcome(loop, fiber)
        self.seen.set()


def test_a_late_message_about_an_outcome_wakes_nobody() -> None:
    """The caller has gone on by then; its next wait must not end."""

    def main() -> None:
        loop, event, scope = here().loop, Event(), zio.CancelScope()
        next_wait = Future[Event]()

        def call() -> bool:
            CrossingCall.known, CrossingCall.seen = threading.Event(), threading.Event()
            with scope:
                assert CrossingCall(loop, event.wait, (), zio.current_task()).wait_in_task(here())
            end = Event()
            next_wait.set_result(end)
            return end.wait()

        thread = in_other_loop(call)
        parked_calls()
        event.set()
        scope.cancel()
        end = next_wait.result()
        end.set()  # behind the late message
        assert thread.outcome() is True

    zio.run(main)


# Objects without a home.

module_event, module_lock, module_channel = Event(), Lock(), Channel[int](1)
module_future, module_semaphore, module_condition = Future[int](), Semaphore(1), Condition()


def test_objects_made_at_import_time_serve_one_run_after_another() -> None:
    """Rule 0: they are at home where they are first waited for, and with the next run somewhere else."""

    def main(number: int) -> None:
        assert module_event.wait(timeout=0.001) is False
        with pytest.raises(TimeoutError):
            module_channel.recv(timeout=0.001)
        waiting = zio.spawn(module_event.wait)
        receiver = zio.spawn(module_channel.recv)
        wait_all_parked()
        module_channel.send(number)
        assert receiver.join() == number
        with module_lock:
            other = zio.spawn(module_lock.acquire, True, 0.001)
            assert other.join() is False
        with module_semaphore, module_condition:
            assert module_condition.wait(timeout=0.001) is False
        with pytest.raises(TimeoutError):
            module_future.result(timeout=0.001)
        module_event.set()
        assert waiting.join()
        module_event.clear()

    for number in range(3):
        zio.run(main, number)


def test_an_object_set_before_any_run_has_no_home_yet() -> None:
    """Rule 0: what never blocks needs no home, so no runtime is started for it."""
    event, channel, future = Event(), Channel[int](1), Future[int]()
    event.set()
    channel.try_send(1)
    future.set_result(2)
    assert channel.try_recv() == 1
    assert future.result() == 2
    assert [thread.name for thread in threading.enumerate() if thread.name.startswith("zio")] == []
    assert zio.run(event.wait)


def test_two_runs_at_once_share_an_object() -> None:
    """Rule 0: the first to wait gives it its home, the other posts."""
    channel, got = Channel[int](), Future[list[int]]()

    def consume() -> None:
        got.set_result(list(channel))

    def produce() -> None:
        for item in range(50):
            channel.send(item)
        channel.close()
        assert got.result() == list(range(50))

    threads = [in_other_loop(consume), in_other_loop(produce)]
    for thread in threads:
        thread.outcome()


def test_a_call_to_a_run_that_ends_meanwhile_raises_runtime_closed() -> None:
    """A wait for what can never come ends with the loop it waits in."""
    started = threading.Event()
    made: list[Event] = []

    def main() -> None:
        made.append(Event())
        started.set()
        parked_calls(2)

    thread = Thread(zio.run, main)
    started.wait()
    waiting = [Thread(made[0].wait), in_other_loop(made[0].wait)]
    thread.outcome()
    for each in waiting:
        with pytest.raises(zio.RuntimeClosed):
            each.outcome()


# What does not work from outside says so.


def test_a_task_group_in_a_plain_thread_names_zio_run() -> None:
    """Rule 0."""
    with pytest.raises(RuntimeError, match=r"zio\.run"):
        zio.TaskGroup().__enter__()


def test_a_task_group_of_another_thread_names_the_way_in() -> None:
    """Rule 0."""

    def main() -> None:
        with zio.TaskGroup() as group:
            thread = Thread(group.spawn, zio.pause)
            with pytest.raises(RuntimeError, match=r"Runtime\.call"):
                thread.outcome()

    zio.run(main)


def test_the_network_in_a_plain_thread_names_zio_run() -> None:
    """Rule 0."""
    for call in (
        lambda: zio.net.connect("127.0.0.1", 1),
        lambda: zio.net.connect("127.0.0.1", 1, timeout=1),
        lambda: zio.net.listen("127.0.0.1", 0),
        lambda: zio.net.resolve("localhost", 1),
        memory_stream_pair,
    ):
        with pytest.raises(RuntimeError, match=r"zio\.run"):
            call()


def test_a_stream_used_in_a_plain_thread_names_zio_run_and_in_another_loop_is_wrong() -> None:
    """Rule 0."""

    def main() -> None:
        with (
            zio.net.listen("127.0.0.1", 0) as listener,
            zio.net.connect("127.0.0.1", listener.port) as stream,
            listener.accept() as other,
        ):
            assert isinstance(stream, zio.net.SocketStream)
            calls: list[Callable[[], object]] = [
                lambda: stream.recv(1),
                lambda: stream.recv_into(bytearray(1)),
                lambda: stream.recv_exactly(1),
                lambda: stream.recv_until(b"x", 1),
                lambda: stream.send_all(b"x"),
                stream.wait_writable,
                listener.accept,
            ]
            for call in calls:
                with pytest.raises(RuntimeError, match=r"zio\.run"):
                    Thread(call).outcome()
                loops = r"to <loop of Runtime \d+, in thread 'MainThread'>, <Task main .*> to <loop of Runtime \d+, in "
                with pytest.raises(zio.WrongLoop, match=loops):
                    in_other_loop(call).outcome()
            other.send_all(b"untouched")
            assert stream.recv_exactly(9) == b"untouched"

    zio.run(main)


def test_blocking_calls_in_a_greenlet_that_is_no_task_are_refused() -> None:
    """T52: they would stop the loop of this thread; the error names the call."""

    def main() -> None:
        event, channel, lock, future = Event(), Channel[int](), Lock(), Future[int]()
        task = zio.spawn(event.wait)
        calls: dict[str, Callable[[], object]] = {
            "Event.wait": event.wait,
            "Channel.recv": channel.recv,
            "Channel.send": lambda: channel.send(1),
            "Lock.acquire": lock.acquire,
            "Future": future.result,
            "Task.join": task.join,
            "sleep": lambda: zio.sleep(1),
            "pause": zio.pause,
            "select": lambda: zio.select(event),
            "spawn": lambda: zio.spawn(zio.pause),
            "to_thread": lambda: zio.to_thread(int),
            "call": lambda: here_runtime.call(event.wait),
        }
        here_runtime = here().loop.runtime
        for call in calls.values():

            def attempt(call: Callable[[], object] = call) -> None:
                with pytest.raises(zio.BlockingNotAllowed):
                    call()

            greenlet.greenlet(attempt).switch()
        for name in ("Event.wait", "Channel.recv", "Lock.acquire", "Task.join"):

            def attempt_named(name: str = name) -> None:
                with pytest.raises(zio.BlockingNotAllowed, match=name):
                    calls[name]()

            greenlet.greenlet(attempt_named).switch()
        # What never blocks works.
        greenlet.greenlet(event.set).switch()
        assert task.join()

    zio.run(main)


def test_a_blocking_call_beside_asyncio_works_and_warns_once(
    background_runtime: zio.Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Design 9."""
    monkeypatch.setattr(foreign, "_warned_asyncio", False)
    event = Event()

    async def main() -> None:
        Thread(event.set)
        assert event.wait()
        assert event.wait()
        zio.sleep(0)

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        asyncio.run(main())
    assert [warning.category for warning in caught] == [RuntimeWarning]
    assert "asyncio" in str(caught[0].message)
    assert caught[0].filename == __file__


# The end of a thread.


@pytest.mark.slow
def test_a_thread_may_end_while_another_one_holds_what_it_has_left() -> None:
    """greenlet 3.5.6 crashes the process there, unless it is told not to search for the holder."""
    done = run_script("threads_end_held.py")
    assert (done.returncode, done.stdout, done.stderr) == (0, "well\n", "")


# Stress.


@contextlib.contextmanager
def watchdog(progress: Callable[[], int], patience: float = 45) -> Iterator[None]:
    """Fail loudly, and not by a hang of the whole run, if ``progress`` stands still for ``patience`` seconds."""
    over = threading.Event()
    stalled: list[int] = []
    runtime = here().loop.runtime

    def watch() -> None:
        last, since = -1, time.monotonic()
        while not over.wait(0.1):
            now = progress()
            if now != last:
                last, since = now, time.monotonic()
            elif time.monotonic() - since > patience:
                stalled.append(now)
                runtime.loop.post(runtime.loop.main.cancel, optional=True)
                return

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
        assert not stalled, f"no progress beyond {stalled}"


@pytest.mark.slow
def test_events_set_by_four_threads_wake_every_time() -> None:
    """T39: ping-pong over events; a lost wake-up stands still."""

    def main() -> None:
        rounds, threads = 20_000, 4
        there = [[Event() for _ in range(rounds)] for _ in range(threads)]
        back = [[Event() for _ in range(rounds)] for _ in range(threads)]
        done = [0] * threads

        def answer(number: int) -> None:
            for question, reply in zip(there[number], back[number], strict=True):
                question.wait()
                reply.set()

        def ask(number: int) -> None:
            for question, reply in zip(there[number], back[number], strict=True):
                question.set()
                reply.wait()
                done[number] += 1

        workers = [Thread(answer, number) for number in range(threads)]
        with watchdog(lambda: sum(done)), zio.TaskGroup() as group:
            for number in range(threads):
                group.spawn(ask, number)
        for worker in workers:
            worker.outcome()
        assert done == [rounds] * threads

    zio.run(main)


@pytest.mark.slow
def test_channels_filled_by_four_threads_and_loops_lose_nothing() -> None:
    """T39: two plain threads and two loops send; tasks and threads receive."""

    def main() -> None:
        count = 25_000
        channel = Channel[tuple[int, int]](16)
        received: list[list[tuple[int, int]]] = []

        def produce(number: int) -> None:
            for item in range(count):
                channel.send((number, item))

        def consume() -> None:
            mine: list[tuple[int, int]] = []
            received.append(mine)
            mine.extend(channel)

        producers = [
            Thread(produce, 0),
            Thread(produce, 1),
            in_other_loop(produce, 2),
            in_other_loop(produce, 3),
        ]
        consumers = [zio.spawn(consume), zio.spawn(consume)]
        outside = [Thread(consume), in_other_loop(consume)]
        with watchdog(lambda: sum(map(len, received))):
            for producer in producers:
                producer.outcome()
            channel.close()
            for task in consumers:
                task.join()
            for thread in outside:
                thread.outcome()
        everything = sorted(item for mine in received for item in mine)
        assert everything == [(number, item) for number in range(4) for item in range(count)]
        for mine in received:
            for number in range(4):  # each consumer sees each producer's items in order
                of_one = [item for who, item in mine if who == number]
                assert of_one == sorted(of_one)

    zio.run(main)


@pytest.mark.slow
def test_a_lock_contended_by_threads_and_loops_stays_usable_under_cancels() -> None:
    """T39, T17: timeouts and cancels from everywhere."""

    def main() -> None:
        lock, inside, entered, rounds = Lock(), [0], [0], [0]

        def use() -> None:
            for turn in range(200):
                with zio.move_on_after(0.0005 if turn % 3 == 0 else None), lock:
                    inside[0] += 1
                    assert inside[0] == 1
                    entered[0] += 1
                    if turn % 5 == 0:
                        try:
                            zio.pause()
                        finally:
                            inside[0] -= 1
                    else:
                        inside[0] -= 1
                rounds[0] += 1

        outside = [Thread(use), Thread(use), in_other_loop(use), in_other_loop(use)]
        with watchdog(lambda: rounds[0]), zio.TaskGroup() as group:
            for _ in range(2):
                group.spawn(use)
            for thread in outside:
                group.spawn(thread.outcome)
        assert entered[0] > 0
        assert inside == [0]
        assert lock.acquire(timeout=30)
        lock.release()

    zio.run(main)


@pytest.mark.slow
def test_readers_and_writers_of_threads_and_loops_keep_apart_under_cancels() -> None:
    def main() -> None:
        lock, readers, writers, rounds = zio.RWLock(), set[int](), set[int](), [0]

        def use(number: int) -> None:
            for turn in range(150):
                exclusive = (turn + number) % 4 == 0
                side, inside = (lock.write(), writers) if exclusive else (lock.read(), readers)
                with zio.move_on_after(0.0005 if turn % 3 == 0 else None), side:
                    inside.add(number)
                    try:
                        assert not writers or (writers == {number} and not readers)
                        if turn % 5 == 0:
                            zio.pause()
                    finally:
                        inside.remove(number)
                rounds[0] += 1

        outside = [Thread(use, 0), Thread(use, 1), in_other_loop(use, 2), in_other_loop(use, 3)]
        with watchdog(lambda: rounds[0]), zio.TaskGroup() as group:
            for number in (4, 5):
                group.spawn(use, number)
            for thread in outside:
                group.spawn(thread.outcome)
        assert not lock.locked()
        assert not lock._watches

    zio.run(main)


@pytest.mark.slow
def test_a_barrier_holds_threads_and_loops_together() -> None:
    def main() -> None:
        rounds, parties = 300, 5
        barrier, at, leaders = zio.Barrier(parties), [0] * parties, [0]

        def party(number: int) -> None:
            for turn in range(rounds):
                at[number] = turn
                if barrier.wait() == 0:
                    assert set(at) == {turn}  # nobody has left the round before
                    leaders[0] += 1
                barrier.wait()

        outside = [Thread(party, 0), Thread(party, 1), in_other_loop(party, 2), in_other_loop(party, 3)]
        with watchdog(lambda: sum(at)):
            party(4)
            for thread in outside:
                thread.outcome()
        assert leaders == [rounds]

    zio.run(main)


@pytest.mark.slow
def test_a_broadcast_of_threads_and_loops_reaches_every_receiver() -> None:
    def main() -> None:
        count = 500
        broadcast = zio.Broadcast[tuple[int, int]](5000)
        logs: list[list[tuple[int, int]]] = []

        def listen(receiver: Any) -> None:
            mine: list[tuple[int, int]] = []
            logs.append(mine)
            mine.extend(receiver)

        def send(number: int) -> None:
            for item in range(count):
                broadcast.send((number, item))

        receivers = [broadcast.subscribe() for _ in range(4)]
        listeners = [Thread(listen, receivers[0]), in_other_loop(listen, receivers[1])]
        tasks = [zio.spawn(listen, receiver) for receiver in receivers[2:]]
        with watchdog(lambda: sum(map(len, logs))):
            for sender in [Thread(send, 0), in_other_loop(send, 1), Thread(send, 2)]:
                sender.outcome()
            broadcast.close()
            for task in tasks:
                task.join()
            for listener in listeners:
                listener.outcome()
        assert len(logs) == 4
        for log in logs:
            assert log == logs[0]
            assert sorted(log) == [(number, item) for number in range(3) for item in range(count)]

    zio.run(main)


def test_threads_are_woken_when_the_loop_is_about_to_poll_and_at_once_while_tasks_are_ready() -> None:
    def main() -> None:
        loop = zio.lowlevel.here().loop
        woken: list[str] = []
        loop.wake_thread(lambda: woken.append("idle"))
        assert woken == []
        zio.sleep(0.001)
        assert woken == ["idle"]
        other = zio.spawn(woken.append, "task")
        loop.wake_thread(lambda: woken.append("busy"))
        assert woken == ["idle", "busy"]
        other.join()

    zio.run(main)


def test_a_thread_that_was_to_be_woken_is_when_the_run_ends() -> None:
    woken: list[int] = []

    def main() -> None:
        zio.lowlevel.here().loop.wake_thread(lambda: woken.append(1))

    zio.run(main)
    assert woken == [1]


def test_nothing_is_left_of_a_call_that_is_over(background_runtime: zio.Runtime) -> None:
    with Lock():  # posted
        pass
    with pytest.raises(TimeoutError):
        Channel[int]().recv(timeout=0.001)
    assert background_runtime.loop.callers == {}


@pytest.mark.usefixtures("background_runtime")
def test_a_call_that_cancels_its_own_task_is_cancelled_and_the_runtime_has_not_ended() -> None:
    def call() -> None:
        zio.current_task().cancel()
        zio.sleep(0)

    with pytest.raises(zio.Cancelled):
        zio.background().call(call)
