"""The waits between attempts to connect."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest

from nats_zio.session.backoff import Backoff


def backoff(
    wait: float = 0.1, max_wait: float = 1.0, jitter: float = 0.0, delay: Callable[[int], float | None] | None = None
) -> Backoff:
    return Backoff(wait, max_wait, jitter, delay, random.Random(1))


def test_the_wait_doubles_up_to_its_maximum() -> None:
    waits = backoff()
    assert [waits.next() for _ in range(6)] == pytest.approx([0.1, 0.2, 0.4, 0.8, 1.0, 1.0])


def test_it_never_overflows() -> None:
    waits = backoff()
    assert [waits.next() for _ in range(2000)][-1] == 1.0


def test_jitter_adds_up_to_so_much_of_it() -> None:
    source = backoff(jitter=0.5, max_wait=0.1)
    waits = [source.next() for _ in range(200)]
    assert all(0.1 <= wait <= 0.15 for wait in waits)
    assert max(waits) > 0.14
    assert min(waits) < 0.11


def test_a_connection_that_has_lasted_is_made_again_at_once_and_the_waits_begin_anew() -> None:
    waits = backoff()
    for _ in range(5):
        waits.next()
    assert waits.after_loss(60.0) == 0.0
    assert waits.next() == pytest.approx(0.1)


def test_connections_that_do_not_last_are_made_again_after_a_wait_that_grows() -> None:
    waits = backoff()
    assert [waits.after_loss(0.01) for _ in range(5)] == pytest.approx([0.1, 0.2, 0.4, 0.8, 1.0])
    assert waits.after_loss(60.0) == 0.0
    assert waits.after_loss(0.01) == pytest.approx(0.1)


def test_forced_there_is_no_wait_to_make_up_for() -> None:
    waits = backoff()
    waits.after_loss(0.01)
    waits.after_loss(0.01)
    waits.forced()
    assert waits.after_loss(0.15) == 0.0


def test_a_delay_of_the_users_own_is_asked_for_each_round() -> None:
    asked: list[int] = []

    def delay(rounds: int) -> float:
        asked.append(rounds)
        return rounds * 7.0

    waits = backoff(delay=delay)
    assert [waits.next() for _ in range(3)] == [7.0, 14.0, 21.0]
    assert asked == [1, 2, 3]


def test_without_an_opinion_of_the_users_the_usual_wait_holds() -> None:
    waits = backoff(delay=lambda rounds: None)
    assert [waits.next() for _ in range(2)] == pytest.approx([0.1, 0.2])


def test_who_wants_no_wait_at_all_storms_no_server_either() -> None:
    waits = backoff(wait=0.0, jitter=0.0)
    assert [waits.next(), waits.next(), waits.next()] == [0.01, 0.02, 0.04]
    assert [waits.after_loss(0.0), waits.after_loss(0.0), waits.after_loss(1.0)] == [0.01, 0.02, 0.0]
