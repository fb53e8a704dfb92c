"""Publish and subscribe, in tasks: the three ways to take messages from a subscription.

python examples/publish_subscribe.py          (NATS_URL=nats://... for a server of yours)
"""

from __future__ import annotations

from _server import server_url

import nats_zio
import zio


def main(url: str) -> None:
    # Nothing here is async, and nothing blocks the others: a call that waits lets the other tasks run.
    with nats_zio.connect(url) as nc:
        # 1. One message after another. A subject is words and dots; "*" stands for one word, ">" for all the rest.
        sub = nc.subscribe("weather.*")
        nc.publish("weather.oslo", "rain")
        nc.publish("weather.rome", "sun", headers={"Station": "LIRU"})
        first, second = sub.next(timeout=1), sub.next(timeout=1)
        print(f"next: {first.subject} {first.data.decode()}, {second.subject} {second.data.decode()}")
        print(f"a header: Station={second.headers['Station']}")
        sub.unsubscribe()

        # 2. A loop. It ends by itself when the subscription does: here after three messages.
        with zio.TaskGroup() as group:
            group.spawn(print_all, nc.subscribe("news.>", max_msgs=3))
            for number in range(3):
                nc.publish("news.local.today", f"story {number}")
        # The group's block ends when its tasks have ended.

        # 3. A handler. It is called for every message, in a task of its own, one message at a time.
        done = zio.Event()

        def handle(message: nats_zio.Message) -> None:
            print(f"handler: {message.data.decode()}")
            if message.data == b"last":
                done.set()

        nc.subscribe("jobs", cb=handle)
        nc.publish("jobs", "first")
        nc.publish("jobs", "last")
        if not done.wait(timeout=5):
            raise TimeoutError("the handler was not called")
    # Leaving the block drained the client: what had come was handled, what was published has gone out.
    print("closed:", nc.is_closed)


def print_all(sub: nats_zio.Subscription) -> None:
    for message in sub:
        print(f"loop: {message.subject} {message.data.decode()}")
    print(f"the loop has ended: {sub.closed_reason}")


if __name__ == "__main__":
    zio.run(main, server_url())
