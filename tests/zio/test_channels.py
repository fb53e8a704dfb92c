"""Channels: order, capacity, closing, and that no item is ever lost or delivered twice (T30, T31)."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable

import pytest

import zio
from zio import Channel, ChannelClosed, WouldBlock
from zio.testing import run_virtual, wait_all_parked


def test_without_capacity_a_send_waits_for_its_receiver() -> None:
    """T30."""

    def main() -> None:
        channel = Channel[int]()
        sender = zio.spawn(channel.send, 1)
        wait_all_parked()
        assert not sender.done
        assert len(channel) == 0
        assert channel.recv() == 1
        sender.join()

    zio.run(main)


@pytest.mark.parametrize("capacity", [1, 3])
def test_sends_up_to_the_capacity_do_not_wait(capacity: int) -> None:
    """T30."""

    def main() -> None:
        channel = Channel[int](capacity)
        for item in range(capacity):
            channel.send(item)
        assert len(channel) == capacity
        late = zio.spawn(channel.send, capacity)
        wait_all_parked()
        assert not late.done
        assert [channel.recv() for _ in range(capacity + 1)] == list(range(capacity + 1))
        late.join()

    zio.run(main)


@pytest.mark.parametrize("capacity", [0, 1, 3, math.inf])
@pytest.mark.parametrize("items", [0, 1])
def test_a_closed_channel_takes_nothing_though_it_has_room(capacity: float, items: int) -> None:
    def main() -> None:
        channel = Channel[int](capacity)
        for item in range(items if capacity else 0):
            channel.send(item)
        before = len(channel)
        channel.close()
        with pytest.raises(ChannelClosed):
            channel.send(1)
        with pytest.raises(ChannelClosed):
            channel.try_send(1)
        assert len(channel) == before

    zio.run(main)


def test_infinite_capacity_never_waits() -> None:
    """T30."""

    def main() -> None:
        channel = Channel[int](math.inf)
        for item in range(1000):
            channel.send(item)
        assert [channel.recv() for _ in range(1000)] == list(range(1000))

    zio.run(main)


@pytest.mark.parametrize("capacity", [-1, 0.5, -math.inf, math.nan, "1"])
def test_a_capacity_that_is_no_count_is_refused(capacity: float) -> None:
    """T30."""
    with pytest.raises(ValueError, match="capacity"):
        Channel[int](capacity)


@pytest.mark.parametrize("capacity", [0, 1, 2])
def test_blocked_senders_are_served_in_their_order(capacity: int) -> None:
    """T30."""

    def main() -> None:
        channel = Channel[int](capacity)
        for item in range(6):
            zio.spawn(channel.send, item)
            wait_all_parked()
        assert [channel.recv() for _ in range(6)] == list(range(6))

    zio.run(main)


def test_blocked_receivers_are_served_in_their_order() -> None:
    """T30."""

    def main() -> None:
        channel = Channel[str]()
        receivers = []
        for _ in range(3):
            receivers.append(zio.spawn(channel.recv))
            wait_all_parked()
        for item in "abc":
            channel.send(item)
        assert [receiver.join() for receiver in receivers] == ["a", "b", "c"]

    zio.run(main)


def test_a_later_send_does_not_overtake_a_blocked_one() -> None:
    """T30: room that a receive makes belongs to the sender that waits."""

    def main() -> None:
        channel = Channel[str](1)
        channel.send("first")
        zio.spawn(channel.send, "waits")
        wait_all_parked()
        assert channel.recv() == "first"
        with pytest.raises(WouldBlock):
            channel.try_send("later")
        assert channel.recv() == "waits"

    zio.run(main)


def test_try_send_needs_room_or_a_receiver() -> None:
    """T30."""

    def main() -> None:
        direct = Channel[int]()
        with pytest.raises(WouldBlock):
            direct.try_send(1)
        receiver = zio.spawn(direct.recv)
        wait_all_parked()
        direct.try_send(2)
        assert receiver.join() == 2
        buffered = Channel[int](1)
        buffered.try_send(3)
        with pytest.raises(WouldBlock):
            buffered.try_send(4)
        assert buffered.recv() == 3
        buffered.close()
        with pytest.raises(ChannelClosed):
            buffered.try_send(5)

    zio.run(main)


def test_try_recv_needs_an_item_or_a_sender() -> None:
    """T30."""

    def main() -> None:
        direct = Channel[int]()
        with pytest.raises(WouldBlock):
            direct.try_recv()
        sender = zio.spawn(direct.send, 1)
        wait_all_parked()
        assert direct.try_recv() == 1
        sender.join()
        buffered = Channel[int](2)
        buffered.send(2)
        buffered.close()
        assert buffered.try_recv() == 2
        with pytest.raises(ChannelClosed):
            buffered.try_recv()

    zio.run(main)


def test_a_closed_channel_gives_out_its_buffer_first() -> None:
    """T30."""

    def main() -> None:
        channel = Channel[int](3)
        channel.send(1)
        channel.send(2)
        channel.close()
        assert channel.closed
        assert channel.recv() == 1
        assert list(channel) == [2]
        with pytest.raises(ChannelClosed) as raised:
            channel.recv()
        assert raised.value.source is channel

    zio.run(main)


def test_close_without_drain_drops_the_buffer() -> None:
    """T30."""

    def main() -> None:
        channel = Channel[int](3)
        channel.send(1)
        channel.close(drain=False)
        assert len(channel) == 0
        with pytest.raises(ChannelClosed):
            channel.recv()

    zio.run(main)


def test_close_fails_blocked_senders_and_their_items_are_not_delivered() -> None:
    """T30."""

    def main() -> None:
        channel = Channel[str](1)
        channel.send("in the buffer")
        senders = [zio.spawn(channel.send, f"blocked {n}") for n in range(2)]
        wait_all_parked()
        channel.close()
        for sender in senders:
            with pytest.raises(ChannelClosed):
                sender.join()
        assert list(channel) == ["in the buffer"]

    zio.run(main)


def test_close_fails_blocked_receivers() -> None:
    """T30."""

    def main() -> None:
        channel = Channel[str]()
        receivers = [zio.spawn(channel.recv) for _ in range(2)]
        iterator: zio.Task[list[str]] = zio.spawn(list, channel)
        wait_all_parked()
        channel.close()
        for receiver in receivers:
            with pytest.raises(ChannelClosed):
                receiver.join()
        assert iterator.join() == []

    zio.run(main)


def test_closing_twice_is_fine_and_the_second_may_drop_the_rest() -> None:
    """T30."""

    def main() -> None:
        channel = Channel[int](2)
        channel.send(1)
        channel.close()
        channel.close()
        assert len(channel) == 1
        channel.close(drain=False)
        assert len(channel) == 0

    zio.run(main)


def test_iteration_receives_until_the_channel_is_closed() -> None:
    """T30."""

    def main() -> None:
        channel = Channel[int]()

        def produce() -> None:
            for item in range(5):
                channel.send(item)
            channel.close()

        zio.spawn(produce)
        assert list(channel) == [0, 1, 2, 3, 4]

    zio.run(main)


def test_a_channel_is_true_even_if_empty() -> None:
    """T30."""

    def main() -> None:
        assert Channel[int]()

    zio.run(main)


def test_a_timed_out_send_was_not_sent() -> None:
    """T30."""

    def main() -> None:
        channel = Channel[int]()
        with pytest.raises(TimeoutError):
            channel.send(1, timeout=5)
        assert zio.now() == 5
        with pytest.raises(WouldBlock):
            channel.try_recv()

    run_virtual(main)


def test_an_item_that_is_sent_when_the_receivers_time_is_up_is_received() -> None:
    """T24, T30: the wake wins over the timeout of the same tick."""

    def main() -> None:
        channel = Channel[str]()

        def send() -> None:
            zio.sleep(5)
            channel.try_send("item")

        zio.spawn(send)
        assert channel.recv(timeout=5) == "item"

    run_virtual(main)


def test_an_item_that_is_taken_when_the_senders_time_is_up_was_sent() -> None:
    """T24, T30."""

    def main() -> None:
        channel = Channel[str]()
        taken: list[str] = []

        def take() -> None:
            zio.sleep(5)
            taken.append(channel.try_recv())

        taker = zio.spawn(take)
        channel.send("item", timeout=5)
        taker.join()
        assert taken == ["item"]

    run_virtual(main)


def test_many_producers_and_consumers_lose_and_double_nothing() -> None:
    """T30: with timeouts and cancels on the way."""

    def main() -> None:
        channel = Channel[int](3)
        sent: list[int] = []
        received: list[int] = []
        random = zio.lowlevel.here().loop.runtime.random

        def produce(first: int) -> None:
            for item in range(first, first + 100):
                with zio.move_on_after(random.choice([0, 0.001, 0.01])):
                    channel.send(item)
                    sent.append(item)
                zio.sleep(random.choice([0, 0.001, 0.002]))

        def consume() -> None:
            while True:
                with zio.move_on_after(random.choice([0, 0.001, 0.01])):
                    try:
                        received.append(channel.recv(timeout=random.choice([None, 0.001, 0.002])))
                    except TimeoutError:
                        continue
                    except ChannelClosed:
                        return

        consumers = [zio.spawn(consume) for _ in range(4)]
        with zio.TaskGroup() as producers:
            for number in range(4):
                producers.spawn(produce, number * 1000)
        channel.close()
        for consumer in consumers:
            consumer.join()
        assert sent
        assert sorted(received) == sorted(sent)

    for seed in range(10):
        run_virtual(main, seed=seed)


# T31: a send, a cancel and a close in one tick, in every order.


class Race:
    """A channel with a receiver or a sender that waits, on which several things happen before it runs again."""

    def __init__(self, capacity: int, waits_to: str) -> None:
        self.channel = Channel[str](capacity)
        self.received: list[str] = []
        self.accepted: list[str] = []  # what a send took, by not raising
        self.scope = zio.CancelScope()
        self.ended: list[str] = []
        if waits_to == "send":
            for number in range(capacity):
                self.send(f"buffered {number}")
        self.task = zio.spawn(self.wait, self.recv if waits_to == "recv" else lambda: self.send("waiting"))

    def wait(self, call: Callable[[], None]) -> None:
        with self.scope:
            try:
                call()
            except (ChannelClosed, zio.Cancelled) as exc:
                self.ended.append(type(exc).__name__)
                if isinstance(exc, zio.Cancelled):
                    raise
            else:
                self.ended.append("completed")

    def recv(self) -> None:
        self.received.append(self.channel.recv())

    def send(self, item: str) -> None:
        self.channel.send(item)
        self.accepted.append(item)

    def try_send(self) -> None:
        try:
            self.channel.try_send("sent")
        except (WouldBlock, ChannelClosed):
            return
        self.accepted.append("sent")

    def try_recv(self) -> None:
        try:
            self.received.append(self.channel.try_recv())
        except (WouldBlock, ChannelClosed):
            return

    def settle(self) -> None:
        """Everybody has run; what is still in the channel counts as received."""
        self.task.join()
        assert len(self.ended) == 1
        self.channel.close()
        self.received.extend(self.channel)
        assert sorted(self.received) == sorted(self.accepted)


ORDERS = list(itertools.permutations(["item", "cancel", "close"]))


@pytest.mark.parametrize("capacity", [0, 1])
@pytest.mark.parametrize("order", ORDERS, ids="-".join)
@pytest.mark.parametrize("waits_to", ["recv", "send"])
def test_item_cancel_and_close_in_one_tick(waits_to: str, order: tuple[str, ...], capacity: int) -> None:
    """T31: the first of them decides for the one that waits; each accepted item is received exactly once."""
    expected = {"item": "completed", "cancel": "Cancelled", "close": "ChannelClosed"}[order[0]]

    def main() -> None:
        race = Race(capacity, waits_to)
        wait_all_parked()
        moves = {
            "item": race.try_send if waits_to == "recv" else race.try_recv,
            "cancel": race.scope.cancel,
            "close": race.channel.close,
        }
        for name in order:
            moves[name]()
        race.settle()
        assert race.ended == [expected]

    zio.run(main)


@pytest.mark.parametrize("seed", range(30))
@pytest.mark.parametrize("waits_to", ["recv", "send"])
def test_item_cancel_and_close_by_tasks_of_one_tick(waits_to: str, seed: int) -> None:
    """T31, as a model check: the order of the three is the scheduler's."""

    def main() -> None:
        for capacity, moves in itertools.product([0, 1], [1, 2]):
            race = Race(capacity, waits_to)
            for _ in range(moves):
                zio.spawn(race.try_send)
                zio.spawn(race.try_recv)
            zio.spawn(race.scope.cancel)
            zio.spawn(race.channel.close)
            race.settle()

    run_virtual(main, seed=seed)
