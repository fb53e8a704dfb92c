"""nats-core (asyncio, Python >= 3.13; BENCH_LOOP=uvloop for uvloop). No JetStream in it."""

import asyncio

import aio
from nats.client import connect


class Client(aio.Client):
    async def connect(self):
        self.nc = await connect(self.args.url)

    async def flush(self):
        await self.nc.flush(120)

    # Its callbacks are an extra: every message is queued too, so an undrained queue drops at its limit.
    # Consuming is the iterator (one task per subscription); hence no separate subiter.
    async def subscribe(self, subject, handler):
        sub = await self.nc.subscribe(subject)

        async def loop():
            async for msg in sub:
                handler(msg)

        self.tasks = getattr(self, "tasks", [])
        self.tasks.append(asyncio.ensure_future(loop()))

    async def serve(self, subject, count, done):
        sub, publish = await self.nc.subscribe(subject), self.nc.publish

        async def loop():
            left = count
            async for msg in sub:
                await publish(msg.reply, msg.data)
                left -= 1
                if not left:
                    done.set_result(None)

        self.task = asyncio.ensure_future(loop())


aio.main(Client)
