"""The other side, with another library: collect COUNT messages of SUBJECT and print what came as JSON.

Every payload begins with a number of 10 digits. Ends early when nothing has come for a while.
"""

from __future__ import annotations

import asyncio
import json
import sys

import nats

QUIET = 8.0  # seconds without a message that mean: no more will come


async def main(url: str, subject: str, count: int) -> None:
    numbers: list[int] = []
    sizes: set[int] = set()
    done = asyncio.Event()
    nc = await nats.connect(url, allow_reconnect=False)

    async def collect(msg: nats.aio.msg.Msg) -> None:
        numbers.append(int(msg.data[:10]))
        sizes.add(len(msg.data))
        if len(numbers) >= count:
            done.set()

    await nc.subscribe(subject, cb=collect, pending_msgs_limit=-1, pending_bytes_limit=-1)
    await nc.flush()
    print("ready", flush=True)
    seen = -1
    while seen != len(numbers):
        seen = len(numbers)
        try:
            await asyncio.wait_for(done.wait(), QUIET)
            await nc.flush()  # whatever came beyond
            break
        except TimeoutError:
            continue
    print(json.dumps({"count": len(numbers), "in_order": numbers == list(range(count)), "sizes": sorted(sizes)}))
    await nc.close()


asyncio.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3])))
