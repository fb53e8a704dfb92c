"""Plain threads that wait for messages."""

from __future__ import annotations

import pytest

from nats_zio.latch import ThreadLatch
from nats_zio.sleepers import Sleepers


def test_one_that_is_interrupted_after_it_was_roused_rouses_another() -> None:
    sleepers, other = Sleepers(), ThreadLatch()
    looks: list[int] = []

    def ready() -> bool:
        looks.append(len(looks))
        if len(looks) > 1:
            return True  # what it was roused for is still there
        sleepers.append(other)
        sleepers.rouse(1)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        sleepers.sleep(ready, None)
    assert other.settled
