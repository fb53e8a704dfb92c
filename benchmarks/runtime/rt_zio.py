"""zio (Python)."""

from rt import CONNECTIONS, SLEEP, Meter, main, tls_contexts

import zio


def noop(): ...


def spawn(a):
    m = Meter().start()
    for t in [zio.spawn(noop) for _ in range(a.n)]:
        t.join()
    return m.stop(a.n)


def pingpong_chan(a):
    q1, q2, k = zio.Channel(1), zio.Channel(1), a.n // 2

    def pong():
        for _ in range(k):
            q2.send(q1.recv())

    m = Meter().start()
    t = zio.spawn(pong)
    for i in range(k):
        q1.send(i)
        q2.recv()
    t.join()
    return m.stop(a.n)


def pingpong_event(a):
    s1, s2, k = zio.Semaphore(0), zio.Semaphore(0), a.n // 2

    def pong():
        for _ in range(k):
            s1.acquire()
            s2.release()

    m = Meter().start()
    t = zio.spawn(pong)
    for _ in range(k):
        s1.release()
        s2.acquire()
    t.join()
    return m.stop(a.n)


def chan(a):
    q = zio.Channel(a.cap)

    def producer():
        for i in range(a.n):
            q.send(i)

    m = Meter().start()
    t = zio.spawn(producer)
    for _ in range(a.n):
        q.recv()
    t.join()
    return m.stop(a.n)


def yield_(a):
    def task():
        for _ in range(a.n // 2):
            zio.pause()

    m = Meter().start()
    ts = [zio.spawn(task), zio.spawn(task)]
    for t in ts:
        t.join()
    return m.stop(a.n)


def sleep(a):
    m = Meter().start()
    ts = [zio.spawn(zio.sleep, SLEEP) for _ in range(a.n)]
    zio.sleep(SLEEP / 2)
    per = m.rss_kb_per(a.n)
    for t in ts:
        t.join()
    return m.stop(a.n, minus=SLEEP, rss_kb_per=per)


def echo(a):
    def handle(stream):
        while data := stream.recv(65536):
            stream.send_all(data)

    listener = zio.net.listen("127.0.0.1", 0)
    print(f"port={listener.port}", flush=True)
    while True:
        zio.spawn(handle, listener.accept())


def echo_tls(a):  # both sides here
    server, client = tls_contexts()
    listener = zio.net.listen("127.0.0.1", 0)

    def handle(stream):
        with stream.start_tls(server, server_side=True) as tls:
            while data := tls.recv(65536):
                tls.send_all(data)

    def accept():
        for _ in range(CONNECTIONS):
            zio.spawn(handle, listener.accept())

    def ask(stream, payload):
        for _ in range(a.n // CONNECTIONS):
            stream.send_all(payload)
            stream.recv_exactly(a.size)

    with zio.TaskGroup() as group:
        group.spawn(accept)
        streams = [zio.net.connect("127.0.0.1", listener.port).start_tls(client) for _ in range(CONNECTIONS)]
    m = Meter().start()
    with zio.TaskGroup() as group:
        for stream in streams:
            group.spawn(ask, stream, b"x" * a.size)
    r = m.stop(a.n)
    for stream in streams:
        stream.close()
    return r


def to_thread(a):
    m = Meter().start()
    for _ in range(a.n):
        zio.to_thread(noop)
    return m.stop(a.n)


zio.run(main, globals())
