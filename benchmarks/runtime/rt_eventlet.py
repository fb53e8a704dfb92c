"""eventlet (its own hub: epoll)."""

import eventlet
from eventlet.queue import LightQueue
from eventlet.semaphore import Semaphore
from rt import SLEEP, Meter, main


def noop(): ...


def spawn(a):
    m = Meter().start()
    for g in [eventlet.spawn(noop) for _ in range(a.n)]:
        g.wait()
    return m.stop(a.n)


def pingpong_chan(a):
    q1, q2, k = LightQueue(1), LightQueue(1), a.n // 2

    def pong():
        for _ in range(k):
            q2.put(q1.get())

    m = Meter().start()
    g = eventlet.spawn(pong)
    for i in range(k):
        q1.put(i)
        q2.get()
    g.wait()
    return m.stop(a.n)


def pingpong_event(a):
    s1, s2, k = Semaphore(0), Semaphore(0), a.n // 2

    def pong():
        for _ in range(k):
            s1.acquire()
            s2.release()

    m = Meter().start()
    g = eventlet.spawn(pong)
    for _ in range(k):
        s1.release()
        s2.acquire()
    g.wait()
    return m.stop(a.n)


def chan(a):
    q = LightQueue(a.cap)

    def producer():
        for i in range(a.n):
            q.put(i)

    m = Meter().start()
    g = eventlet.spawn(producer)
    for _ in range(a.n):
        q.get()
    g.wait()
    return m.stop(a.n)


def yield_(a):
    def task():
        for _ in range(a.n // 2):
            eventlet.sleep(0)

    m = Meter().start()
    for g in [eventlet.spawn(task), eventlet.spawn(task)]:
        g.wait()
    return m.stop(a.n)


def sleep(a):
    m = Meter().start()
    gs = [eventlet.spawn(eventlet.sleep, SLEEP) for _ in range(a.n)]
    eventlet.sleep(SLEEP / 2)
    per = m.rss_kb_per(a.n)
    for g in gs:
        g.wait()
    return m.stop(a.n, minus=SLEEP, rss_kb_per=per)


def echo(a):
    def handle(sock, _):
        while data := sock.recv(65536):
            sock.sendall(data)

    s = eventlet.listen(("127.0.0.1", 0))
    print(f"port={s.getsockname()[1]}", flush=True)
    eventlet.serve(s, handle)


main(globals())
