"""The virtual clock, wait_all_parked, and runs that can be repeated."""

from __future__ import annotations

import sys
import threading
import time
from functools import partial

import pytest

import zio
from tests.zio.helpers_streams import in_turn, stream_and_peer
from zio.process import PIPE, Popen, run
from zio.testing import MemoryNetwork, VirtualClock, run_virtual, wait_all_parked


def test_an_hour_takes_no_time() -> None:
    """T66"""

    def main() -> float:
        begin = zio.now()
        zio.sleep(3600)
        return zio.now() - begin

    assert run_virtual(main) == 3600


def test_an_hour_of_sleeping_and_retrying_takes_no_time() -> None:
    """T66: a client that tries again and again, beside one that beats once a second."""

    def main() -> tuple[float, int, int]:
        attempts = beats = 0

        def heart() -> None:
            nonlocal beats
            while True:
                zio.sleep(1)
                beats += 1

        with zio.TaskGroup() as group:
            group.spawn(heart)
            pause = 1.0
            while zio.now() < 3600:
                attempts += 1
                try:
                    with zio.timeout(5):
                        zio.Event().wait()
                except TimeoutError:
                    zio.sleep(pause)
                    pause = min(pause * 2, 60)
            group.cancel()
        return zio.now(), attempts, beats

    now, attempts, beats = run_virtual(main)
    assert 3600 <= now <= 3665
    assert attempts == 60
    assert beats in (int(now) - 1, int(now))


def test_sleepers_wake_in_the_order_of_their_deadlines_at_exactly_these() -> None:
    """T66"""

    def main() -> list[tuple[float, str]]:
        log: list[tuple[float, str]] = []

        def sleeper(seconds: float, name: str) -> None:
            zio.sleep(seconds)
            log.append((zio.now(), name))

        with zio.TaskGroup() as group:
            group.spawn(sleeper, 3.0, "third")
            group.spawn(sleeper, 1.0, "first")
            group.spawn(sleeper, 2.5, "second")
        return log

    assert run_virtual(main) == [(1.0, "first"), (2.5, "second"), (3.0, "third")]


def test_time_stands_still_while_any_task_can_run() -> None:
    """T66"""

    def main() -> bool:
        sleeper = zio.spawn(zio.sleep, 0.001)
        for _ in range(10_000):
            zio.pause()
        return sleeper.done or zio.now() != 0

    assert run_virtual(main) is False


def test_time_stands_still_while_a_thread_works_for_the_runtime() -> None:
    """T66"""

    def main() -> tuple[float, float]:
        release = threading.Event()
        sleeper = zio.spawn(zio.sleep, 3600)
        job = zio.spawn(zio.to_thread, in_turn(release.wait, partial(time.sleep, 0.01)))
        zio.spawn(release.set)
        job.join()
        at_the_end_of_the_job = zio.now()
        sleeper.join()
        return at_the_end_of_the_job, zio.now()

    assert run_virtual(main) == (0, 3600)


def test_data_in_a_socket_comes_before_any_timer() -> None:
    """T66: what the kernel holds already is there now."""

    def main() -> tuple[bytes, float]:
        with stream_and_peer() as (stream, peer):
            peer.sendall(b"hello")
            with zio.timeout(1):
                data = stream.recv(100)
            reader = zio.spawn(stream.recv, 100)
            timer = zio.spawn(zio.sleep, 5)
            wait_all_parked()
            peer.sendall(b"again")
            assert reader.join() == b"again"
            now = zio.now()
            timer.join()
            return data, now

    assert run_virtual(main) == (b"hello", 0)


def test_timeouts_run_on_the_virtual_clock() -> None:
    """T66"""

    def main() -> float:
        with pytest.raises(TimeoutError), zio.timeout(1800):
            zio.Event().wait(timeout=3600)
        with pytest.raises(TimeoutError):
            zio.Channel[int](0).recv(timeout=1800)
        zio.select(zio.after(400))
        return zio.now()

    assert run_virtual(main) == 4000


def test_a_clock_may_start_anywhere_and_be_looked_at_from_outside() -> None:
    """T66"""
    clock = VirtualClock(start=1000.0)
    zio.Runtime(clock=clock).run(zio.sleep, 10)
    assert clock.now() == 1010


def test_a_whole_program_runs_in_the_memory_network_under_the_virtual_clock() -> None:
    """T66"""

    def main() -> list[float]:
        arrivals = []

        def serve(listener: object) -> None:
            for stream in listener:  # type: ignore[attr-defined]
                while data := stream.recv(100):
                    zio.sleep(10)
                    stream.send_all(data)

        with zio.net.listen("server", 4222) as listener:
            server = zio.spawn(serve, listener)
            with zio.net.connect("server", 4222) as stream:
                for _ in range(3):
                    stream.send_all(b"ping")
                    assert stream.recv(100) == b"ping"
                    arrivals.append(zio.now())
            wait_all_parked()
            server.cancel()
        return arrivals

    assert run_virtual(main, network=MemoryNetwork()) == [10, 20, 30]


# wait_all_parked (T67).


def test_it_returns_only_when_every_other_task_waits() -> None:
    """T67"""

    def main() -> int:
        count = 0

        def worker() -> None:
            nonlocal count
            for _ in range(100):
                count += 1
                zio.pause()
            zio.Event().wait()

        for _ in range(3):
            zio.spawn(worker)
        wait_all_parked()
        return count

    assert zio.run(main) == run_virtual(main) == 300


def test_it_moves_no_time() -> None:
    """T67, T66: the clock jumps only when nobody waits for quiet."""

    def main() -> float:
        zio.spawn(zio.sleep, 5)
        wait_all_parked()
        wait_all_parked()
        return zio.now()

    assert run_virtual(main) == 0


