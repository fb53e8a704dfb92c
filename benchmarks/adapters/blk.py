"""The workloads for clients with blocking calls: greenlet based or plain synchronous ones.

An adapter subclasses Client and calls main(Client); a greenlet client sets spawn/join so that its tasks
run as its own coroutines. Hot loops call the client's own methods, no wrapper is timed.
"""

from time import perf_counter_ns as ns

from common import Args, Meter, emit, unsupported


class Client:
    def __init__(self, args):
        self.args = args

    def connect(self): ...  # sets self.nc
    def flush(self):
        self.nc.flush()

    def subscribe(self, subject, handler):
        raise NotImplementedError  # callback style: handler(msg)

    def receiver(self, subject):
        raise NotImplementedError  # pull style -> callable() -> msg

    def wait_done(self, counter):
        raise NotImplementedError  # block until the counter has n (set its on_done)

    def serve(self, subject, count):
        raise NotImplementedError  # subscribe, then return a callable that blocks till served

    def requester(self):
        raise NotImplementedError  # -> callable(subject, payload)

    def run_all(self, fns):
        raise NotImplementedError  # run concurrently, return when all are done

    def js_setup(self):
        raise NotImplementedError

    def js_publisher(self):
        raise NotImplementedError  # -> callable(subject, payload)

    def js_publish_many(self, subject, payload, n, window):
        raise NotImplementedError

    def js_fetch(self, stream, consumer, n, batch):
        raise NotImplementedError

    def js_consume(self, stream, consumer, n, batch):
        raise NotImplementedError


class Counter:
    """Counts deliveries, gives the feeder its credits, and calls on_done() at n."""

    on_done = done = None

    def __init__(self, client, n, burst):
        self.nc, self.n, self.burst, self.got, self.next = client.nc, n, burst, 0, burst

    def __call__(self, msg):
        self.got = got = self.got + 1
        if got >= self.next:
            self.next += self.burst
            if got >= self.n:
                self.done = True
                self.on_done and self.on_done()
            else:
                self.nc.publish("bench.ready", b"")


def credits(c, k=2):
    for _ in range(k):
        c.nc.publish("bench.ready", b"")


def pub(c, a):
    publish, subject, payload = c.nc.publish, a.subject, b"x" * a.size
    m = Meter().start()
    for _ in range(a.n):
        publish(subject, payload)
    c.flush()
    return m.stop(a.n)


def sub(c, a):
    cnt = Counter(c, a.n, a.burst)
    for i in range(a.subs):
        c.subscribe(f"{a.subject}.{i}" if a.subs > 1 else a.subject, cnt)
    c.flush()
    m = Meter().start()
    credits(c)
    c.wait_done(cnt)
    return m.stop(cnt.got)


def subiter(c, a):
    recv, publish, got, nxt = c.receiver(a.subject), c.nc.publish, 0, a.burst
    c.flush()
    m = Meter().start()
    credits(c)
    while True:
        recv()
        got += 1
        if got == nxt:
            if got >= a.n:
                break
            nxt += a.burst
            publish("bench.ready", b"")
    return m.stop(got)


def rr(c, a):
    request, subject, payload, lat = c.requester(), a.subject, b"x" * a.size, []

    def one(k=a.n // a.conc):
        for _ in range(k):
            t = ns()
            request(subject, payload)
            lat.append(ns() - t)

    request(subject, payload)
    m = Meter().start()
    if a.conc == 1:
        one()
    else:
        c.run_all([one] * a.conc)
    return m.stop(len(lat), lat)


def serve(c, a):
    wait = c.serve(a.subject, a.n)
    c.flush()
    m = Meter().start()
    c.nc.publish("bench.ready", b"")
    wait()
    c.flush()
    return m.stop(a.n)


def jspub(c, a):
    c.js_setup()
    publish, payload, lat = c.js_publisher(), b"x" * a.size, []
    publish(a.subject, payload)
    m = Meter().start()
    if a.conc == 1:
        for _ in range(a.n):
            t = ns()
            publish(a.subject, payload)
            lat.append(ns() - t)
    else:
        c.js_publish_many(a.subject, payload, a.n, a.conc)
    return m.stop(a.n, lat)


def jsfetch(c, a):
    c.js_setup()
    m = Meter().start()
    got = c.js_fetch(a.stream, a.consumer, a.n, a.batch)
    c.flush()
    return m.stop(got)


def jsconsume(c, a):
    c.js_setup()
    m = Meter().start()
    got = c.js_consume(a.stream, a.consumer, a.n, a.batch)
    c.flush()
    return m.stop(got)


def idlesubs(c, a):
    m = Meter().start()
    for i in range(a.n):
        c.subscribe(f"bench.idle.{i}", lambda msg: None)
    c.flush()
    return m.stop(a.n, rss_kb_per=m.rss_kb_per(a.n))


def conns(c, a):
    keep = []
    m = Meter().start()
    for _ in range(a.n):
        keep.append(type(c)(a))
        keep[-1].connect()
    return m.stop(a.n, rss_kb_per=m.rss_kb_per(a.n))


WORKLOADS = {f.__name__: f for f in (pub, sub, subiter, rr, serve, jspub, jsfetch, jsconsume, idlesubs, conns)}
WORKLOADS["fanout"] = sub


def main(cls):
    args = Args()
    if args.workload not in WORKLOADS:
        unsupported(args.workload)
    c = cls(args)
    c.connect()
    try:
        emit(WORKLOADS[args.workload](c, args))
    except NotImplementedError:
        unsupported(args.workload)
