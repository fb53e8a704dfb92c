"""Broadcast: everything to everybody; who is slow is told what it has missed."""

from __future__ import annotations

import random
from typing import Any

import pytest

import zio
from tests.zio.helpers_outside import OUTSIDE, Outside, parked_calls
from zio.testing import run_virtual, wait_all_parked


def test_every_receiver_gets_every_item_in_order() -> None:
    def main() -> None:
        broadcast = zio.Broadcast[int](10)
        receivers = [broadcast.subscribe() for _ in range(3)]
        tasks: list[zio.Task[list[int]]] = [zio.spawn(list, receiver) for receiver in receivers]
        for number in range(10):
            broadcast.send(number)
            if number % 3 == 0:
                zio.pause()
        broadcast.close()
        assert [task.join() for task in tasks] == [list(range(10))] * 3

    zio.run(main)


def test_a_receiver_gets_only_what_is_sent_after_it_has_subscribed() -> None:
    def main() -> None:
        broadcast = zio.Broadcast[str](10)
        broadcast.send("before")
        receiver = broadcast.subscribe()
        broadcast.send("after")
        assert receiver.recv() == "after"
        with pytest.raises(zio.WouldBlock):
            receiver.try_recv()

    zio.run(main)


def test_a_slow_receiver_is_told_once_what_it_has_missed_and_goes_on_with_the_oldest_left() -> None:
    def main() -> None:
        broadcast = zio.Broadcast[int](3)
        receiver = broadcast.subscribe()
        for number in range(10):
            broadcast.send(number)
        assert len(receiver) == 3
        with pytest.raises(zio.Lagged, match="7 items") as caught:
            receiver.recv()
        assert caught.value.skipped == 7
        assert caught.value.source is receiver
        assert [receiver.recv() for _ in range(3)] == [7, 8, 9]
        assert len(receiver) == 0

    zio.run(main)


def test_a_receiver_that_is_full_has_missed_nothing() -> None:
    def main() -> None:
        broadcast = zio.Broadcast[int](3)
        receiver = broadcast.subscribe()
        for number in range(3):
            broadcast.send(number)
        assert [receiver.recv() for _ in range(3)] == [0, 1, 2]

    zio.run(main)


def test_who_lags_again_is_told_again() -> None:
    def main() -> None:
        broadcast = zio.Broadcast[int](2)
        receiver = broadcast.subscribe()
        skipped = []
        for more in (3, 5):
            for number in range(more):
                broadcast.send(number)
            with pytest.raises(zio.Lagged) as caught:
                receiver.try_recv()
            skipped.append(caught.value.skipped)
        # Of the second eight it had two to come, which were overwritten with three more.
        assert skipped == [1, 5]

    zio.run(main)


def test_a_loop_goes_on_after_it_was_told() -> None:
    def main() -> None:
        broadcast = zio.Broadcast[int](2)
        receiver = broadcast.subscribe()
        for number in range(5):
            broadcast.send(number)
        broadcast.close()
        with pytest.raises(zio.Lagged):
            list(receiver)
        assert list(receiver) == [3, 4]

    zio.run(main)


def test_sending_never_waits() -> None:
    def main() -> None:
        broadcast = zio.Broadcast[int](1)
        broadcast.subscribe()
        ran: list[bool] = []
        zio.spawn(ran.append, True)
        for number in range(1000):
            broadcast.send(number)
        assert ran == []

    zio.run(main)


def test_a_closed_broadcast_gives_out_what_is_there_first() -> None:
    def main() -> None:
        broadcast = zio.Broadcast[int](5)
        receiver = broadcast.subscribe()
        broadcast.send(1)
        broadcast.close()
        broadcast.close()
        assert broadcast.closed
        assert receiver.recv() == 1
        for take in (receiver.recv, receiver.try_recv):
            with pytest.raises(zio.ChannelClosed) as caught:
                take()
            assert caught.value.source is receiver
        with pytest.raises(zio.ChannelClosed, match="send on a closed"):
            broadcast.send(2)
        with pytest.raises(zio.ChannelClosed):
            broadcast.subscribe().recv()

    zio.run(main)


def test_close_ends_the_wait_of_every_receiver() -> None:
    def main() -> None:
        broadcast = zio.Broadcast[int](5)
        tasks = [zio.spawn(broadcast.subscribe().recv) for _ in range(3)]
        wait_all_parked()
        broadcast.close()
        for task in tasks:
            with pytest.raises(zio.ChannelClosed):
                task.join()

    zio.run(main)


def test_tasks_that_share_a_receiver_share_its_items() -> None:
    def main() -> None:
        broadcast = zio.Broadcast[int](100)
        receiver = broadcast.subscribe()
        tasks: list[zio.Task[list[int]]] = [zio.spawn(list, receiver) for _ in range(3)]
        for number in range(50):
            broadcast.send(number)
            if number % 7 == 0:
                zio.pause()
        broadcast.close()
        shares = [task.join() for task in tasks]
        assert sorted(number for share in shares for number in share) == list(range(50))
        assert all(share == sorted(share) for share in shares)

    zio.run(main)


