"""Fork: the runtime is dead in the child and says so; the parent notices nothing."""

from __future__ import annotations

import os
import select
import signal
import socket
import threading
import traceback
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest

import zio
from tests.zio.helpers_scripts import run_script
from tests.zio.helpers_streams import in_turn, stream_and_peer
from zio.testing import wait_all_parked

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this platform")


@pytest.fixture(autouse=True)
def forking_beside_threads_is_the_point() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*multi-threaded.*fork.*", category=DeprecationWarning)
        yield


class Child:
    """``fn`` in a forked child, which has to end by itself within 10 s; the parent blocks nowhere."""

    def __init__(self, fn: Callable[[], object]) -> None:
        self.pid = os.fork()
        if not self.pid:
            code = 1
            try:
                signal.alarm(10)  # kills a child that hangs
                signal.signal(signal.SIGALRM, signal.SIG_DFL)
                fn()
                code = 0
            except BaseException:
                traceback.print_exc()
            finally:
                os._exit(code)

    def check(self) -> None:
        _, status = os.waitpid(self.pid, 0)
        assert status == 0, f"the child ended with status {status:#x}"


def expect_forked_error(call: Callable[[], object]) -> None:
    with pytest.raises(zio.ForkedError):
        call()


CALLS: dict[str, Callable[[], object]] = {
    "sleep": lambda: zio.sleep(1),
    "spawn and join": lambda: zio.spawn(print).join(1),
    "recv": lambda: zio.Channel[int](0).recv(),
    "send": lambda: zio.Channel[int](0).send(1),
    "event": lambda: zio.Event().wait(),
    "to_thread": lambda: zio.to_thread(print),
    "group": lambda: zio.TaskGroup().__enter__(),
    "select": lambda: zio.select(zio.Channel[int](0), zio.after(1)),
    "connect": lambda: zio.net.connect("127.0.0.1", 1),
}


def test_in_the_child_of_a_task_nothing_can_be_spawned() -> None:
    """T58: a task that never runs would be waited for in vain."""

    def main() -> None:
        with zio.TaskGroup() as group, zio.TaskGroup(limit=5) as limited:

            def in_child() -> None:
                expect_forked_error(lambda: zio.spawn(print))
                expect_forked_error(lambda: group.spawn(print))
                expect_forked_error(lambda: limited.spawn(print))
                expect_forked_error(lambda: group.start(print))
                expect_forked_error(lambda: zio.lowlevel.here().loop.spawn(print))
                assert repr(group).startswith("<TaskGroup of 1 tasks"), "it has the other group, and no task"

            zio.sleep(0)
            Child(in_child).check()
            assert group.spawn(lambda: "here").join() == "here"

    zio.run(main)


def test_in_the_child_what_is_waited_for_can_be_closed() -> None:
    """T58: whom that would wake is in the parent."""

    def main() -> None:
        with stream_and_peer() as (stream, peer):
            reader = zio.spawn(stream.recv, 10)
            channel = zio.Channel[int]()
            receiver = zio.spawn(channel.recv)
            wait_all_parked()

            def in_child() -> None:
                stream.close()
                channel.close()

            Child(in_child).check()
            peer.sendall(b"data")
            assert reader.join() == b"data"
            channel.send(5)
            assert receiver.join() == 5

    zio.run(main)


@pytest.mark.parametrize("call", CALLS)
def test_in_the_child_of_a_task_every_blocking_call_raises_forked_error(call: str) -> None:
    """T58: at once, never a hang."""

    def main() -> None:
        zio.sleep(0)
        Child(lambda: expect_forked_error(CALLS[call])).check()
        zio.sleep(0.001)  # the parent goes on

    zio.run(main)


def test_objects_of_the_parent_raise_forked_error_in_the_child() -> None:
    """T58"""

    def main() -> None:
        channel: zio.Channel[int] = zio.Channel(1)
        lock, task = zio.Lock(), zio.spawn(zio.sleep, 3600)
        with stream_and_peer() as (stream, _):

            def child() -> None:
                for call in (lambda: channel.recv(), lock.acquire, task.join, lambda: stream.recv(1)):
                    expect_forked_error(call)
                stream.close()  # gives the descriptor back, no more

            Child(child).check()
            assert not task.done
        task.cancel()

    zio.run(main)


