"""nats-py (asyncio; BENCH_LOOP=uvloop for uvloop)."""

import aio
import nats


class Client(aio.Client):
    async def connect(self):
        self.nc = await nats.connect(self.args.url)

    async def flush(self):
        await self.nc.flush(timeout=120)

    async def subscribe(self, subject, handler):
        async def cb(msg):
            handler(msg)

        await self.nc.subscribe(subject, cb=cb)

    async def iterate(self, subject):
        return (await self.nc.subscribe(subject)).messages

    async def serve(self, subject, count, done):
        left = count

        async def cb(msg):
            nonlocal left
            await msg.respond(msg.data)
            left -= 1
            if not left:
                done.set_result(None)

        await self.nc.subscribe(subject, cb=cb)

    async def js_setup(self):
        self.js = self.nc.jetstream(publish_async_max_pending=self.args.get("conc", 256))
        self.js_publish = self.js.publish

    async def js_publish_many(self, subject, payload, n, window):
        for _ in range(n):
            await self.js.publish_async(subject, payload, wait_stall=30)
        await self.js.publish_async_completed()

    async def js_fetch(self, stream, consumer, n, batch):
        sub, got = await self.js.pull_subscribe_bind(consumer, stream), 0
        while got < n:
            for msg in await sub.fetch(batch, timeout=30):
                await msg.ack()
                got += 1
        return got


aio.main(Client)
