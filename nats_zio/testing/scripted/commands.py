"""Bytes of a client in, commands out."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .server import ScriptedServer

_VERBS = (b"CONNECT", b"PING", b"PONG", b"SUB", b"UNSUB", b"PUB", b"HPUB")


class Command(NamedTuple):
    """What a client has sent. ``headers`` is the raw block of an HPUB."""

    verb: str
    args: list[str]
    data: bytes = b""
    headers: bytes = b""


class Violation(Exception):
    """The client has broken the protocol: what it is told (nothing, if empty) before the connection ends."""


class CommandReader:
    """Takes the bytes of one client, in any pieces."""

    def __init__(self, server: ScriptedServer) -> None:
        self._server = server
        self._data = bytearray()
        self._waiting: tuple[Command, int, int] | None = None  # for a payload: headers and all of it

    def feed(self, data: bytes) -> Iterator[Command]:
        self._data += data
        while True:
            if self._waiting is not None:
                command = self._payload(*self._waiting)
                if command is None:
                    return
                yield command
                continue
            end = self._data.find(b"\n")
            if end < 0:
                self._check_beginning()
                return
            line = bytes(self._data[:end]).removesuffix(b"\r")
            if len(line) > self._server.max_control_line:
                raise Violation("maximum control line exceeded")
            del self._data[: end + 1]
            done = self._line(line)
            if done is not None:
                yield done

    def _check_beginning(self) -> None:
        data = self._data
        if len(data) > self._server.max_control_line:
            raise Violation("maximum control line exceeded")
        verb = bytes(data[:7]).upper().split(b" ")[0].rstrip(b"\r")
        if data and not any(known.startswith(verb) for known in _VERBS):
            raise Violation("Unknown Protocol Operation")

    def _line(self, line: bytes) -> Command | None:
        verb, _, rest = line.replace(b"\t", b" ").partition(b" ")
        verb = verb.upper()
        if verb not in _VERBS:
            raise Violation("Unknown Protocol Operation")
        name = verb.decode()
        text = rest.decode("utf-8", "surrogateescape")
        if name == "CONNECT":
            return Command(name, [text.strip()])
        if name in {"PING", "PONG"}:
            return Command(name, [])
        args = text.split()
        if name == "SUB":
            if len(args) not in (2, 3):
                raise Violation
            return Command(name, args)
        if name == "UNSUB":
            if len(args) not in (1, 2) or not all(arg.isdigit() for arg in args[1:]):
                raise Violation
            return Command(name, args)
        numbers = 2 if name == "HPUB" else 1
        if len(args) not in (numbers + 1, numbers + 2):
            raise Violation
        sizes = args[-numbers:]
        if not all(size.isdigit() and len(size) <= 9 for size in sizes):
            raise Violation
        header, total = (0, int(sizes[0])) if numbers == 1 else (int(sizes[0]), int(sizes[1]))
        if header > total:
            raise Violation
        if total > self._server.max_payload:
            raise Violation("Maximum Payload Violation")
        self._waiting = (Command(name, args[:-numbers]), header, total)
        return None

    def _payload(self, command: Command, header: int, total: int) -> Command | None:
        data = self._data
        if len(data) < total + 2:
            return None
        if data[total : total + 2] != b"\r\n":
            raise Violation("Unknown Protocol Operation")
        payload = bytes(data[:total])
        del data[: total + 2]
        self._waiting = None
        return command._replace(headers=payload[:header], data=payload[header:])