def test_it_sees_what_has_arrived_at_a_socket() -> None:
    """T67"""

    def main() -> bool:
        with stream_and_peer() as (stream, peer):
            reader = zio.spawn(stream.recv, 100)
            wait_all_parked()
            peer.sendall(b"x")
            wait_all_parked()
            return reader.done

    assert zio.run(main)
    assert run_virtual(main)


def test_it_sees_what_another_thread_has_posted() -> None:
    """T67"""

    def main() -> bool:
        event = zio.Event()
        waiting = zio.spawn(event.wait)
        wait_all_parked()
        zio.lowlevel.here().loop.post(event.set)
        wait_all_parked()
        return waiting.done

    assert zio.run(main)


def test_several_tasks_may_wait_for_quiet() -> None:
    """T67: one after the other, each when the others wait."""

    def main() -> list[str]:
        log: list[str] = []

        def worker(name: str) -> None:
            wait_all_parked()
            log.append(name)

        with zio.TaskGroup() as group:
            group.spawn(worker, "one")
            group.spawn(worker, "two")
            group.spawn(in_turn(*[zio.pause] * 10, partial(log.append, "worker")))
        return log

    log = zio.run(main)
    assert log[0] == "worker"
    assert sorted(log) == ["one", "two", "worker"]


def test_a_cancelled_wait_for_quiet_is_forgotten() -> None:
    """T67"""

    def main() -> int:
        loop = zio.lowlevel.here().loop
        with zio.CancelScope() as scope:
            scope.cancel()
            wait_all_parked()
        with zio.move_on_after(0.001):
            spinner = zio.spawn(in_turn(*[zio.pause] * 1_000_000))
            wait_all_parked()
        spinner.cancel()
        return len(loop.idle_waiters)

    assert zio.run(main) == 0


# Repeatable runs (T7).


def _order(seed: int | None) -> list[int]:
    def main() -> list[int]:
        log: list[int] = []

        def worker(number: int) -> None:
            for _ in range(3):
                zio.pause()
                log.append(number)

        with zio.TaskGroup() as group:
            for number in range(10):
                group.spawn(worker, number)
        return log

    return run_virtual(main, seed=seed)


def test_the_same_seed_gives_the_same_order_and_another_one_another() -> None:
    """T7"""
    assert _order(5) == _order(5)
    assert len({tuple(_order(seed)) for seed in range(10)}) == 10


def test_the_environment_may_give_the_seed(monkeypatch: pytest.MonkeyPatch) -> None:
    """T7"""
    monkeypatch.setenv("ZIO_SCHED_SEED", "5")
    assert _order(None) == _order(5)
    monkeypatch.delenv("ZIO_SCHED_SEED")
    assert _order(None) == [number for _ in range(3) for number in range(10)]


def test_the_seed_also_feeds_the_generator_of_the_runtime() -> None:
    """T7"""

    def draw() -> float:
        runtime = zio.lowlevel.runtime_here()
        assert runtime is not None
        return runtime.random.random()

    assert run_virtual(draw, seed=1) == run_virtual(draw, seed=1) != run_virtual(draw, seed=2)


# Real things beside virtual time.


def test_a_process_is_not_timed_out_by_a_jump() -> None:
    def main() -> int:
        return run([sys.executable, "-c", "import time; time.sleep(0.2)"], timeout=60).returncode

    assert run_virtual(main) == 0


def test_what_a_process_writes_is_not_timed_out_by_a_jump() -> None:
    out: list[bytes] = []

    def main() -> None:
        command = [sys.executable, "-c", "import os, time; time.sleep(0.2); os.write(1, b'late')"]
        with Popen(command, stdout=PIPE) as process, zio.timeout(60):
            assert process.stdout is not None
            out.append(process.stdout.recv(100))

    run_virtual(main)
    assert out == [b"late"]


def test_a_real_socket_is_not_timed_out_by_a_jump() -> None:
    def main() -> tuple[bytes, bool]:
        with stream_and_peer() as (stream, peer):
            timer = threading.Timer(0.1, peer.sendall, (b"late",))
            timer.start()
            with zio.timeout(60):
                data = stream.recv(100)
            timer.join()
            return data, 0 < zio.now() < 60

    assert run_virtual(main) == (b"late", True)


def test_a_timeout_of_a_real_socket_comes_all_the_same() -> None:
    def main() -> float:
        with stream_and_peer() as (stream, _), pytest.raises(TimeoutError), zio.timeout(0.05):
            stream.recv(100)
        return zio.now()

    assert run_virtual(main) == 0.05


def test_with_a_time_of_quiet_the_clock_jumps_over_a_socket_that_stays_silent() -> None:
    def main() -> float:
        with stream_and_peer() as (stream, _), zio.move_on_after(3600):
            stream.recv(100)
        return zio.now()

    for quiet in (0, 0.001):
        assert zio.Runtime(clock=VirtualClock(quiet=quiet)).run(main) == 3600


def test_a_time_of_quiet_leaves_other_threads_their_time() -> None:
    def main() -> bool:
        event = zio.Event()
        threading.Thread(target=event.set).start()
        return event.wait(timeout=3600)

    assert zio.Runtime(clock=VirtualClock(quiet=10)).run(main)


@pytest.mark.parametrize("quiet", [-1, float("inf"), float("nan")])
def test_a_time_of_quiet_must_be_one(quiet: float) -> None:
    with pytest.raises(ValueError, match="quiet="):
        VirtualClock(quiet=quiet)
