"""nats_zio, inside zio.run; with BENCH_THREADS=1 from plain threads over the background runtime."""

import os

import blk

import nats_zio
import zio

THREADS = bool(os.environ.get("BENCH_THREADS"))


class Client(blk.Client):
    def connect(self):
        self.nc = nats_zio.connect(self.args.url)

    def subscribe(self, subject, handler):
        return self.nc.subscribe(subject, cb=handler)

    def receiver(self, subject):
        return self.nc.subscribe(subject).__iter__().__next__

    def wait_done(self, counter):
        done = zio.Event()
        counter.on_done = done.set
        if not counter.done:
            done.wait()

    def serve(self, subject, count):
        sub = self.nc.subscribe(subject, max_msgs=count)

        def wait():
            for msg in sub:
                msg.respond(msg.data)

        return wait

    def requester(self):
        return lambda subject, payload, request=self.nc.request: request(subject, payload, timeout=30)

    def run_all(self, fns):
        if THREADS:
            import threading

            ts = [threading.Thread(target=f) for f in fns]
            [t.start() for t in ts]
            [t.join() for t in ts]
            return
        with zio.TaskGroup() as g:
            for f in fns:
                g.spawn(f)


if THREADS:
    blk.main(Client)
else:
    zio.run(blk.main, Client)
