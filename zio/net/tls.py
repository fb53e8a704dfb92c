"""TLS over any stream.

The engine is the standard library's ``SSLObject`` between two memory buffers; ``_lock`` guards it, since a plain
thread may send while a task of the home loop receives, and is never held while anybody waits. Two rules keep the
order of what goes out: ciphertext is handed to the raw stream under the lock, as it is made; and once the raw stream
was full, only one task of the home loop (``_push_rest``) writes to it until nothing is left over.

Whether the socket may hold more is known to the raw stream alone. Here, what was received is decrypted first.
"""

from __future__ import annotations

import contextlib
import errno
import os
import ssl
import threading
from typing import TYPE_CHECKING

from greenlet import getcurrent

from .._core import Busy, Closed, Fiber, Waiter, WaitQueue, WrongLoop, here, notice_fork
from .stream import Stream, checked_size

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .._core import Loop

RECORD = 16384  # the most plaintext that one record carries
MIN_READ = RECORD + 1024  # of ciphertext: a whole record
MAX_READ = 256 << 10
WRITE_SIZE = 64 << 10  # plaintext encrypted before it is written

_NOTHING = memoryview(b"")


class TLSStream(Stream):
    """A stream whose bytes travel encrypted; made by ``stream.start_tls()`` or ``zio.net.connect(tls=)``.

    The end of the stream is b"" only if the peer has announced it; without that announcement what came may have
    been cut short, so ``recv`` raises ``ssl.SSLEOFError`` (not with ``allow_ragged_eof``). ``shutdown_write``
    announces ours, and receiving goes on; ``close`` announces it if there is room, and closes the stream beneath.
    """

    def __init__(
        self,
        raw: Stream,
        context: ssl.SSLContext,
        server_hostname: str | None,
        *,
        server_side: bool,
        allow_ragged_eof: bool,
    ) -> None:
        if not isinstance(context, ssl.SSLContext):
            raise TypeError(f"context={context!r} must be an ssl.SSLContext")
        if server_hostname is not None and not isinstance(server_hostname, str):
            raise TypeError(f"server_hostname={server_hostname!r} must be text, or None")
        if not server_side and context.check_hostname and not server_hostname:
            raise ValueError("server_hostname is missing, and the context checks the name (check_hostname)")
        self._loop: Loop = here().loop
        self._raw = raw
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._object = context.wrap_bio(
            self._incoming, self._outgoing, server_side=server_side, server_hostname=server_hostname
        )
        self._allow_ragged_eof = allow_ragged_eof
        self._lock = threading.Lock()
        self._closed = False
        # Sending.
        self._unsent = _NOTHING  # ciphertext that the raw stream had no room for
        self._pushing = False  # a task of the loop sees to it, or will
        self._room = WaitQueue()  # who waits for that
        self._writer: Fiber | None = None  # who waits to send
        self._write_error: Exception | None = None
        self._write_ended = False
        self._stalled = False  # nothing can be encrypted before more has come in
        # Receiving.
        self._reader: Fiber | None = None  # who waits in recv
        self._feeding = False  # a task waits for the raw stream
        self._fed = WaitQueue()  # others that need what it will get
        self._raw_ended = False
        self._ended = False  # nothing more can be decrypted
        self._drained = False  # nothing can be decrypted before more has come in
        self._read_error: Exception | None = None

    def shake_hands(self) -> None:
        """The handshake. If it fails or does not end, the stream is closed."""
        raw = self._raw
        try:
            while True:
                try:
                    self._object.do_handshake()
                    break
                except ssl.SSLWantReadError:
                    pass
                if self._outgoing.pending:
                    raw.send_all(self._outgoing.read())
                data = raw.recv(MIN_READ)
                if not data:
                    raise ssl.SSLEOFError(ssl.SSL_ERROR_EOF, "the peer closed the connection during the TLS handshake")
                self._incoming.write(data)
            with self._lock:
                self._push()  # a server's last words: the client need not wait for them
        except BaseException as exc:
            if isinstance(exc, ssl.SSLError) and self._outgoing.pending:
                with contextlib.suppress(Exception):
                    raw.send_some(self._outgoing.read())  # tells the peer why
                    raw.discard_received()  # or a reset may overtake that
            self._closed = True
            raw.close()
            raise

    # What it is.

    @property
    def ssl_object(self) -> ssl.SSLObject:
        """The engine, to ask what was agreed on; do not read, write or shut it down."""
        return self._object

    @property
    def raw(self) -> Stream:
        """The stream beneath; do not use it."""
        return self._raw

    @property
    def version(self) -> str | None:
        """The protocol, such as ``TLSv1.3``."""
        return self._object.version()

    def peer_certificate(self) -> bytes | None:
        """The peer's certificate (DER), None if it showed none."""
        with self._lock:
            return self._object.getpeercert(True)

    # Receiving.

    def recv(self, n: int) -> bytes:
        fiber = self._enter("recv")
        if type(n) is not int or n < 0:
            n = checked_size("n", n)
        if self._rest:
            data, self._rest = self._rest[:n], self._rest[n:]
            return data
        while True:
            if n == 0 or not self._drained or self._closed:
                with self._lock:
                    plain = self._decrypt(n)
                if plain is not None:
                    return plain
            if self._reader is not None:
                raise Busy(f"{self._reader.task!r} is reading from {self!r} already")
            self._reader = fiber
            try:
                self._feed(fiber, n)
            finally:
                self._reader = None

    def _decrypt(self, n: int) -> bytes | None:
        """Up to ``n`` bytes of what was received; None if more must come first. Under the lock."""
        if self._closed:
            raise Closed(f"{self!r} is closed")
        parts: list[bytes] = []
        left = n
        try:
            while left > 0 and not self._ended:
                if not (self._incoming.pending or self._object.pending()):  # asking would only raise
                    self._drained = True
                    break
                data = self._object.read(min(left, RECORD))
                if not data:
                    self._ended = True
                parts.append(data)
                left -= len(data)
        except ssl.SSLWantReadError:
            self._drained = True
        except ssl.SSLZeroReturnError:
            self._ended = True
        except ssl.SSLError as exc:
            self._ended = True
            self._read_error = exc
        if self._outgoing.pending:  # an answer of the protocol's own, or why we give up
            with contextlib.suppress(Exception):  # raised where something is sent
                self._push()
        plain = parts[0] if len(parts) == 1 else b"".join(parts)
        if plain or n == 0:
            return plain
        if self._read_error is not None:
            raise self._read_error.with_traceback(None)
        if self._raw_ended and not self._ended:
            self._ended = True
            if not self._allow_ragged_eof:
                self._read_error = _cut_short()
                raise self._read_error
        return b"" if self._ended else None

    def _feed(self, fiber: Fiber, n: int) -> None:
        """Wait for more ciphertext; if another task does so already, for its success or end."""
        if self._feeding:
            waiter = Waiter(fiber, self)
            self._fed.push(waiter)
            self._loop.wait(waiter, None, self._fed.discard)
            return
        self._feeding = True
        try:
            data = self._raw.recv(min(max(n, MIN_READ), MAX_READ))
            with self._lock:
                # The engine is not told of the end, since it may take it for the peer's word.
                if data:
                    self._incoming.write(data)
                    self._stalled = False
                else:
                    self._raw_ended = True
                self._drained = False
        finally:
            self._feeding = False
            if self._fed.items:
                self._fed.wake_all()

    # Sending.

    def send_all(self, data: bytes | bytearray | memoryview) -> None:
        fiber = self._enter("send_all")
        if self._writer is not None:
            raise Busy(f"{self._writer.task!r} is writing to {self!r} already")
        self._send(fiber, data)

    def _send(self, fiber: Fiber, data: bytes | bytearray | memoryview) -> None:
        sent = 0
        try:
            sent = self.send_some(data)
            if sent == len(data) and not self._unsent and type(data) is bytes:
                return
            view = memoryview(data).cast("B")
            while sent < len(view) or self._unsent:
                self._wait_for_room(fiber)
                if sent < len(view):
                    sent += self.send_some(view[sent:])
        except BaseException:
            self.partly_sent = sent
            raise

    @contextlib.contextmanager
    def hold_sending(self) -> Iterator[None]:
        fiber = self._enter("send_file")
        if self._writer is not None:
            raise Busy(f"{self._writer.task!r} is writing to {self!r} already")
        self._writer = fiber
        try:
            yield
        finally:
            self._writer = None

    def send_held(self, data: bytes) -> None:
        fiber = self._writer
        assert fiber is not None
        try:
            self._send(fiber, data)
        finally:
            self._writer = fiber

    def send_some(self, data: bytes | bytearray | memoryview) -> int:
        """Encrypt and send what there is room for now, without waiting; how many bytes were taken, perhaps 0.

        What was taken goes out by itself, also where the raw stream took a part only. An error that comes after a part
        has gone out is raised by the next call.
        """
        with self._lock:
            self._check_sending()
            if self._unsent or self._pushing:
                return 0
            whole = type(data) is bytes and len(data) <= WRITE_SIZE
            view = data if whole else memoryview(data).cast("B")  # the view alone takes a tenth of a short write
            total, done = len(view), 0
            while done < total:
                gone, end = done, min(done + WRITE_SIZE, total)
                try:
                    try:
                        while done < end:
                            done += self._object.write(view[done:end])
                    except ssl.SSLWantReadError:  # the peer wants to agree on something first
                        self._stalled = True
                    if not self._push() or self._stalled:
                        break
                except OSError as exc:
                    self._write_error = exc
                    if gone:  # the caller must not take that for unsent
                        return gone
                    raise
            return done

    def wait_writable(self) -> None:
        """Wait until ``send_some`` may have room again."""
        fiber = self._enter("wait_writable")
        if self._writer is not None:
            raise Busy(f"{self._writer.task!r} is writing to {self!r} already")
        self._wait_for_room(fiber)

    def _wait_for_room(self, fiber: Fiber) -> None:
        while True:
            with self._lock:
                self._check_sending()
                full, stalled = bool(self._unsent) or self._pushing, self._stalled
                if not (full or stalled):
                    return
                if full:
                    waiter = Waiter(fiber, self)
                    self._room.push(waiter)
            self._writer = fiber
            try:
                if full:
                    self._loop.wait(waiter, None, self._room.discard)
                else:
                    self._feed(fiber, 0)
            finally:
                self._writer = None

    def _check_sending(self) -> None:
        if self._closed:
            raise Closed(f"{self!r} is closed")
        if self._write_error is not None:
            raise self._write_error.with_traceback(None)
        if self._write_ended:
            raise BrokenPipeError(errno.EPIPE, f"{os.strerror(errno.EPIPE)}: our side has ended")
        if self._stalled and self._raw_ended:
            raise _cut_short()

    def _push(self) -> bool:
        """Hand the raw stream what is encrypted; False if not all of it found room. Under the lock."""
        data = self._outgoing.read()
        if self._unsent:
            self._unsent = memoryview(bytes(self._unsent) + data)
            return False
        if not data:
            return True
        try:
            sent = self._raw.send_some(data)
        except Exception as exc:
            self._write_error = exc
            raise
        if sent == len(data):
            return True
        self._unsent = memoryview(data)[sent:]
        if not self._pushing and not self._closed:
            self._pushing = True
            self._loop.post(self._start_pushing, optional=True)
        return False

    def _start_pushing(self) -> None:
        self._loop.spawn_system(self._push_rest, name="tls push")

    def _push_rest(self) -> None:
        """A task: send what is left over. It tries before it waits, since the room may have come before it began."""
        try:
            while True:
                with self._lock:
                    if self._closed:
                        break
                    self._unsent = self._unsent[self._raw.send_some(self._unsent) :]
                    if not self._unsent:
                        break
                self._raw.wait_writable()
        except Exception as exc:
            self._write_error = self._write_error or exc
        except BaseException:  # the runtime ends: half a record is out, so nothing more may follow
            self._write_error = self._write_error or ConnectionAbortedError(errno.ECONNABORTED, "cut off in a record")
            raise
        finally:
            self._unsent = _NOTHING
            self._pushing = False
            self._room.wake_all()

    # The end.

    def shutdown_write(self) -> None:
        fiber = self._enter("shutdown_write")
        with self._lock:
            if self._write_ended:
                return
            self._check_sending()
            # Ending our side makes the engine look for the peer's end, and choke on data that it finds there.
            while (data := self._decrypt_quietly()) is not None:
                self._rest += data
            self._say_end()
            self._push()
            if not self._unsent:
                return
        while self._unsent and not self._closed:
            waiter = Waiter(fiber, self)
            self._room.push(waiter)
            self._loop.wait(waiter, None, self._room.discard)

    def _decrypt_quietly(self) -> bytes | None:
        """What is received and not read yet, None at its end; errors stay for ``recv``."""
        if not self._ended and (self._incoming.pending or self._object.pending()):
            with contextlib.suppress(ssl.SSLError):
                return self._decrypt(MAX_READ) or None
        return None

    def _say_end(self) -> None:
        self._write_ended = True
        with contextlib.suppress(ssl.SSLError, ValueError):  # SSLWantReadError: the peer has not ended its side yet
            self._object.unwrap()

    def discard_received(self) -> None:
        self._raw.discard_received()

    def close(self) -> None:
        if self._closed:
            return
        notice_fork()
        loop = self._loop
        if loop.closed or loop.forked:  # in a forked child the connection is the parent's: not a byte may go out
            self._closed = True
            self._raw.close()
            return
        if not loop.is_here():
            self._fiber("close")
        with self._lock:
            self._closed = True
            if self._write_error is None and not self._unsent:
                if not self._write_ended:
                    self._say_end()
                with contextlib.suppress(Exception):
                    self._push()
        # The tickets of TLS 1.3 come unasked, and who only sends never reads them.
        self._raw.discard_received()
        self._raw.close()  # whoever waits for it ends, and wakes who waits for them

    def _fiber(self, what: str) -> Fiber:
        fiber = getcurrent()
        if type(fiber) is Fiber:
            if fiber.loop is self._loop:
                return fiber
            raise WrongLoop(f"{what}: the stream belongs to {self._loop!r}, {fiber.task!r} to {fiber.loop!r}")
        raise RuntimeError(f"{what} needs a task of the stream's runtime: call it inside zio.run(...)")

    def _enter(self, what: str) -> Fiber:
        fiber = self._fiber(what)
        loop = self._loop
        if loop.budget <= 0:
            loop.checkpoint(fiber)
        else:
            loop.budget -= 1
        return fiber

    def __repr__(self) -> str:
        return f"<TLSStream over {self._raw!r}>"


def _cut_short() -> ssl.SSLEOFError:
    return ssl.SSLEOFError(
        ssl.SSL_ERROR_EOF, "the peer closed the connection without ending TLS: what came may have been cut short"
    )


def start_tls(
    raw: Stream,
    context: ssl.SSLContext,
    server_hostname: str | None,
    server_side: bool | None,
    allow_ragged_eof: bool,
) -> TLSStream:
    """What ``Stream.start_tls`` does."""
    fiber = here()
    loop = fiber.loop
    if loop.budget <= 0:
        loop.checkpoint(fiber)
    else:
        loop.budget -= 1
    if raw._rest:
        raise ssl.SSLError(
            f"{len(raw._rest)} bytes came in clear before the TLS handshake and are unread: refused, since anyone may "
            "have put them there"
        )
    if server_side is None and isinstance(context, ssl.SSLContext):
        server_side = context.protocol == ssl.PROTOCOL_TLS_SERVER
    stream = TLSStream(raw, context, server_hostname, server_side=bool(server_side), allow_ragged_eof=allow_ragged_eof)
    stream.shake_hands()
    return stream
