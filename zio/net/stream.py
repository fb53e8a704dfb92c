"""What every byte stream offers, whatever carries it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from contextlib import contextmanager
from operator import index
from typing import TYPE_CHECKING, Self

from .._core import Closed

if TYPE_CHECKING:
    import os
    from collections.abc import Collection, Iterable, Iterator
    from ssl import SSLContext
    from typing import BinaryIO

    from .files import HasDescriptor
    from .lending import Loan
    from .tls import TLSStream

    StrPath = str | os.PathLike[str]


# What recv_until receives at a time. Of what is left of it after a line all is copied, so no more.
AT_ONCE = 8192


def checked_size(name: str, n: int, least: int = 0) -> int:
    """``n`` as a number of bytes; TypeError or ValueError, which names the argument, if it is none."""
    try:
        whole = index(n)
    except TypeError:
        raise TypeError(f"{name}={n!r} must be a whole number of bytes") from None
    if whole < least:
        raise ValueError(f"{name}={n!r} must be {least} or more: it is a number of bytes")
    return whole


def _checked_separator(separator: bytes, max_bytes: int) -> bytes:
    """What recv_until needs in order to find it with ``max_bytes``; TypeError or ValueError if it cannot be found."""
    if not isinstance(separator, (bytes, bytearray, memoryview)):
        raise TypeError(f"separator={separator!r} must be bytes")
    separator = bytes(separator)
    if not separator:
        raise ValueError("separator=b'' must be at least one byte")
    checked_size("max_bytes", max_bytes, 1)
    if max_bytes < len(separator):
        raise ValueError(
            f"max_bytes={max_bytes!r} must be at least the {len(separator)} bytes of the separator {separator!r}"
        )
    return separator


class Stream(ABC):
    """A two-way stream of bytes. One task may read while another writes; two readers (or writers) are an error.

    All calls are for tasks of the stream's own runtime. When a blocking call raises Cancelled or TimeoutError
    nothing was received; of a ``send_all`` a part may have gone out, see ``partly_sent``.
    """

    # Bytes taken from the transport and not asked for yet; recv gives them out first, by ``take_rest`` or its like.
    _rest: bytes = b""

    partly_sent: int = 0
    """Of the ``send_all``, ``send_vectored`` or ``send_file`` that raised last: how many of its bytes had gone out."""

    @abstractmethod
    def recv(self, n: int) -> bytes:
        """Wait for data; at least one and at most ``n`` bytes, or b"" when the peer has ended its side.

        ``recv(0)`` is b"" and takes nothing. ValueError for a negative ``n``, TypeError for what is no whole number;
        nothing is taken then.
        """

    @abstractmethod
    def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """Send all of ``data``, waiting for room as often as needed."""

    def send_vectored(self, parts: Iterable[bytes | bytearray | memoryview]) -> None:
        """Send all of several buffers, one after the other, as ``send_all``; a socket sends without joining them."""
        self.send_all(b"".join(parts))

    def send_file(self, file: StrPath | BinaryIO | HasDescriptor, offset: int = 0, count: int | None = None) -> int:
        """Send ``count`` bytes of a file from ``offset`` on, by default all that there are; how many that was.

        ``file`` is a path, or a binary file (also of ``zio.fs``) that is open for reading, whose own position does not
        count. A disk that is slow holds up this task alone. Over TCP and unix sockets the system sends the file without
        copying it into the program. Other writers get zio.Busy meanwhile. EOFError if the file ends before ``count``
        bytes. ValueError for a negative ``offset`` or ``count``, TypeError for a text file. Cancelled, a part may have
        gone out, see ``partly_sent``.
        """
        from .files import send_file

        return send_file(self, file, offset, count)

    @contextmanager
    def hold_sending(self) -> Iterator[None]:
        """Part of ``send_file``: other writers get zio.Busy while the block lasts, which sends with ``send_held``."""
        yield

    def send_held(self, data: bytes) -> None:
        """Part of ``send_file``: send all of ``data`` while ``hold_sending`` is in force."""
        self.send_all(data)

    @abstractmethod
    def send_some(self, data: bytes | bytearray | memoryview) -> int:
        """Send what there is room for now, without waiting; how many bytes went out, perhaps 0."""

    lends_sending: bool = False
    """Whether plain threads may call ``send_noted``."""

    def send_noted(self, data: bytes | memoryview, noted: list[int], allowed: Collection[object]) -> Exception | None:
        """``send_some`` that no signal handler's error can part from its result: that is appended to ``noted``.

        Nothing is sent if ``allowed`` is empty. The error of a stream that has failed is returned. What is raised has
        come from elsewhere; if nothing is noted then, and plain threads may not send, how much went out is not known.
        """
        if allowed:
            try:
                noted.append(self.send_some(data))
            except (OSError, Closed) as exc:
                return exc
        return None

    @abstractmethod
    def wait_writable(self) -> None:
        """Wait until ``send_some`` may have room again."""

    def lend(self) -> Loan | None:
        """Let the calling plain thread read for a while instead of the task that waits in ``recv`` just now.

        For a thread that waits for an answer it can tell from all else: it saves waking the loop and being woken
        by it. It looks at what comes, takes what is its own to the last byte, and calls ``end_loan``, also if this
        call was interrupted; all else stays for the task. If the thread waits for anything else of the runtime's,
        a signal handler's call say, that ends the loan. None where it is not possible.
        """
        return None

    def end_loan(self) -> None:  # noqa: B027 (most streams lend nothing)
        """The calling thread reads no more. Does nothing if it has no loan."""

    @abstractmethod
    def shutdown_write(self) -> None:
        """End our side: the peer reads end of stream. Receiving goes on."""

    @abstractmethod
    def close(self) -> None:
        """Close both sides; who waits in the stream gets zio.Closed. Never blocks; idempotent."""

    def discard_received(self) -> None:  # noqa: B027 (most streams need not)
        """For a stream on top of this one that closes: take, without waiting, what is there, so that none is unread.

        A system that closes a connection with anything unread resets it, and the peer loses what it has not read yet.
        """

    def take_rest(self, n: int) -> bytes:
        """For the ``recv`` of a stream of your own: at most ``n`` bytes of what recv_exactly and recv_until have left.

        b"" if they have left nothing. ValueError or TypeError for an ``n`` that is no number of bytes.
        """
        n = checked_size("n", n)
        data, self._rest = self._rest[:n], self._rest[n:]
        return data

    def recv_into(self, buffer: bytearray | memoryview) -> int:
        """Like ``recv``, into ``buffer``; the number of bytes, 0 at the end of the stream."""
        view = memoryview(buffer).cast("B")
        if view.readonly:  # or the data would be taken, and have no place to go
            raise TypeError(f"recv_into needs a buffer that can be written to, not {type(buffer).__name__}")
        data = self.recv(len(view))
        view[: len(data)] = data
        return len(data)

    def recv_exactly(self, n: int) -> bytes:
        """Wait for exactly ``n`` bytes. EOFError, with those that came as second argument, if the stream ends.

        ValueError for a negative ``n``, TypeError for what is no whole number: at once, and nothing is taken.
        """
        if type(n) is not int or n <= 0:
            n = checked_size("n", n)
            if not n:
                return b""
        data = self.recv(n)
        if len(data) == n:
            return data
        parts, have = [data], len(data)
        while data and have < n:
            try:
                data = self.recv(n - have)
            except BaseException:
                self._rest = b"".join(parts) + self._rest  # nothing was received, as promised
                raise
            parts.append(data)
            have += len(data)
        whole = b"".join(parts)
        if have < n:
            raise EOFError(f"the stream ended after {have} of {n} bytes", whole)
        return whole

    def recv_until(self, separator: bytes, max_bytes: int) -> bytes:
        """Wait for data up to and including ``separator``, within ``max_bytes``.

        ValueError if more than ``max_bytes`` come without it (they stay readable); EOFError, with the bytes so
        far as second argument, if the stream ends first. At once, and with nothing taken: ValueError for an empty
        separator and for one that is longer than ``max_bytes``, TypeError for what is no bytes or no whole number.
        """
        if type(separator) is not bytes or type(max_bytes) is not int or not 0 < len(separator) <= max_bytes:
            separator = _checked_separator(separator, max_bytes)
        first = self.recv(AT_ONCE)
        at = first.find(separator, 0, max_bytes)
        if at >= 0:
            at += len(separator)
            self._rest = first[at:] + self._rest if self._rest else first[at:]
            return first[:at]
        return self._recv_until(separator, max_bytes, first)

    def _recv_until(self, separator: bytes, max_bytes: int, more: bytes) -> bytes:
        data = bytearray()  # which grows in place: bytes that come one by one must not cost their square
        start = 0
        while True:
            if not more:
                raise EOFError(f"the stream ended before {separator!r}", bytes(data))
            data += more
            at = data.find(separator, start, max_bytes)
            if at >= 0:
                at += len(separator)
                self._rest = bytes(data[at:]) + self._rest
                return bytes(data[:at])
            if len(data) >= max_bytes:
                self._rest = bytes(data) + self._rest
                raise ValueError(f"no {separator!r} within {max_bytes} bytes")
            start = max(0, len(data) - len(separator) + 1)
            try:
                more = self.recv(AT_ONCE)
            except BaseException:
                self._rest = bytes(data) + self._rest
                raise

    def start_tls(
        self,
        context: SSLContext,
        server_hostname: str | None = None,
        *,
        server_side: bool | None = None,
        allow_ragged_eof: bool = False,
    ) -> TLSStream:
        """Shake hands and return the encrypted stream, to be used in place of this one.

        ``server_hostname`` is what the peer's certificate must be for, unless ``context`` says not to check.
        ``server_side``: by default what the context was made for. If the handshake fails, times out or is
        cancelled this stream is closed: ssl.SSLError (an OSError), ssl.SSLCertVerificationError. Bytes received
        in clear and not read yet are refused with ssl.SSLError, before anything is sent.
        """
        from .tls import start_tls

        return start_tls(self, context, server_hostname, server_side, allow_ragged_eof)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()
