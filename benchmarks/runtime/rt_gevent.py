"""gevent (libev loop)."""

import gevent
import gevent.socket
import gevent.ssl
from gevent.lock import Semaphore
from gevent.queue import Queue
from gevent.server import StreamServer
from rt import CONNECTIONS, SLEEP, Meter, main, tls_contexts


def noop(): ...


def spawn(a):
    m = Meter().start()
    gevent.joinall([gevent.spawn(noop) for _ in range(a.n)])
    return m.stop(a.n)


def pingpong_chan(a):
    q1, q2, k = Queue(1), Queue(1), a.n // 2

    def pong():
        for _ in range(k):
            q2.put(q1.get())

    m = Meter().start()
    g = gevent.spawn(pong)
    for i in range(k):
        q1.put(i)
        q2.get()
    g.join()
    return m.stop(a.n)


def pingpong_event(a):
    s1, s2, k = Semaphore(0), Semaphore(0), a.n // 2

    def pong():
        for _ in range(k):
            s1.acquire()
            s2.release()

    m = Meter().start()
    g = gevent.spawn(pong)
    for _ in range(k):
        s1.release()
        s2.acquire()
    g.join()
    return m.stop(a.n)


def chan(a):
    q = Queue(a.cap)

    def producer():
        for i in range(a.n):
            q.put(i)

    m = Meter().start()
    g = gevent.spawn(producer)
    for _ in range(a.n):
        q.get()
    g.join()
    return m.stop(a.n)


def yield_(a):
    def task():
        for _ in range(a.n // 2):
            gevent.sleep(0)

    m = Meter().start()
    gevent.joinall([gevent.spawn(task), gevent.spawn(task)])
    return m.stop(a.n)


def sleep(a):
    m = Meter().start()
    gs = [gevent.spawn(gevent.sleep, SLEEP) for _ in range(a.n)]
    gevent.sleep(SLEEP / 2)
    per = m.rss_kb_per(a.n)
    gevent.joinall(gs)
    return m.stop(a.n, minus=SLEEP, rss_kb_per=per)


def echo(a):
    def handle(sock, _):
        while data := sock.recv(65536):
            sock.sendall(data)

    s = StreamServer(("127.0.0.1", 0), handle)
    s.start()
    print(f"port={s.server_port}", flush=True)
    s.serve_forever()


def echo_tls(a):  # both sides here
    server, client = tls_contexts(gevent.ssl.SSLContext)

    def handle(sock, _):
        while data := sock.recv(65536):
            sock.sendall(data)

    def ask(sock, payload):
        for _ in range(a.n // CONNECTIONS):
            sock.sendall(payload)
            left = a.size
            while left:
                left -= len(sock.recv(left))

    s = StreamServer(("127.0.0.1", 0), handle, ssl_context=server)
    s.start()
    address = ("127.0.0.1", s.server_port)
    socks = [client.wrap_socket(gevent.socket.create_connection(address)) for _ in range(CONNECTIONS)]
    m = Meter().start()
    gevent.joinall([gevent.spawn(ask, sock, b"x" * a.size) for sock in socks], raise_error=True)
    r = m.stop(a.n)
    for sock in socks:
        sock.close()
    return r


def to_thread(a):
    m = Meter().start()
    apply = gevent.get_hub().threadpool.apply
    for _ in range(a.n):
        apply(noop)
    return m.stop(a.n)


main(globals())
