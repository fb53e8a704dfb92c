"""natsrpy (Rust async-nats behind asyncio)."""

import asyncio

import aio
from natsrpy import Nats


class Client(aio.Client):
    pub_gather = 64  # an await per publish is a hop between threads; groups measured 2-5 times faster

    async def connect(self):
        self.nc = Nats(addrs=[self.args.url])
        await self.nc.startup()

    def request(self):
        return self.nc.request

    async def subscribe(self, subject, handler):
        async def cb(msg):
            handler(msg)

        sub = await self.nc.subscribe(subject, callback=cb).detatch()
        self.subs = getattr(self, "subs", [])
        self.subs.append(sub)

    async def iterate(self, subject):
        return await self.nc.subscribe(subject).detatch()

    async def serve(self, subject, count, done):
        publish, left = self.nc.publish, count

        async def cb(msg):
            nonlocal left
            await publish(msg.reply, msg.payload)
            left -= 1
            if not left:
                done.set_result(None)

        self.sub = await self.nc.subscribe(subject, callback=cb).detatch()

    async def js_setup(self):
        self.js = await self.nc.jetstream()

    async def js_publish(self, subject, payload):
        await self.js.publish(subject, payload, wait=True)

    async def js_publish_many(self, subject, payload, n, window):
        publish = self.js.publish
        for i in range(0, n, window):
            await asyncio.gather(*[publish(subject, payload, wait=True) for _ in range(min(window, n - i))])

    async def consumer(self, stream, consumer):
        return await (await self.js.streams.get(stream)).consumers.get_pull(consumer)

    async def js_fetch(self, stream, consumer, n, batch):
        c, got = await self.consumer(stream, consumer), 0
        while got < n:
            msgs = await c.fetch(max_messages=batch, timeout=30)
            await asyncio.gather(*[msg.ack() for msg in msgs])
            got += len(msgs)
        return got

    async def js_consume(self, stream, consumer, n, batch):
        c, got = await self.consumer(stream, consumer), 0
        async with c.consume() as messages:
            async for msg in messages:
                await msg.ack()
                got += 1
                if got == n:
                    return got


aio.main(Client)