def test_only_the_forking_task_goes_on_in_the_child() -> None:
    """T58: tasks that were ready run in the parent, not a second time in the child."""
    read_end, write_end = os.pipe()

    def other() -> None:
        os.write(write_end, b"%d " % os.getpid())

    def forking() -> int:
        for _ in range(3):
            zio.spawn(other)
        pid = os.fork()
        if not pid:
            signal.alarm(10)
        return pid

    def main() -> int:
        pid = zio.spawn(forking).join()
        wait_all_parked()
        return pid

    try:
        parent = os.getpid()
        pid = -1
        try:
            pid = zio.run(main)
        finally:
            if os.getpid() != parent:
                os._exit(0)
        os.waitpid(pid, 0)
        assert os.read(read_end, 1000).split() == [b"%d" % parent] * 3
    finally:
        os.close(read_end)
        os.close(write_end)


def test_a_child_that_returns_from_main_ends() -> None:
    """T58: ``zio.run`` returns there too."""

    def main() -> int:
        zio.spawn(zio.sleep, 3600)
        wait_all_parked()
        pid = os.fork()
        if not pid:
            signal.alarm(10)
        return pid

    pid = zio.run(main)
    if not pid:
        os._exit(0)
    assert os.waitpid(pid, 0)[1] == 0


@pytest.mark.skipif(not hasattr(select, "epoll"), reason="about epoll")
def test_the_child_leaves_the_parents_registrations_alone() -> None:
    """T58: the epoll set is shared with the child, so that one ``epoll_ctl`` there would deafen the parent."""

    def main() -> bytes:
        with stream_and_peer() as (stream, peer), stream_and_peer() as (other, _):
            reader = zio.spawn(stream.recv, 100)
            wait_all_parked()

            def child() -> None:
                other.close()
                stream.close()
                peer.close()
                zio.lowlevel.here().loop.poller.remove(stream._io)

            Child(child).check()
            peer.sendall(b"still heard")
            return reader.join()

    assert zio.run(main) == b"still heard"


def test_a_signal_in_the_child_writes_to_no_descriptor_of_the_runtime() -> None:
    """T58: it would wake the parent, or end up in whatever file the child has opened under that number."""

    def main() -> None:
        number = zio.lowlevel.here().loop.poller.signal_fd()

        def child() -> None:
            read_end, write_end = os.pipe()
            os.set_blocking(read_end, False)
            os.dup2(write_end, number)
            signal.signal(signal.SIGUSR1, lambda number, frame: None)
            signal.raise_signal(signal.SIGUSR1)
            with pytest.raises(BlockingIOError):
                os.read(read_end, 1)

        Child(child).check()

    zio.run(main)


