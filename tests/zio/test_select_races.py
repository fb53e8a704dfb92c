"""Selects beside sends, cancels and closes of the same tick: every item that was accepted is received exactly once."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable
from functools import partial
from random import Random
from typing import Any

import pytest

import zio
from zio import Channel, ChannelClosed, WouldBlock, select
from zio.testing import run_virtual, wait_all_parked


@pytest.mark.slow
@pytest.mark.parametrize("capacities", [(4, 4), (0, 1)], ids=str)
def test_a_hundred_thousand_selects_on_two_channels_under_random_cancels(capacities: tuple[int, int]) -> None:
    """Producers, consumers and what cancels them, in random order; both channels have something most of the time."""
    total = 100_000
    both_ready = [0]

    def main() -> None:
        rand = Random(7)
        left, right = (Channel[int](capacity) for capacity in capacities)
        sent: dict[Channel[int], list[int]] = {left: [], right: []}
        received: list[dict[Channel[int], list[int]]] = []
        scopes: dict[int, zio.CancelScope] = {}
        count, cut_short = [0], Counter[str]()
        over = zio.CancelScope()

        def produce(number: int, channel: Channel[int]) -> None:
            for item in itertools.count(number, 10):
                with zio.CancelScope() as scopes[number]:
                    channel.send(item)
                    sent[channel].append(item)
                cut_short["send"] += scopes[number].cancelled_caught

        def consume(number: int) -> None:
            mine: dict[Channel[int], list[int]] = {left: [], right: []}
            received.append(mine)
            while count[0] < total:
                with zio.CancelScope() as scopes[number]:
                    both_ready[0] += left.select_ready() and right.select_ready()
                    channel, item = select(left, right)
                    mine[channel].append(item)
                    count[0] += 1
                cut_short["select"] += scopes[number].cancelled_caught
                if rand.random() < 0.2:
                    zio.pause()
            over.cancel()

        def cancel() -> None:
            while True:
                if rand.random() < 0.7:
                    zio.pause()
                scopes[rand.choice([0, 1, 2, 3, 10, 10, 11, 11])].cancel()

        with over, zio.TaskGroup() as group:
            for number, channel in enumerate([left, right, left, right]):
                group.spawn(produce, number, channel)
            for number in (10, 11):
                group.spawn(consume, number)
            while len(scopes) < 6:  # with a seed somebody may begin late
                zio.pause()
            group.spawn(cancel)

        assert min(cut_short["send"], cut_short["select"]) > 500
        for channel in (left, right):
            left_over = []
            while channel.select_ready():
                left_over.append(channel.try_recv())
            taken = [item for mine in received for item in mine[channel]]
            assert Counter(taken + left_over) == Counter(sent[channel])  # each once
            for mine, number in itertools.product(received, range(4)):
                of_one = [item for item in mine[channel] if item % 10 == number]
                assert of_one == sorted(of_one)

    run_virtual(main)
    if capacities == (4, 4):
        assert both_ready[0] >= total // 2


class Race:
    """A select over two channels, receiving from both or sending to both, and moves to make before it runs again."""

    def __init__(self, capacity: int, waits_to: str) -> None:
        self.channels = {"left": Channel[str](capacity), "right": Channel[str](capacity)}
        self.accepted: list[str] = []
        self.received: list[str] = []
        self.scope = zio.CancelScope()
        self.ended: list[str] = []
        self.receives = waits_to == "recv"
        if not self.receives:
            for name, channel in self.channels.items():
                for number in range(capacity):
                    channel.send(f"{name} {number}")
                    self.accepted.append(f"{name} {number}")
        self.moves: dict[str, Callable[[], None]] = {"cancel": self.scope.cancel}
        for name, channel in self.channels.items():
            self.moves[f"item {name}"] = partial(self.move, name, channel)
            self.moves[f"close {name}"] = channel.close

    def move(self, name: str, channel: Channel[str]) -> None:
        try:
            if self.receives:
                channel.try_send(f"to {name}")
                self.accepted.append(f"to {name}")
            else:
                self.received.append(channel.try_recv())
        except (WouldBlock, ChannelClosed):
            return

    def wait(self) -> None:
        with self.scope:
            try:
                if self.receives:
                    sources: dict[str, Any] = self.channels
                    name, item = select(**sources)
                    self.received.append(item)
                else:
                    offers: dict[str, Any] = {
                        name: channel.send_op(f"from {name}") for name, channel in self.channels.items()
                    }
                    name, _ = select(**offers)
                    self.accepted.append(f"from {name}")
                self.ended.append(f"item {name}")
            except zio.Cancelled:
                self.ended.append("cancel")
                raise
            except ChannelClosed as error:
                (name,) = (name for name, channel in self.channels.items() if channel is source_of(error))
                self.ended.append(f"close {name}")

    def settle(self) -> None:
        """Everybody has run; what is still in the channels counts as received."""
        assert len(self.ended) == 1
        for channel in self.channels.values():
            assert not channel._receivers
            assert not channel._senders
            channel.close()
            self.received.extend(channel)
        assert sorted(self.received) == sorted(self.accepted)


def source_of(error: ChannelClosed) -> Any:
    return getattr(error.source, "channel", error.source)


ORDERS = list(itertools.permutations(["item left", "item right", "cancel", "close left", "close right"]))


@pytest.mark.parametrize("capacity", [0, 1])
@pytest.mark.parametrize("waits_to", ["recv", "send"])
def test_items_cancel_and_closes_in_one_tick_in_every_order(waits_to: str, capacity: int) -> None:
    """The first of them decides for the select that waits."""

    def main() -> None:
        for order in ORDERS:
            race = Race(capacity, waits_to)
            task = zio.spawn(race.wait)
            wait_all_parked()
            for name in order:
                race.moves[name]()
            task.join()
            assert race.ended == [order[0]]
            for name in race.channels:
                if order.index(f"close {name}") < order.index(f"item {name}"):
                    assert f"to {name}" not in race.accepted
            race.settle()

    zio.run(main)


@pytest.mark.parametrize("capacity", [0, 1])
@pytest.mark.parametrize("waits_to", ["recv", "send"])
@pytest.mark.parametrize("seed", range(5))
def test_items_cancel_and_closes_by_tasks_of_one_tick(waits_to: str, capacity: int, seed: int) -> None:
    """The order is the scheduler's, and the select may come first, last or between."""

    def main() -> None:
        for order in ORDERS:
            race = Race(capacity, waits_to)
            with zio.TaskGroup() as group:
                group.spawn(race.wait)
                for name in order:
                    group.spawn(race.moves[name])
            race.settle()

    run_virtual(main, seed=seed)


