"""A plain script with threads, no zio.run: the client works in the background and every thread may use it.

python examples/plain_script.py               (NATS_URL=nats://... for a server of yours)
"""

from __future__ import annotations

import threading

from _server import server_url

import nats_zio


def main(url: str) -> None:
    # One client for all threads. It answers the server's pings also while this thread computes.
    nc = nats_zio.connect(url)

    # The handler runs on a worker thread, so it may do what blocks: take locks, call a database.
    lock = threading.Lock()
    stock = {"apples": 30, "pears": 20}

    def sell(message: nats_zio.Message) -> None:
        fruit = message.data.decode()
        with lock:
            stock[fruit] -= 1
            message.respond(str(stock[fruit]))

    nc.subscribe("shop.sell", cb=sell)
    report = nc.subscribe("shop.report")

    def customer(number: int) -> None:
        for _ in range(5):
            # Blocks this thread only. Every call that waits takes a timeout; this is also the default.
            nc.request("shop.sell", "apples" if number % 2 else "pears", timeout=5)
        nc.publish("shop.report", f"customer {number} has 5")

    customers = [threading.Thread(target=customer, args=(number,)) for number in range(8)]
    for thread in customers:
        thread.start()
    for thread in customers:
        thread.join()

    reports = [report.next(timeout=5).data.decode() for _ in customers]
    print(f"{len(reports)} reports: {', '.join(sorted(reports))}")
    print(f"left in stock: {stock}")

    # Published and then the program just ends: what was accepted still goes out, within two seconds.
    for number in range(1000):
        nc.publish("shop.log", f"line {number}")
    print("published 1000 lines and ended without flush or close")


if __name__ == "__main__":
    main(server_url())
