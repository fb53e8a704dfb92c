"""NTP over UDP: ask several time servers at once, take the first answer, ask again where a datagram was lost.

python examples/runtime/ntp.py                       two little servers of our own, one of which loses datagrams
python examples/runtime/ntp.py pool.ntp.org ...      real ones
"""

from __future__ import annotations

import struct
import sys
import time
from typing import NamedTuple

import zio
from zio.net import DatagramSocket

EPOCH = 2_208_988_800  # seconds from 1900, where the time of NTP begins, to 1970
PACKET = struct.Struct("!BBbb11I")  # flags, stratum, poll, precision, 3 words, 4 times of 2 words each
ATTEMPTS = 5
AGAIN_AFTER = 0.2  # seconds


class Answer(NamedTuple):
    server: str
    offset: float  # seconds that our clock is behind
    delay: float  # seconds that question and answer travelled


def ask(host: str, port: int) -> Answer:
    """One server's answer, asked for again a few times. TimeoutError if there is none."""
    with zio.net.udp(remote=(host, port)) as sock, zio.TaskGroup() as group:
        answers = zio.Channel[tuple[bytes, float]](10)
        group.spawn(receive, sock, answers)
        for _ in range(ATTEMPTS):
            sent = time.time()
            sock.send(question(sent))
            again = zio.after(AGAIN_AFTER)
            while True:
                source, value = zio.select(answer=answers, again=again)
                if source == "again":
                    break
                data, came = value
                offset = offset_in(data, sent, came)
                if offset is not None:
                    group.cancel()
                    return Answer(host, offset, came - sent)
        group.cancel()
    raise TimeoutError(f"{host} has answered none of {ATTEMPTS} questions")


def receive(sock: DatagramSocket, answers: zio.Channel[tuple[bytes, float]]) -> None:
    for datagram in sock:
        answers.send((datagram.data, time.time()))


def question(now: float) -> bytes:
    return PACKET.pack(0x23, 0, 0, 0, *[0] * 9, *to_ntp(now))  # version 4, client


def offset_in(data: bytes, sent: float, came: float) -> float | None:
    """By how much our clock is behind; None if that is no answer to the question sent then."""
    if len(data) < PACKET.size:
        return None
    fields = PACKET.unpack_from(data)
    origin, received, transmitted = fields[9:11], fields[11:13], fields[13:15]
    if origin != to_ntp(sent) or fields[0] & 7 != 4 or fields[1] == 0:
        return None  # late, forged, or from a server that does not know the time
    return ((from_ntp(received) - sent) + (from_ntp(transmitted) - came)) / 2


def to_ntp(seconds: float) -> tuple[int, int]:
    whole = int(seconds)
    return whole + EPOCH & 0xFFFFFFFF, int((seconds - whole) * 2**32)


def from_ntp(words: tuple[int, int]) -> float:
    return words[0] - EPOCH + words[1] / 2**32


def serve(sock: DatagramSocket, ahead: float, lost: int) -> None:
    """A time server whose clock is ahead; it does not answer the first few questions."""
    for asked in sock:
        if lost:
            lost -= 1
            continue
        origin = PACKET.unpack(asked.data)[13:15]
        now = to_ntp(time.time() + ahead)
        sock.send_to(PACKET.pack(0x24, 2, 0, -20, 0, 0, 0, *now, *origin, *now, *now), asked.address)


def first_answer(servers: list[tuple[str, int]]) -> None:
    with zio.TaskGroup() as group:
        asked = [group.spawn(ask, host, port) for host, port in servers]
        for task in zio.as_completed(asked):
            try:
                answer = task.join()
            except (TimeoutError, OSError) as error:
                print(f"no answer: {error}")
                continue
            print(f"{answer.server}: our clock is {answer.offset:+.1f} s behind")
            group.cancel()  # the others need not go on
            break


def demo() -> None:
    with zio.net.udp("127.0.0.1") as good, zio.net.udp("127.0.0.1") as silent, zio.TaskGroup() as group:
        group.spawn(serve, good, 42.0, 1)
        group.spawn(serve, silent, 0.0, 1_000_000)
        first_answer([("127.0.0.1", silent.port), ("127.0.0.1", good.port)])
        group.cancel()


if __name__ == "__main__":
    if sys.argv[1:]:
        zio.run(first_answer, [(host, 123) for host in sys.argv[1:]])
    else:
        zio.run(demo)