def test_control_c_in_the_child_raises_there() -> None:
    """T58: the handler of the parent's runtime must not swallow it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)

    def child() -> None:
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)

    try:
        zio.run(lambda: zio.spawn(lambda: Child(child).check()).join())
    finally:
        signal.signal(signal.SIGINT, before)


def test_a_new_runtime_works_in_the_child_of_a_task() -> None:
    """T58"""

    def talk() -> bytes:
        with stream_and_peer() as (stream, peer):
            peer.sendall(b"hello")
            return zio.spawn(stream.recv, 100).join()

    def child() -> None:
        assert zio.run(talk) == b"hello"
        assert zio.run(zio.to_thread, lambda: 5) == 5

    def main() -> None:
        zio.to_thread(int)  # a pool with an idle thread, which the child has not
        Child(child).check()
        assert zio.to_thread(lambda: 6) == 6

    zio.run(main)


def test_a_new_runtime_works_in_the_child_of_a_pool_thread() -> None:
    """T58"""
    zio.run(zio.to_thread, lambda: Child(lambda: zio.run(zio.sleep, 0)).check())


def test_in_the_child_of_a_plain_script_old_objects_raise_and_new_ones_work(background_runtime: zio.Runtime) -> None:
    """T58: the background runtime is made anew in the child."""
    channel: zio.Channel[int] = zio.Channel(0)
    lock = zio.Lock()
    task = zio.spawn(channel.recv)
    with lock:
        pass

    def child() -> None:
        expect_forked_error(lambda: channel.send(1))
        expect_forked_error(task.join)
        expect_forked_error(lambda: background_runtime.call(int))
        assert zio.background() is not background_runtime
        fresh: zio.Channel[int] = zio.Channel(1)
        fresh.send(7)
        assert fresh.recv() == 7
        assert zio.spawn(lambda: 8).join() == 8
        zio.background().close()

    Child(child).check()
    channel.send(1)
    assert task.join() == 1


def test_a_fork_while_other_threads_are_inside_the_runtime(background_runtime: zio.Runtime) -> None:
    """T58: locks that other threads hold at the moment of the fork are not held in the child."""
    stop = threading.Event()

    def busy() -> None:
        event = zio.Event()
        while not stop.is_set():
            background_runtime.call(int)
            event.set()
            event.clear()

    def child() -> None:
        fresh = zio.Event()
        fresh.set()
        fresh.wait()
        zio.background().close()

    threads = [threading.Thread(target=busy) for _ in range(3)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(20):
            Child(child).check()
    finally:
        stop.set()
        for thread in threads:
            thread.join()


def test_the_child_does_not_wake_the_parents_loop(background_runtime: zio.Runtime) -> None:
    """T58: calls that fail there write nothing to the parent's wake-up descriptor."""
    channel: zio.Channel[int] = zio.Channel(0)
    task = zio.spawn(channel.recv)
    background_runtime.call(wait_all_parked)
    passes = background_runtime.loop.passes

    def child() -> None:
        for _ in range(10):
            expect_forked_error(lambda: channel.send(1))

    Child(child).check()
    assert background_runtime.loop.passes <= passes + 1
    channel.send(1)
    assert task.join() == 1


def test_streams_of_a_socketpair_survive_the_childs_end() -> None:
    """T58: the child ends, and with it its copies of the descriptors; the parent's connection stays."""

    def main() -> bytes:
        loop = zio.lowlevel.here().loop
        left, right = socket.socketpair()
        with zio.net.SocketStream(left, loop) as one, zio.net.SocketStream(right, loop) as other:
            Child(in_turn(one.close, other.close)).check()
            reader = zio.spawn(other.recv, 10)
            wait_all_parked()
            one.send_all(b"alive")
            return reader.join()

    assert zio.run(main) == b"alive"


def test_a_process_of_multiprocessing_has_a_runtime_of_its_own() -> None:
    """T58: spawned, not forked, in the middle of a run."""
    done = run_script("spawns_a_process.py")
    assert (done.stdout, done.stderr) == ("from the child 0\n", "")


# Signals.


def test_the_child_has_the_handlers_and_the_wakeup_fd_from_before_the_run() -> None:
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    assert before[signal.SIGINT] is signal.default_int_handler

    def in_child() -> None:
        assert {number: signal.getsignal(number) for number in before} == before
        assert signal.set_wakeup_fd(-1) == -1

    def main() -> None:
        with zio.signals(signal.SIGTERM, signal.SIGINT) as receiver:
            for fork in (lambda: Child(in_child), lambda: zio.to_thread(Child, in_child)):
                fork().check()
            signal.raise_signal(signal.SIGTERM)  # and the parent has its own still
            assert receiver.wait() is signal.SIGTERM

    zio.run(main)


def test_a_signal_ends_a_child_that_was_forked_where_it_is_received() -> None:
    def main() -> int:
        with zio.signals(signal.SIGTERM):
            child = Child(signal.pause)
            os.kill(child.pid, signal.SIGTERM)
            return os.waitpid(child.pid, 0)[1]

    status = zio.run(main)
    assert os.WIFSIGNALED(status)
    assert os.WTERMSIG(status) == signal.SIGTERM