def test_a_recv_that_is_cut_off_leaves_the_item_to_the_next() -> None:
    def main() -> None:
        broadcast = zio.Broadcast[str](5)
        receiver = broadcast.subscribe()
        task = zio.spawn(receiver.recv)
        wait_all_parked()
        task.cancel()
        broadcast.send("item")
        assert receiver.recv() == "item"
        with pytest.raises(TimeoutError, match="within 2 s"):
            receiver.recv(timeout=2)
        assert zio.now() == 2
        broadcast.send("another")
        assert receiver.recv() == "another"

    run_virtual(main)


def test_an_item_at_the_instant_of_the_timeout_or_cancel_is_received() -> None:
    def main() -> None:
        broadcast = zio.Broadcast[str](5)
        receiver, got = broadcast.subscribe(), list[str]()

        def send_later() -> None:
            zio.sleep(1)
            broadcast.send("item")

        zio.spawn(send_later)
        assert receiver.recv(timeout=1) == "item"
        task = zio.spawn(lambda: got.append(receiver.recv()))
        wait_all_parked()
        broadcast.send("two")
        task.cancel()
        task.join()
        assert got == ["two"]

    run_virtual(main)


def test_select_receives_lags_and_ends_like_recv() -> None:
    def main() -> None:
        broadcast = zio.Broadcast[int](2)
        receiver, other = broadcast.subscribe(), zio.Channel[int]()
        chosen = zio.spawn(lambda: zio.select(other, it=receiver))
        wait_all_parked()
        broadcast.send(1)
        assert chosen.join() == ("it", 1)
        for number in range(2, 5):
            broadcast.send(number)
        with pytest.raises(zio.Lagged) as lagged:
            zio.select(other, receiver)
        assert (lagged.value.skipped, lagged.value.source) == (1, receiver)
        broadcast.close()
        assert [zio.select(other, receiver)[1] for _ in range(2)] == [3, 4]
        with pytest.raises(zio.ChannelClosed) as closed:
            zio.select(other, receiver)
        assert closed.value.source is receiver

    zio.run(main)


def test_a_select_over_two_receivers_takes_from_one() -> None:
    def main() -> None:
        broadcast = zio.Broadcast[int](5)
        one, two = broadcast.subscribe(), broadcast.subscribe()
        chosen = zio.spawn(lambda: zio.select(one, two))
        wait_all_parked()
        broadcast.send(1)
        receiver, value = chosen.join()
        assert value == 1
        assert len(one) + len(two) == 1
        assert len(receiver) == 0
        assert not broadcast._awaited

    zio.run(main)


@pytest.mark.parametrize("capacity", [0, -1, 1.5])
def test_a_capacity_that_is_no_count_is_refused(capacity: int) -> None:
    with pytest.raises(ValueError, match=f"from 1 up, not {capacity}"):
        zio.Broadcast[int](capacity)


def test_a_receiver_is_true_even_if_empty() -> None:
    receiver = zio.Broadcast[int](1).subscribe()
    assert receiver
    assert len(receiver) == 0


@pytest.mark.parametrize("seed", range(10))
def test_under_random_cancels_each_receiver_accounts_for_every_item_once(seed: int) -> None:
    """What is received and what was told as missed are all items, in order, nothing twice."""

    def main() -> None:
        rand = random.Random(seed)
        broadcast = zio.Broadcast[int](4)
        total = 300

        def receive(receiver: Any, seen: list[int]) -> None:
            while True:
                try:
                    with zio.move_on_after(rand.random() / 50):
                        if rand.random() < 0.5:
                            seen.append(receiver.recv(timeout=rand.choice([None, 0.001])))
                        else:
                            seen.append(zio.select(receiver, zio.Event())[1])
                except zio.Lagged as error:
                    seen.extend([-1] * error.skipped)
                except TimeoutError:
                    continue
                except zio.ChannelClosed:
                    return
                zio.sleep(rand.choice([0, 0, 0.01]))

        logs: list[list[int]] = [[] for _ in range(4)]
        with zio.TaskGroup() as group:
            for log in logs:
                group.spawn(receive, broadcast.subscribe(), log)
            for number in range(total):
                broadcast.send(number)
                zio.sleep(rand.choice([0, 0, 0.001, 0.01]))
            broadcast.close()
        for log in logs:
            assert len(log) == total
            assert all(number in {place, -1} for place, number in enumerate(log))
        assert any(-1 in log for log in logs)

    run_virtual(main)


@OUTSIDE
def test_it_is_used_from_outside(outside: Outside) -> None:
    def main() -> None:
        broadcast = zio.Broadcast[int](5)
        receiver = outside(broadcast.subscribe).outcome()
        mine = broadcast.subscribe()
        taker = outside(receiver.recv)
        parked_calls()
        outside(broadcast.send, 1).outcome()
        assert taker.outcome() == mine.recv() == 1
        broadcast.send(2)
        broadcast.send(3)
        assert outside(receiver.try_recv).outcome() == 2
        outside(broadcast.close).outcome()
        assert outside(list, receiver).outcome() == [3]

    zio.run(main)
