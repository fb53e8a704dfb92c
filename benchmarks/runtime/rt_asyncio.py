"""asyncio (BENCH_LOOP=uvloop for uvloop)."""

import asyncio

from rt import CONNECTIONS, SLEEP, Meter, main_async, tls_contexts


async def noop(): ...


async def spawn(a):
    m = Meter().start()
    await asyncio.gather(*[asyncio.ensure_future(noop()) for _ in range(a.n)])
    return m.stop(a.n)


async def pingpong_chan(a):
    q1, q2, k = asyncio.Queue(1), asyncio.Queue(1), a.n // 2

    async def pong():
        for _ in range(k):
            await q2.put(await q1.get())

    m = Meter().start()
    t = asyncio.ensure_future(pong())
    for i in range(k):
        await q1.put(i)
        await q2.get()
    await t
    return m.stop(a.n)


async def pingpong_event(a):
    s1, s2, k = asyncio.Semaphore(0), asyncio.Semaphore(0), a.n // 2

    async def pong():
        for _ in range(k):
            await s1.acquire()
            s2.release()

    m = Meter().start()
    t = asyncio.ensure_future(pong())
    for _ in range(k):
        s1.release()
        await s2.acquire()
    await t
    return m.stop(a.n)


async def chan(a):
    q = asyncio.Queue(a.cap)

    async def producer():
        for i in range(a.n):
            await q.put(i)

    m = Meter().start()
    t = asyncio.ensure_future(producer())
    for _ in range(a.n):
        await q.get()
    await t
    return m.stop(a.n)


async def yield_(a):
    async def task():
        for _ in range(a.n // 2):
            await asyncio.sleep(0)

    m = Meter().start()
    await asyncio.gather(task(), task())
    return m.stop(a.n)


async def sleep(a):
    m = Meter().start()
    ts = [asyncio.ensure_future(asyncio.sleep(SLEEP)) for _ in range(a.n)]
    await asyncio.sleep(0)
    per = m.rss_kb_per(a.n)
    await asyncio.gather(*ts)
    return m.stop(a.n, minus=SLEEP, rss_kb_per=per)


async def echo(a):  # the streams API
    async def handle(r, w):
        try:
            while data := await r.read(65536):
                w.write(data)
                await w.drain()
        finally:
            w.close()

    s = await asyncio.start_server(handle, "127.0.0.1", 0)
    print(f"port={s.sockets[0].getsockname()[1]}", flush=True)
    await s.serve_forever()


async def echo_proto(a):  # the callback API
    class P(asyncio.Protocol):
        def connection_made(self, t):
            self.t = t

        def data_received(self, data):
            self.t.write(data)

    s = await asyncio.get_running_loop().create_server(P, "127.0.0.1", 0)
    print(f"port={s.sockets[0].getsockname()[1]}", flush=True)
    await s.serve_forever()


async def echo_tls(a):  # both sides here
    server, client = tls_contexts()

    async def handle(r, w):
        while data := await r.read(65536):
            w.write(data)
            await w.drain()
        w.close()

    async def ask(r, w, payload):
        for _ in range(a.n // CONNECTIONS):
            w.write(payload)
            await w.drain()
            await r.readexactly(a.size)

    s = await asyncio.start_server(handle, "127.0.0.1", 0, ssl=server)
    port = s.sockets[0].getsockname()[1]
    streams = [await asyncio.open_connection("127.0.0.1", port, ssl=client) for _ in range(CONNECTIONS)]
    m = Meter().start()
    async with asyncio.TaskGroup() as group:
        for r, w in streams:
            group.create_task(ask(r, w, b"x" * a.size))
    result = m.stop(a.n)
    for _, w in streams:
        w.close()
    return result


async def to_thread(a):
    m = Meter().start()
    for _ in range(a.n):
        await asyncio.to_thread(noop_)
    return m.stop(a.n)


def noop_(): ...


main_async(globals())
