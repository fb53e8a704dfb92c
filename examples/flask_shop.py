"""A shop in Flask: orders and questions go to another service. Needs flask.

python examples/flask_shop.py                 (NATS_URL=nats://... for a server of yours)

The program starts the web server, plays its customers and the stock service, and ends.
"""

from __future__ import annotations

import json
import threading
import urllib.error
import urllib.request
from typing import Any

from _server import server_url
from flask import Flask, request
from werkzeug.serving import WSGIRequestHandler, make_server

import nats_zio


def create_app(nc: nats_zio.Client) -> Flask:
    """The client is made lazily, so it may be made before a web server forks its workers."""
    app = Flask(__name__)

    @app.post("/orders")
    def order() -> Any:
        reply = nc.request("orders.new", request.get_data(), timeout=2)  # the reply says that it has been seen to
        return {"left": int(reply.data)}, 201

    @app.get("/stock/<item>")
    def stock(item: str) -> Any:
        return {item: int(nc.request("stock.left", item, timeout=2).data)}

    @app.errorhandler(nats_zio.Error)
    def failed(error: nats_zio.Error) -> Any:
        return {"error": str(error)}, 504 if isinstance(error, TimeoutError) else 503

    return app


class StockService:
    """What another program would be: it takes the orders, and knows what is left."""

    def __init__(self, url: str) -> None:
        self.left = {"apples": 20}
        self.nc = nats_zio.connect(url, name="stock")
        self.nc.subscribe("orders.new", queue="stock", cb=self.sell)
        self.nc.subscribe("stock.left", queue="stock", cb=self.answer)
        self.nc.flush()

    def sell(self, message: nats_zio.Message) -> None:
        number, item = message.data.decode().split()
        self.left[item] -= int(number)  # no lock: one handler, one message at a time
        message.respond(str(self.left[item]))

    def answer(self, question: nats_zio.Message) -> None:
        question.respond(str(self.left.get(question.data.decode(), 0)))


class Quiet(WSGIRequestHandler):
    def log(self, *_: Any) -> None:
        """No line for each request."""


def main(url: str) -> None:
    nc = nats_zio.connect(url, name="shop", lazy=True)
    web = make_server("127.0.0.1", 0, create_app(nc), threaded=True, request_handler=Quiet)
    serving = threading.Thread(target=web.serve_forever)
    serving.start()
    address = f"http://127.0.0.1:{web.server_port}"
    try:
        print("without the stock service:", ask(f"{address}/stock/apples"))
        stock = StockService(url)
        customers = [threading.Thread(target=ask, args=(f"{address}/orders", b"1 apples")) for _ in range(8)]
        for customer in customers:
            customer.start()
        for customer in customers:
            customer.join()
        print("after eight customers:", ask(f"{address}/stock/apples"))
        stock.nc.drain()
        print("after the stock service has ended:", ask(f"{address}/stock/apples"))
    finally:
        web.shutdown()
        serving.join()
        web.server_close()
        nc.drain()


def ask(url: str, data: bytes | None = None) -> tuple[int, Any]:
    """What a customer's browser does."""
    try:
        with urllib.request.urlopen(url, data, timeout=10) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.load(error)


if __name__ == "__main__":
    main(server_url())
