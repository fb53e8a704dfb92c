"""The workloads for asyncio clients. An adapter subclasses Client and calls main(Client).

Hot loops call the client's own bound methods; the subclass only names them, so no wrapper is timed.
"""

import asyncio
from time import perf_counter_ns as ns

from common import Args, Meter, emit, run_async, unsupported


class Client:
    pub_gather = 0  # >0: await publishes in groups of this many (where one await each is a thread hop)

    def __init__(self, args):
        self.args = args

    async def connect(self): ...  # sets self.nc
    async def flush(self):
        await self.nc.flush()

    async def subscribe(self, subject, handler): ...  # handler(msg) is a plain function
    async def iterate(self, subject):
        raise NotImplementedError  # -> async iterator

    async def serve(self, subject, count, done):
        raise NotImplementedError

    def request(self):  # -> async callable(subject, payload)
        nc = self.nc
        return lambda subject, payload: nc.request(subject, payload, timeout=30)

    async def js_setup(self):
        raise NotImplementedError

    async def js_publish(self, subject, payload):
        raise NotImplementedError

    async def js_publish_many(self, subject, payload, n, window):
        raise NotImplementedError

    async def js_fetch(self, stream, consumer, n, batch):
        raise NotImplementedError

    async def js_consume(self, stream, consumer, n, batch):
        raise NotImplementedError


class Counter:
    """Counts deliveries, gives the feeder its credits, and sets `done` at n."""

    def __init__(self, client, n, burst):
        self.nc, self.n, self.burst, self.got, self.next = client.nc, n, burst, 0, burst
        self.done = asyncio.get_running_loop().create_future()

    def __call__(self, msg):
        self.got = got = self.got + 1
        if got >= self.next:
            self.next += self.burst
            if got >= self.n:
                self.done.done() or self.done.set_result(None)
            else:
                self.credit_task = asyncio.ensure_future(self.nc.publish("bench.ready", b""))

    async def credits(self, k=2):
        for _ in range(k):
            await self.nc.publish("bench.ready", b"")


async def pub(c, a):
    publish, subject, payload = c.nc.publish, a.subject, b"x" * a.size
    m = Meter().start()
    if c.pub_gather:
        for i in range(0, a.n, c.pub_gather):
            await asyncio.gather(*[publish(subject, payload) for _ in range(min(c.pub_gather, a.n - i))])
    else:
        for _ in range(a.n):
            await publish(subject, payload)
    await c.flush()
    return m.stop(a.n)


async def sub(c, a):
    cnt = Counter(c, a.n, a.burst)
    for i in range(a.subs):
        await c.subscribe(f"{a.subject}.{i}" if a.subs > 1 else a.subject, cnt)
    await c.flush()
    m = Meter().start()
    await cnt.credits()
    await cnt.done
    return m.stop(cnt.got)


async def subiter(c, a):
    it = await c.iterate(a.subject)
    await c.flush()
    publish, got, nxt = c.nc.publish, 0, a.burst
    m = Meter().start()
    await Counter(c, a.n, a.burst).credits()
    async for _ in it:
        got += 1
        if got == nxt:
            if got >= a.n:
                break
            nxt += a.burst
            await publish("bench.ready", b"")
    return m.stop(got)


async def rr(c, a):
    request, subject, payload, lat = c.request(), a.subject, b"x" * a.size, []

    async def one(k):
        for _ in range(k):
            t = ns()
            await request(subject, payload)
            lat.append(ns() - t)

    await request(subject, payload)
    m = Meter().start()
    if a.conc == 1:
        await one(a.n)
    else:
        await asyncio.gather(*[one(a.n // a.conc) for _ in range(a.conc)])
    return m.stop(len(lat), lat)


async def serve(c, a):
    done = asyncio.get_running_loop().create_future()
    await c.serve(a.subject, a.n, done)
    await c.flush()
    m = Meter().start()
    await c.nc.publish("bench.ready", b"")
    await done
    await c.flush()
    return m.stop(a.n)


async def jspub(c, a):
    await c.js_setup()
    payload, lat = b"x" * a.size, []
    await c.js_publish(a.subject, payload)
    m = Meter().start()
    if a.conc == 1:
        for _ in range(a.n):
            t = ns()
            await c.js_publish(a.subject, payload)
            lat.append(ns() - t)
    else:
        await c.js_publish_many(a.subject, payload, a.n, a.conc)
    return m.stop(a.n, lat)


async def jsfetch(c, a):
    await c.js_setup()
    m = Meter().start()
    got = await c.js_fetch(a.stream, a.consumer, a.n, a.batch)
    await c.flush()
    return m.stop(got)


async def jsconsume(c, a):
    await c.js_setup()
    m = Meter().start()
    got = await c.js_consume(a.stream, a.consumer, a.n, a.batch)
    await c.flush()
    return m.stop(got)


async def idlesubs(c, a):
    def nothing(msg): ...

    m = Meter().start()
    for i in range(a.n):
        await c.subscribe(f"bench.idle.{i}", nothing)
    await c.flush()
    return m.stop(a.n, rss_kb_per=m.rss_kb_per(a.n))


async def conns(c, a):
    keep = []
    m = Meter().start()
    for _ in range(a.n):
        keep.append(type(c)(a))
        await keep[-1].connect()
    return m.stop(a.n, rss_kb_per=m.rss_kb_per(a.n))


WORKLOADS = {f.__name__: f for f in (pub, sub, subiter, rr, serve, jspub, jsfetch, jsconsume, idlesubs, conns)}
WORKLOADS["fanout"] = sub


def main(cls):
    args = Args()
    if args.workload not in WORKLOADS:
        unsupported(args.workload)

    async def run():
        c = cls(args)
        await c.connect()
        try:
            emit(await WORKLOADS[args.workload](c, args))
        except NotImplementedError:
            unsupported(args.workload)

    run_async(run)
