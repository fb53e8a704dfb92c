"""nats-py-sync: blocking wrapper, one run_until_complete per call. KV only, no JetStream publish/consume."""

import blk
import nats_sync


class Client(blk.Client):
    def connect(self):
        self.nc = nats_sync.connect(self.args.url)

    def flush(self):  # it has no flush of its own
        self.nc._loop.run_until_complete(self.nc._nc.flush(timeout=120))

    def receiver(self, subject):
        return self.nc.subscribe(subject).recv

    def subscribe(self, subject, handler):  # no callbacks
        if self.args.workload != "idlesubs":
            raise NotImplementedError
        self.nc.subscribe(subject)

    def requester(self):
        nc = self.nc
        return lambda subject, payload: nc.request(subject, payload, 30)

    def serve(self, subject, count):
        sub = self.nc.subscribe(subject)

        def wait():
            for _ in range(count):
                m = sub.recv()
                sub.respond(m, m.data)

        return wait


blk.main(Client)
