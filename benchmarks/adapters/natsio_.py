"""natsio (asyncio, Python >= 3.12; BENCH_LOOP=uvloop for uvloop)."""

import aio
import natsio


class Client(aio.Client):
    async def connect(self):
        self.nc = await natsio.connect(self.args.url)

    async def flush(self):
        await self.nc.flush(120)

    async def subscribe(self, subject, handler):
        self.nc.subscribe(subject, cb=handler)

    async def iterate(self, subject):
        return self.nc.subscribe(subject)

    async def serve(self, subject, count, done):
        left = count

        async def cb(msg):
            nonlocal left
            await msg.respond(msg.data)
            left -= 1
            if not left:
                done.set_result(None)

        self.nc.subscribe(subject, cb=cb)

    async def js_setup(self):
        self.js = self.nc.jetstream(publish_async_max_pending=self.args.get("conc", 256), publish_async_stall_wait=30)
        self.js_publish = self.js.publish

    async def js_publish_many(self, subject, payload, n, window):
        for _ in range(n):
            await self.js.publish_async(subject, payload)
        await self.js.publish_async_complete()

    async def consumer(self, stream, consumer):
        return await (await self.js.stream(stream)).consumer(consumer)

    async def js_fetch(self, stream, consumer, n, batch):
        c, got = await self.consumer(stream, consumer), 0
        while got < n:
            for msg in await c.fetch(batch):
                await msg.ack()
                got += 1
        return got

    async def js_consume(self, stream, consumer, n, batch):
        c, got = await self.consumer(stream, consumer), 0
        async with c.consume(max_messages=batch) as messages:
            async for msg in messages:
                await msg.ack()
                got += 1
                if got == n:
                    return got


aio.main(Client)
