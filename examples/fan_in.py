"""Fan in: one loop waits for two subscriptions, the events of the connection and a timer, whichever comes first.

python examples/fan_in.py                     (NATS_URL=nats://... for a server of yours)
"""

from __future__ import annotations

from _server import server_url

import nats_zio
import zio


def main(url: str) -> None:
    with nats_zio.connect(url) as nc, zio.TaskGroup() as group:
        orders, payments = nc.subscribe("orders"), nc.subscribe("payments")
        events = nc.events()
        group.spawn(customers, nc)

        counts = {"orders": 0, "payments": 0}
        reports = 0
        tick = zio.after(0.2)
        while reports < 3:
            # What is not chosen loses nothing: its message stays where it is, for the next turn.
            source, value = zio.select(orders=orders, payments=payments, event=events, tick=tick)
            if source == "tick":
                reports += 1
                print(f"report {reports}: {counts['orders']} orders, {counts['payments']} payments")
                tick = zio.after(0.2)
            elif source == "event":
                print(f"event: {type(value).__name__}")
            else:
                counts[source] += 1
        group.cancel()  # the customers would go on for ever


def customers(nc: nats_zio.Client) -> None:
    number = 0
    while True:
        number += 1
        nc.publish("orders", str(number))
        if number % 2 == 0:
            nc.publish("payments", str(number))
        if number == 10:
            nc.force_reconnect()  # the link breaks and mends; the subscriptions are still there
        zio.sleep(0.01)


if __name__ == "__main__":
    zio.run(main, server_url())
