"""Leaving a server that has announced its end, before it ends: at a random moment, with nothing under way.

Source: ADR-5 and the server's ``lame_duck_grace_period``. All clients of the server hear of it in the same instant; if
they all left at once they would fall upon the others together.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import zio
from zio.lowlevel import CANCELLED, Waiter, here

from ..errors import DisconnectedError, TimeoutError

if TYPE_CHECKING:
    from ..core import Core
    from .session import Session

GRACE = 8.0  # seconds in which the clients spread; the server waits 10 by default before it sends the first away
REPLIES = 2.0  # seconds for the replies to requests under way
LOOK = 0.02  # seconds between two looks at them
PROOF = 2.0  # seconds for the proof that the server has everything


def leave(core: Core, session: Session) -> None:
    """In a task of its own, cancelled when the connection ends: have the session go to another server.

    What is published once the last PING is written is kept for the next server, so nothing is lost or in doubt, and
    requests that were written before have their replies, if those come in time.
    """
    zio.sleep(GRACE * core.runtime.random.random())
    try:
        core.flush_here(PROOF)
    except TimeoutError:
        pass  # it does not answer: then the losses are counted when the connection ends
    else:
        fiber = here()
        waiter = Waiter(fiber, "a PONG")
        session.ping(waiter)
        if core.outbound.hold():
            fiber.loop.wait(waiter, PROOF, _nothing)
            waited = 0.0
            while waited < REPLIES and core.requests.written(core.outbound.kept_lines()):
                zio.sleep(LOOK)
                waited += LOOK
        else:
            waiter.state = CANCELLED  # nobody waits: the end of the connection must not wake this task
    session.lose(DisconnectedError(f"left {session.server}, which is in lame duck mode"))


def _nothing(waiter: Waiter) -> None:
    """A PONG's place in the order stays, whoever waits for it."""
