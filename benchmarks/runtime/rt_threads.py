"""OS threads under the GIL: the baseline. Tasks are started in groups (there is no room for 100k at once)."""

import socket
import threading
from queue import Queue

from rt import Meter, main


def noop(): ...


def spawn(a, group=500):
    m = Meter().start()
    for _ in range(a.n // group):
        ts = [threading.Thread(target=noop) for _ in range(group)]
        for t in ts:
            t.start()
        for t in ts:
            t.join()
    return m.stop(a.n)


def pingpong_chan(a):
    q1, q2, k = Queue(1), Queue(1), a.n // 20

    def pong():
        for _ in range(k):
            q2.put(q1.get())

    m = Meter().start()
    t = threading.Thread(target=pong)
    t.start()
    for i in range(k):
        q1.put(i)
        q2.get()
    t.join()
    return m.stop(k * 2)


def pingpong_event(a):
    s1, s2, k = threading.Semaphore(0), threading.Semaphore(0), a.n // 20

    def pong():
        for _ in range(k):
            s1.acquire()
            s2.release()

    m = Meter().start()
    t = threading.Thread(target=pong)
    t.start()
    for _ in range(k):
        s1.release()
        s2.acquire()
    t.join()
    return m.stop(k * 2)


def chan(a):
    q, n = Queue(a.cap), a.n // 4

    def producer():
        for i in range(n):
            q.put(i)

    m = Meter().start()
    t = threading.Thread(target=producer)
    t.start()
    for _ in range(n):
        q.get()
    t.join()
    return m.stop(n)


def echo(a):
    def handle(sock):
        while data := sock.recv(65536):
            sock.sendall(data)

    s = socket.create_server(("127.0.0.1", 0), backlog=200)
    print(f"port={s.getsockname()[1]}", flush=True)
    while True:
        threading.Thread(target=handle, args=(s.accept()[0],), daemon=True).start()


main(globals())
