"""The floor in pure Python: a blocking socket, the shortest parser, no loop, no queue, no reconnect.

Not a client and not a peer to beat: it shows what interpreting the protocol costs by itself.
"""

import socket

import blk


class Msg:
    __slots__ = ("subject", "reply", "data")

    def __init__(self, subject, reply, data):
        self.subject, self.reply, self.data = subject, reply, data


class Conn:
    def __init__(self, port):
        self.sock = socket.create_connection(("127.0.0.1", port))
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.out, self.size, self.rest, self.handlers, self.pongs = [], 0, b"", {}, 0
        self.write(b'CONNECT {"verbose":false,"headers":true,"no_responders":true,"protocol":1}\r\n')
        self.flush()

    def write(self, data):
        self.out.append(data)
        self.size += len(data)
        if self.size > 65536:
            self.send()

    def send(self):
        if self.out:
            out, self.out, self.size = self.out, [], 0
            self.sock.sendall(b"".join(out))

    def publish(self, subject, payload, reply=None):
        if reply:
            self.write(b"PUB %b %b %d\r\n%b\r\n" % (subject.encode(), reply.encode(), len(payload), payload))
        else:
            self.write(b"PUB %b %d\r\n%b\r\n" % (subject.encode(), len(payload), payload))

    def subscribe(self, subject, handler):
        sid = len(self.handlers) + 1
        self.handlers[sid] = handler
        self.write(b"SUB %b %d\r\n" % (subject.encode(), sid))

    def flush(self):
        want = self.pongs + 1
        self.write(b"PING\r\n")
        while self.pongs < want:
            self.pump()

    def pump(self):
        """One recv, and every message in it to its handler."""
        self.send()
        data = self.sock.recv(262144)
        if not data:
            raise ConnectionError
        if self.rest:
            data = self.rest + data
        pos, total, find, handlers = 0, len(data), data.find, self.handlers
        while True:
            eol = find(b"\r\n", pos)
            if eol < 0:
                break
            if data[pos] == 77:  # M
                a = data[pos:eol].split()
                end = eol + 2 + int(a[-1])
                if end + 2 > total:
                    break
                handlers[int(a[2])](Msg(a[1].decode(), a[3].decode() if len(a) == 5 else None, data[eol + 2 : end]))
                pos = end + 2
            else:
                op, pos = data[pos : pos + 4], eol + 2
                if op == b"PING":
                    self.write(b"PONG\r\n")
                elif op == b"PONG":
                    self.pongs += 1
                elif op == b"-ERR":
                    raise ConnectionError(data[pos:eol])
        self.rest = data[pos:]


class Client(blk.Client):
    def connect(self):
        self.nc = Conn(self.args.port)

    def subscribe(self, subject, handler):
        self.nc.subscribe(subject, handler)

    def wait_done(self, counter):
        while not counter.done:
            self.nc.pump()

    def serve(self, subject, count):
        nc, left = self.nc, count

        def on(msg):
            nonlocal left
            nc.publish(msg.reply, msg.data)
            left -= 1

        nc.subscribe(subject, on)

        def wait():
            while left > 0:
                nc.pump()
            nc.send()

        return wait

    def requester(self):
        nc, got = self.nc, []
        nc.subscribe("_INBOX.floor.*", got.append)

        def request(subject, payload):
            nc.publish(subject, payload, "_INBOX.floor.1")
            while not got:
                nc.pump()
            return got.pop()

        return request

    def js_setup(self): ...

    def js_publisher(self):
        return self.requester()


blk.main(Client)
