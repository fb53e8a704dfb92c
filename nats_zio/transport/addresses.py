"""A host that has several addresses (ADR-11): each is tried before the host counts as failed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import zio

if TYPE_CHECKING:
    from random import Random

    from zio.net import Stream


def connect(host: str, port: int, *, deadline: float, shuffle: Random | None) -> Stream:
    """Connect to one of the addresses of ``host``, tried in random order, or as they come if ``shuffle`` is None.

    Each but the last has an equal share of the time that is left before ``deadline`` (of ``zio.now()``), so that one
    that does not answer leaves time for the others; the last has all of it, and the caller's own limit. OSError if none
    accepts.
    """
    hosts = list(dict.fromkeys(_number(address) for _, address in zio.net.resolve(host, port)))
    if shuffle is not None:
        shuffle.shuffle(hosts)
    errors: list[OSError] = []
    for left in range(len(hosts), 0, -1):
        address = hosts[-left]
        share = None if left == 1 else max((deadline - zio.now()) / left, 0.0)
        try:
            return zio.net.connect(address, port, timeout=share)
        except TimeoutError as exc:
            errors.append(TimeoutError(f"no answer in time: connecting to {address}") if share is not None else exc)
        except OSError as exc:
            errors.append(exc)
    if len(errors) == 1:
        raise errors[0]
    raise OSError(f"cannot connect to any address of {host}:{port}: " + "; ".join(map(str, errors)))


def _number(address: Any) -> str:
    """The address as a host that is not looked up again; that of a local link needs its interface."""
    host: str = address[0]
    return f"{host}%{address[3]}" if len(address) == 4 and address[3] and "%" not in host else host