def test_what_the_parent_had_received_does_not_come_again_in_the_child() -> None:
    taken: list[int] = []

    def in_child(receiver: Any) -> None:
        receiver.__exit__()
        assert not taken

    def main() -> None:
        with zio.signals(signal.SIGUSR1) as receiver:
            signal.raise_signal(signal.SIGUSR1)
            Child(partial(in_child, receiver)).check()
            assert receiver.wait() is signal.SIGUSR1

    before = signal.signal(signal.SIGUSR1, lambda number, frame: taken.append(number))
    try:
        zio.run(main)
    finally:
        signal.signal(signal.SIGUSR1, before)


def test_a_child_may_receive_signals_in_a_run_of_its_own() -> None:
    def own_run() -> signal.Signals:
        assert signal.getsignal(signal.SIGINT) is not signal.default_int_handler  # Control-C is handled as in any run
        with zio.signals(signal.SIGUSR1) as receiver:
            signal.raise_signal(signal.SIGUSR1)
            return receiver.wait()

    def in_child(outer: Any) -> None:
        before = signal.getsignal(signal.SIGUSR1)
        assert zio.run(own_run) is signal.SIGUSR1
        outer.__exit__()
        assert signal.getsignal(signal.SIGUSR1) is before
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
        expect_forked_error(outer.wait)

    def main() -> None:
        with zio.signals(signal.SIGUSR1) as outer:
            Child(partial(in_child, outer)).check()

    zio.run(main)


def test_a_signal_in_a_hook_that_runs_before_ours_is_not_taken_for_the_parents() -> None:
    done = run_script("signal_in_fork_hook.py")
    assert done.returncode == 0, done.stderr
    assert done.stdout == "the child was ended by signal 15\n"


def test_a_child_has_the_signal_handlers_that_there_were_before_the_parents_receivers() -> None:
    """Process.terminate() ends it."""
    heard: list[int] = []
    before = signal.signal(signal.SIGUSR1, lambda number, frame: heard.append(number))

    def main() -> None:
        with zio.signals(signal.SIGUSR1, signal.SIGTERM) as receiver:

            def child() -> None:
                signal.raise_signal(signal.SIGUSR1)
                assert heard == [signal.SIGUSR1]
                assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
                receiver.__exit__(None, None, None)
                assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL

            Child(child).check()
            signal.raise_signal(signal.SIGTERM)
            assert receiver.wait() == signal.SIGTERM

    try:
        zio.run(main)
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert heard == []


# Hooks that were registered before our import run in the child before ours.


def test_a_signal_in_the_child_before_our_hook_goes_to_the_handler_of_before() -> None:
    done = run_script("early_hook.py", "task", "signal", PYTHONWARNINGS="ignore")
    assert done.stdout.splitlines() == ["the previous handler", "None", "signalled", "the parent is well"]


def test_a_stream_that_is_closed_in_the_child_before_our_hook_stays_open_in_the_parent() -> None:
    done = run_script("early_hook.py", "task", "close", PYTHONWARNINGS="ignore")
    assert done.stdout.splitlines() == ["None", "born", "the parent is well"], done.stderr


@pytest.mark.parametrize(
    ("what", "said"),
    [
        ("sleep", {"thread": "None", "task": "ForkedError"}),
        ("recv", {"thread": "ForkedError", "task": "ForkedError"}),
        ("wait", {"thread": "False", "task": "ForkedError"}),
        ("join", {"thread": "0", "task": "ForkedError"}),
        ("background", {"thread": "5", "task": "ForkedError"}),
    ],
)
@pytest.mark.parametrize("where", ["thread", "task"])
def test_what_a_hook_may_do_in_the_child_before_ours(where: str, what: str, said: dict[str, str]) -> None:
    """What is the parent's raises ForkedError, what is the child's own works, and nothing hangs."""
    done = run_script("early_hook.py", where, what, PYTHONWARNINGS="ignore")
    assert done.stdout.splitlines() == [said[where], "born", "the parent is well"], done.stderr
