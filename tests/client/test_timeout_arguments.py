"""What is given as a timeout and cannot be one is refused by name, before anything is done."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

import nats_zio
from nats_zio import Client, Subscription
from nats_zio.testing import NatsServer

Run = Callable[..., Any]
Call = Callable[[Client, Subscription, Any], object]

CALLS: dict[str, Call] = {
    "flush": lambda nc, sub, timeout: nc.flush(timeout),
    "rtt": lambda nc, sub, timeout: nc.rtt(timeout),
    "request": lambda nc, sub, timeout: nc.request(sub.subject, timeout=timeout),
    "repeated request": lambda nc, sub, timeout: nc.request(sub.subject, timeout=timeout, retry_on_disconnect=True),
    "request_many": lambda nc, sub, timeout: nc.request_many(sub.subject, timeout=timeout),
    "next": lambda nc, sub, timeout: sub.next(timeout),
    "next_batch": lambda nc, sub, timeout: sub.next_batch(2, timeout),
    "drain of a subscription": lambda nc, sub, timeout: sub.drain(timeout),
    "drain": lambda nc, sub, timeout: nc.drain(timeout),
}


@pytest.mark.parametrize("name", CALLS)
def test_what_is_no_number_of_seconds_is_refused(run: Run, nats_server: NatsServer, subject: str, name: str) -> None:
    def main() -> None:
        with nats_zio.connect(nats_server.url) as nc:
            sub = nc.subscribe(subject)
            for timeout in ("1", b"", float("nan"), 1j, True):
                with pytest.raises(nats_zio.OptionError) as caught:
                    CALLS[name](nc, sub, timeout)
                assert f"timeout={timeout!r}: must be a number of seconds" in str(caught.value)
            nc.flush()  # nothing was ended by it, and no wait left behind
            assert not sub.closed
            nc.publish(subject, b"x")
            assert sub.next().data == b"x"

    run(main)


@pytest.mark.parametrize("name", [name for name in CALLS if name not in ("drain", "request_many")])
def test_a_time_below_zero_has_passed(run: Run, nats_server: NatsServer, subject: str, name: str) -> None:
    """So what is left until a deadline can be given as it is."""

    def main() -> None:
        with nats_zio.connect(nats_server.url) as nc:
            sub = nc.subscribe(subject)
            with pytest.raises(nats_zio.TimeoutError):
                CALLS[name](nc, sub, -1)

    run(main)
