"""trio."""

import trio
from rt import SLEEP, Meter, emit, pick


async def noop(): ...


async def spawn(a):
    m = Meter().start()
    async with trio.open_nursery() as n:
        for _ in range(a.n):
            n.start_soon(noop)
    return m.stop(a.n)


async def pingpong_chan(a):
    (s1, r1), (s2, r2), k = trio.open_memory_channel(1), trio.open_memory_channel(1), a.n // 2

    async def pong():
        for _ in range(k):
            await s2.send(await r1.receive())

    m = Meter().start()
    async with trio.open_nursery() as n:
        n.start_soon(pong)
        for i in range(k):
            await s1.send(i)
            await r2.receive()
    return m.stop(a.n)


async def pingpong_event(a):
    s1, s2, k = trio.Semaphore(0), trio.Semaphore(0), a.n // 2

    async def pong():
        for _ in range(k):
            await s1.acquire()
            s2.release()

    m = Meter().start()
    async with trio.open_nursery() as n:
        n.start_soon(pong)
        for _ in range(k):
            s1.release()
            await s2.acquire()
    return m.stop(a.n)


async def chan(a):
    s, r = trio.open_memory_channel(a.cap)

    async def producer():
        for i in range(a.n):
            await s.send(i)

    m = Meter().start()
    async with trio.open_nursery() as n:
        n.start_soon(producer)
        for _ in range(a.n):
            await r.receive()
    return m.stop(a.n)


async def yield_(a):
    async def task():
        for _ in range(a.n // 2):
            await trio.lowlevel.checkpoint()

    m = Meter().start()
    async with trio.open_nursery() as n:
        n.start_soon(task)
        n.start_soon(task)
    return m.stop(a.n)


async def sleep(a):
    m = Meter().start()
    async with trio.open_nursery() as n:
        for _ in range(a.n):
            n.start_soon(trio.sleep, SLEEP)
        await trio.sleep(SLEEP / 2)
        per = m.rss_kb_per(a.n)
    return m.stop(a.n, minus=SLEEP, rss_kb_per=per)


async def echo(a):
    async def handle(stream):
        async with stream:
            while data := await stream.receive_some(65536):
                await stream.send_all(data)

    ls = await trio.open_tcp_listeners(0, host="127.0.0.1")
    print(f"port={ls[0].socket.getsockname()[1]}", flush=True)
    await trio.serve_listeners(handle, ls)


async def to_thread(a):
    m = Meter().start()
    for _ in range(a.n):
        await trio.to_thread.run_sync(noop_)
    return m.stop(a.n)


def noop_(): ...


a, f = pick(globals())
emit(trio.run(f, a))
