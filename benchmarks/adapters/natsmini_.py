"""natsmini (gevent). No requests (publish has no reply), no JetStream."""

from gevent import monkey

monkey.patch_all()

import blk  # noqa: E402
import gevent  # noqa: E402
import natsmini  # noqa: E402
from gevent.event import Event  # noqa: E402


class Client(blk.Client):
    def connect(self):
        self.nc = natsmini.connect(self.args.url)

    def flush(self):
        self.nc.flush(120)

    def receiver(self, subject):
        return self.nc.subscribe(subject).recv_msg

    def subscribe(self, subject, handler):  # it has no callbacks: one receiving greenlet per subscription
        sub = self.nc.subscribe(subject)
        if self.args.workload == "idlesubs":
            self.keep = getattr(self, "keep", [])
            self.keep.append(sub)
            return

        def loop(recv=sub.recv_msg):
            while True:
                handler(recv())

        gevent.spawn(loop)

    def wait_done(self, counter):
        ev = Event()
        counter.on_done = ev.set
        ev.wait()

    def serve(self, subject, count):
        recv, publish = self.nc.subscribe(subject).recv_msg, self.nc.publish

        def wait():
            for _ in range(count):
                m = recv()
                publish(m["reply"], m["payload"])

        return wait


blk.main(Client)
