"""Happy eyeballs (RFC 8305): the addresses of a host are tried with a head start for each, not one after the other."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..groups import TaskGroup
from ..sync import Event
from .resolving import number_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from .stream import Stream

ATTEMPT_DELAY = 0.25  # seconds that an attempt has for itself before the next address is tried beside it


def connect_to_any(
    connect: Callable[[str, int], Stream], host: str, port: int, found: list[tuple[int, Any]], delay: float
) -> Stream:
    """Connect to the first of the addresses that accepts. An attempt that fails starts the next one at once.

    OSError if none accepts; of the kind that all of them had, if they had one. Those that are slower, and all of them
    if cancelled, are given up and closed.
    """
    numbers = list(dict.fromkeys(map(number_of, interleaved(found))))
    if len(numbers) == 1:
        return connect(numbers[0], port)
    errors: list[Exception] = []
    won: list[Stream] = []

    def attempt(number: str, over: Event) -> None:
        try:
            stream = connect(number, port)
        except OSError as exc:
            errors.append(exc)
            over.set()
        else:
            if won:  # by another one, in the same tick
                stream.close()
                return
            won.append(stream)
            group.cancel()

    try:
        with TaskGroup() as group:
            for number in numbers:
                over = Event()
                group.spawn(attempt, number, over, name=f"connect to {number}")
                if number is not numbers[-1]:
                    over.wait(delay)
    except BaseException as exc:
        for stream in won:
            stream.close()
        if isinstance(exc, ExceptionGroup) and len(exc.exceptions) == 1:  # not an OSError: a mistake, not the network
            raise exc.exceptions[0] from None
        raise
    if won:
        return won[0]
    raise _none_accepts(host, port, errors)


def interleaved(found: list[tuple[int, Any]]) -> list[Any]:
    """The addresses, families taking turns, so that one that does not work costs one head start only."""
    families: dict[int, list[Any]] = {}
    for family, address in found:
        families.setdefault(family, []).append(address)
    longest = max(map(len, families.values()), default=0)
    return [addresses[at] for at in range(longest) for addresses in families.values() if at < len(addresses)]


def _none_accepts(host: str, port: int, errors: list[Exception]) -> Exception:
    text = f"cannot connect to {host}:{port}: " + ("; ".join(map(str, errors)) or "it has no address")
    numbers = {getattr(error, "errno", None) for error in errors}
    if len(errors) == 1:
        return errors[0]
    if len(numbers) == 1 and (number := numbers.pop()) is not None:
        return OSError(number, text)
    return OSError(text)
