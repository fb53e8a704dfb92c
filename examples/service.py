"""A service: members of a queue group answer requests, until SIGTERM or Control-C; then no request is lost.

python examples/service.py                    (NATS_URL=nats://... for a server of yours)

Start it twice with the same NATS_URL and the two share the work. It prints where it listens; ask it with

    python -c "import nats_zio; print(nats_zio.connect('nats://...').request('square', '12').data)"
"""

from __future__ import annotations

import signal

from _server import server_url

import nats_zio
import zio

WORKERS = 4  # requests that this process works on at the same time


def main(url: str) -> None:
    # Inside this block the two signals come to us and do nothing else.
    with zio.signals(signal.SIGTERM, signal.SIGINT) as stop, nats_zio.connect(url, name="square service") as nc:
        # Of the subscribers of one queue group the server gives each message to one only.
        requests = nc.subscribe("square", queue="squares")
        nc.flush()  # now the server knows the subscription
        print(f"answering requests on 'square' at {nc.connected_url}", flush=True)
        with zio.TaskGroup() as group:
            workers = [group.spawn(work, requests) for _ in range(WORKERS)]
            print(f"{stop.wait().name}: no new requests, finishing those that are here", flush=True)
            # The server is told to send us no more. What is on its way still comes, and then the workers' loops end.
            requests.drain()
        # All workers have ended. Leaving the outer block sends out what is left, and closes.
    print(f"answered {sum(worker.join() for worker in workers)} requests")


def work(requests: nats_zio.Subscription) -> int:
    answered = 0
    for request in requests:
        zio.sleep(0.01)  # a database, say. The other workers go on meanwhile
        try:
            answer, headers = str(int(request.data) ** 2), None
        except ValueError:
            answer, headers = "", {"Error": "not a number"}
        request.respond(answer, headers=headers)
        answered += 1
    return answered


if __name__ == "__main__":
    zio.run(main, server_url())