@pytest.mark.parametrize("order", list(itertools.permutations(["item", "cancel", "close"])), ids="-".join)
@pytest.mark.parametrize("by", ["recv", "select"])
def test_a_broadcast_in_every_order(by: str, order: tuple[str, ...]) -> None:
    """The first of them decides for the one that waits; what it has not received stays for the next."""
    expected = {"item": "item", "cancel": "Cancelled", "close": "ChannelClosed"}[order[0]]

    def main() -> None:
        broadcast = zio.Broadcast[str](2)
        receiver, other = broadcast.subscribe(), broadcast.subscribe()
        scope, ended = zio.CancelScope(), list[str]()
        accepted: list[str] = []

        def wait() -> None:
            with scope:
                try:
                    ended.append(receiver.recv() if by == "recv" else select(zio.Event(), it=receiver)[1])
                except (ChannelClosed, zio.Cancelled) as error:
                    ended.append(type(error).__name__)
                    if isinstance(error, zio.Cancelled):
                        raise

        def send() -> None:
            try:
                broadcast.send("item")
            except ChannelClosed:
                return
            accepted.append("item")

        moves = {"item": send, "cancel": scope.cancel, "close": broadcast.close}
        task = zio.spawn(wait)
        wait_all_parked()
        for name in order:
            moves[name]()
        task.join()
        assert ended == [expected]
        assert accepted == ["item"] * (order.index("item") < order.index("close"))
        rest = list(receiver)
        assert [*(item for item in ended if item == "item"), *rest] == accepted == list(other)

    zio.run(main)
