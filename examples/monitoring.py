"""Monitoring a client: what happens to its connection, as data; counters and a health check for operators.

python examples/monitoring.py                 (NATS_URL=nats://... for a server of yours)

The server is killed and started again meanwhile; with NATS_URL set, the connection is dropped instead.
"""

from __future__ import annotations

import logging
import os

from _server import start_server

import nats_zio
import zio
from nats_zio import events
from nats_zio.testing import NatsServer

PERIOD = 0.2  # seconds between two reports
OUTAGE = 0.5  # seconds


def main(url: str, server: NatsServer | None) -> None:
    logging.getLogger("nats_zio").setLevel(logging.ERROR)  # its warnings are events too, and shown below
    with nats_zio.connect(url, name="monitored") as nc:
        print(f"connected to {nc.connected_url}, nats-server {nc.server_info.version}")
        readings = nc.subscribe("readings", pending_msgs=100)  # nobody reads it: a slow consumer
        with zio.TaskGroup() as group:
            monitoring = group.spawn(monitor, nc, nc.events())
            publishing = group.spawn(publish, nc)
            zio.sleep(OUTAGE)
            if server is None:
                nc.force_reconnect()
            else:
                zio.to_thread(server.kill)
                zio.sleep(OUTAGE)
                zio.to_thread(server.start)
            monitoring.join()
            publishing.cancel()
        print(f"dropped by the slow subscription: {'some' if readings.dropped else 'none'}")


def monitor(nc: nats_zio.Client, news: events.Receiver) -> None:
    """Tell of each event when it happens, and of the counters every now and then; until all is well again."""
    mended = False
    tick = zio.after(PERIOD)
    while True:
        source, event = zio.select(news=news, tick=tick)
        if source == "tick":
            tick = zio.after(PERIOD)
            state = health(nc)
            print(f"{state}; {nc.stats.out_msgs:,} published, {nc.stats.reconnects} reconnects")
            if mended and state.startswith("healthy"):
                return
            continue
        match event:
            case events.Disconnected():
                print(f"lost the connection, and at most {event.unflushed_msgs:,} messages with it: {event.error}")
            case events.Reconnected():
                print(f"connected again to {event.url}")
                mended = True
            case events.SlowConsumer():
                print(f"{event.sub.subject!r} is read too slowly")
            case events.ReconnectFailed():
                pass  # one for each attempt; the reports say it all
            case _:
                print(f"event: {event}")


def health(nc: nats_zio.Client) -> str:
    """What a health check would answer: a round trip, not only a flag."""
    try:
        return f"healthy, {nc.rtt(timeout=0.2) * 1000:.1f} ms"
    except nats_zio.Error as error:
        return f"not healthy ({nc.status.value}): {error}"


def publish(nc: nats_zio.Client) -> None:
    while True:
        nc.publish("readings", b"21.4")
        zio.sleep(0.001)


if __name__ == "__main__":
    address = os.environ.get("NATS_URL")
    if address:
        zio.run(main, address, None)
    else:
        with start_server() as embedded:
            zio.run(main, embedded.url, embedded)
