"""What every stream must do, as checks that any pair of connected streams can be put through."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any
from zlib import crc32

from .._core import Busy, Cancelled, CancelScope, Closed, check_seconds, move_on_after
from .._core import timeout as _timeout
from ..groups import TaskGroup
from ..threads import to_thread
from .virtual import wait_all_parked

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..net import Stream

MORE_THAN_FITS = 32 << 20  # bytes: no stream takes so many of which none is read


def check_stream(make_pair: Callable[[], tuple[Stream, Stream]], *, timeout: float = 20.0) -> None:
    """Put streams through all that `zio.net.Stream` promises; AssertionError names the first promise that is broken.

    ``make_pair()`` returns two streams connected to each other; it is called in this task, twice for each promise, and
    both streams are closed afterwards. A promise must be kept within ``timeout`` seconds. Only inside a zio runtime.
    """
    check_seconds("timeout", timeout)
    for check in _CHECKS:
        for swapped in (False, True):
            pair = make_pair()
            one, other = reversed(pair) if swapped else pair
            promise = " ".join((check.__doc__ or "").split()).rstrip(".")
            which = "the second stream" if swapped else "the first stream"
            try:
                with _timeout(timeout):
                    check(one, other)
            except Exception as exc:
                raise AssertionError(f"{which} breaks a promise: {promise}: {_told(exc)}") from exc
            finally:
                one.close()
                other.close()


def _told(exc: BaseException) -> str:
    while isinstance(exc, BaseExceptionGroup):
        exc = exc.exceptions[0]
    return f"{type(exc).__name__}: {exc}"


def _expect(condition: object, what: str) -> None:
    if not condition:
        raise AssertionError(what)


def _expect_bytes(found: bytes, wanted: bytes) -> None:
    if found != wanted:
        same = next((at for at, (a, b) in enumerate(zip(found, wanted, strict=False)) if a != b), 0)
        place = f", from byte {same} on," if same else ""
        raise AssertionError(
            f"{found[same : same + 40]!r} came{place} in place of {wanted[same : same + 40]!r} "
            f"({len(found)} and {len(wanted)} bytes)"
        )


def _expect_error(kind: type[BaseException], call: Callable[..., object], *args: Any) -> Any:
    try:
        value = call(*args)
    except kind as exc:
        return exc
    raise AssertionError(f"{getattr(call, '__name__', call)} returned {value!r} in place of raising {kind.__name__}")


def _rest_of(stream: Stream, count: int) -> bytes:
    """The next ``count`` bytes by means of ``recv`` alone; fewer at the end of the stream."""
    parts, left = [], count
    while left and (data := stream.recv(left)):
        parts.append(data)
        left -= len(data)
    return b"".join(parts)


# Bytes come as they were sent.


def _both_ways(one: Stream, other: Stream) -> None:
    """All bytes arrive, once and in order, in both directions at the same time."""
    random_bytes = random.Random(1).randbytes
    up = [random_bytes(size) for size in (1, 2, 1000, 16384, 16385, 300_000, 1)]
    down = [random_bytes(size) for size in (300_000, 1, 70_000, 5)]

    def send(stream: Stream, parts: list[bytes]) -> None:
        for part in parts:
            stream.send_all(part)

    with TaskGroup() as group:
        group.spawn(send, one, up)
        group.spawn(send, other, down)
        came = group.spawn(_rest_of, other, sum(map(len, up)))
        _expect_bytes(_rest_of(one, sum(map(len, down))), b"".join(down))
        _expect_bytes(came.join(), b"".join(up))


def _no_more_than_asked(one: Stream, other: Stream) -> None:
    """recv gives at least one byte and no more than was asked for, as bytes."""
    other.send_all(b"0123456789")
    came = b""
    while len(came) < 10:
        data = one.recv(3)
        _expect(type(data) is bytes, f"recv returned {type(data).__name__}")
        _expect(1 <= len(data) <= 3, f"recv(3) returned {data!r}")
        came += data
    _expect_bytes(came, b"0123456789")


def _kinds_of_buffers(one: Stream, other: Stream) -> None:
    """send_all takes bytes, bytearray and memoryview, an empty one too, and keeps none of them."""
    changing = bytearray(b"bytearray ")
    one.send_all(b"bytes ")
    one.send_all(changing)
    changing[:] = b"XXXXXXXXXX"
    one.send_all(b"")
    one.send_all(memoryview(b"-memoryview-")[1:-1])
    _expect_bytes(_rest_of(other, 26), b"bytes bytearray memoryview")


def _several_buffers(one: Stream, other: Stream) -> None:
    """send_vectored sends several buffers as one, however large they are, and keeps none of them."""
    large, changing = random.Random(3).randbytes(300_000), bytearray(b"changing")
    with TaskGroup() as group:
        came = group.spawn(_rest_of, other, 5 + len(large) + 8)
        one.send_vectored([])
        one.send_vectored([b"first", b"", memoryview(large), changing])
        changing[:] = b"XXXXXXXX"
        _expect_bytes(came.join(), b"first" + large + b"changing")


def _a_part_of_a_file(one: Stream, other: Stream) -> None:
    """send_file sends a part of a file, whose own position does not count; EOFError if it is too short."""
    import tempfile

    content = random.Random(4).randbytes(300_000)
    with tempfile.TemporaryFile() as file:
        file.write(content)
        file.flush()
        with TaskGroup() as group:
            came = group.spawn(_rest_of, other, 299_990)
            sent = one.send_file(file, 10)
            _expect(sent == 299_990, f"send_file returned {sent}")
            _expect_bytes(came.join(), content[10:])
        with TaskGroup() as group:
            came = group.spawn(_rest_of, other, 5)
            sent = one.send_file(file, 3, 5)
            _expect(sent == 5, f"send_file returned {sent}")
            _expect_bytes(came.join(), content[3:8])
        _expect_error(EOFError, one.send_file, file, 299_999, 2)
        _expect(file.tell() == len(content), "send_file moved the file's position")


def _how_much_went_out(one: Stream, other: Stream) -> None:
    """After a send_all that was cut off, partly_sent is how much of it the peer will read."""
    with TaskGroup() as group:
        writer = group.spawn(_expect_error, Cancelled, one.send_all, b"1" * MORE_THAN_FITS)
        wait_all_parked()
        writer.cancel()
        writer.join()
    sent = one.partly_sent
    _expect(0 < sent < MORE_THAN_FITS, f"partly_sent is {sent}")
    with TaskGroup() as group:
        group.spawn(one.send_all, b"2")
        left = sent
        while left and (part := other.recv(min(left, 1 << 20))):
            _expect(part.count(b"1") == len(part), f"{sent - left} bytes or a few more came, and partly_sent is {sent}")
            left -= len(part)
        _expect_bytes(other.recv(1), b"2")


def _into_a_buffer(one: Stream, other: Stream) -> None:
    """recv_into fills a buffer of the caller's, and gives 0 at the end."""
    other.send_all(b"0123456789")
    other.shutdown_write()
    buffer, came = bytearray(b"----"), b""
    while count := one.recv_into(buffer):
        _expect(count <= 4, f"recv_into a buffer of 4 returned {count}")
        came += buffer[:count]
    _expect_bytes(came, b"0123456789")
    _expect(len(buffer) == 4, "recv_into changed the size of the buffer")


# Room is limited.


def _a_bounded_buffer(one: Stream, other: Stream) -> None:
    """send_all waits while nobody reads, and goes on when somebody does."""
    data = random.Random(2).randbytes(1 << 20) * (MORE_THAN_FITS >> 20)
    with TaskGroup() as group:
        writer = group.spawn(one.send_all, data)
        wait_all_parked()
        _expect(not writer.done, f"{len(data)} bytes were taken, and nobody has read")
        check, left = 0, len(data)
        while left and (part := other.recv(1 << 20)):
            check, left = crc32(part, check), left - len(part)
        writer.join()
    _expect(left == 0, f"{left} bytes are missing")
    _expect(check == crc32(data), "the bytes were changed")


def _what_there_is_room_for(one: Stream, other: Stream) -> None:
    """send_some never waits; wait_writable waits until there is room again."""
    chunk, taken = b"x" * 65536, 0
    while taken < MORE_THAN_FITS and (count := one.send_some(chunk)):
        taken += count
    _expect(taken < MORE_THAN_FITS, f"send_some took {taken} bytes, and nobody has read")
    with TaskGroup() as group:
        waiting = group.spawn(one.wait_writable)
        wait_all_parked()
        while taken:
            taken -= len(_rest_of(other, min(taken, 65536)))
        waiting.join()
        while not one.send_some(b"more"):
            one.wait_writable()
        _expect(other.recv(1) == b"m", "what was sent into the room is lost")


# Ends.


def _half_close(one: Stream, other: Stream) -> None:
    """After shutdown_write the peer reads what was sent and then b"", again and again; the other way stays open."""
    one.send_all(b"question")
    one.shutdown_write()
    _expect_bytes(_rest_of(other, 100), b"question")
    _expect(other.recv(100) == b"", "after the end recv returned something")
    other.send_all(b"answer")
    _expect_bytes(_rest_of(one, 6), b"answer")
    _expect_error(OSError, one.send_all, b"x")
    other.shutdown_write()
    _expect(one.recv(100) == one.recv(100) == b"", "after the end recv returned something")


def _closing_after_sending(one: Stream, other: Stream) -> None:
    """What was sent before close arrives, and then the end."""
    one.send_all(b"last words")
    one.close()
    _expect_bytes(_rest_of(other, 100), b"last words")
    _expect(other.recv(100) == b"", "after the end recv returned something")


def _closing_under_tasks(one: Stream, other: Stream) -> None:
    """close wakes those who wait in the stream with zio.Closed; so do all later calls; closing again does nothing."""
    with TaskGroup() as group:
        reader = group.spawn(_expect_error, Closed, one.recv, 100)
        writer = group.spawn(_expect_error, Closed, one.send_all, bytes(MORE_THAN_FITS))
        wait_all_parked()
        _expect(not reader.done and not writer.done, "the tasks did not wait")
        one.close()
        reader.join()
        writer.join()
    one.close()
    _expect_error(Closed, one.recv, 100)
    _expect_error(Closed, one.send_all, b"x")
    _expect_error(Closed, one.send_some, b"x")
    _expect_error(Closed, one.wait_writable)
    _expect_error(Closed, one.shutdown_write)


def _closing_at_the_end_of_with(one: Stream, other: Stream) -> None:
    """The end of a with block closes the stream."""
    with one as same:
        _expect(same is one, "with gives another object")
    _expect_error(Closed, one.recv, 100)
    _expect(other.recv(100) == b"", "the peer read something in place of the end")


def _a_peer_that_is_gone(one: Stream, other: Stream) -> None:
    """Who goes on sending to a peer that has closed gets an OSError, and does not wait for ever."""
    other.close()

    def send() -> None:
        while True:
            one.send_all(b"x" * 65536)

    _expect_error(OSError, send)


# Cancellation.


def _cancelled_while_reading(one: Stream, other: Stream) -> None:
    """A recv that was cancelled while it waited has taken nothing."""
    with TaskGroup() as group:
        reader = group.spawn(_expect_error, Cancelled, one.recv, 100)
        wait_all_parked()
        reader.cancel()
        reader.join()
    other.send_all(b"data")
    _expect_bytes(_rest_of(one, 4), b"data")


def _cancelled_before(one: Stream, other: Stream) -> None:
    """In a cancelled scope recv and send_all raise Cancelled, also where they need not wait, and do nothing."""
    other.send_all(b"data")
    _expect_bytes(_rest_of(one, 1), b"d")
    with CancelScope() as scope:
        scope.cancel()
        _expect_error(Cancelled, one.recv, 100)
        _expect_error(Cancelled, one.recv, 100)
        _expect_error(Cancelled, one.send_all, b"never")
    one.send_all(b"then")
    _expect_bytes(_rest_of(one, 3), b"ata")
    _expect_bytes(_rest_of(other, 4), b"then")


def _cut_off_between_two_parts(one: Stream, other: Stream) -> None:
    """recv_exactly and recv_until that are cut off leave what had come to be read."""
    other.send_all(b"1234")
    with move_on_after(0.02):
        one.recv_exactly(10)
    with move_on_after(0.02):
        one.recv_until(b"\n", 100)
    other.send_all(b"5\n")
    _expect_bytes(one.recv_until(b"\n", 100), b"12345\n")


# Whole messages.


def _exactly(one: Stream, other: Stream) -> None:
    """recv_exactly gives so many bytes, or EOFError with those that came."""
    other.send_all(b"12345")
    _expect_bytes(one.recv_exactly(0), b"")
    _expect_bytes(one.recv_exactly(3), b"123")
    other.shutdown_write()
    error = _expect_error(EOFError, one.recv_exactly, 3)
    _expect_bytes(error.args[1], b"45")


def _until(one: Stream, other: Stream) -> None:
    """recv_until gives the bytes up to a separator; what lies behind it, or beyond the bound, can still be read."""
    other.send_all(b"one\r\ntwo\r\nthree")
    _expect_bytes(one.recv_until(b"\r\n", 100), b"one\r\n")
    _expect_error(ValueError, one.recv_until, b"\r\n", 4)
    _expect_bytes(one.recv_until(b"\r\n", 5), b"two\r\n")
    other.shutdown_write()
    error = _expect_error(EOFError, one.recv_until, b"\r\n", 100)
    _expect_bytes(error.args[1], b"three")


def _wrong_sizes(one: Stream, other: Stream) -> None:
    """A size or separator that makes no sense is refused at once, and nothing is taken."""
    for size in (-1, -2):
        _expect_error(ValueError, one.recv_exactly, size)
    wrong_kinds: tuple[Any, ...] = (1.5, "a", None, b"1")
    for wrong in wrong_kinds:
        _expect_error(TypeError, one.recv_exactly, wrong)
        _expect_error(TypeError, one.recv_until, b"\n", wrong)
    for no_bytes in ("\n", 10, None):
        _expect_error(TypeError, one.recv_until, no_bytes, 100)
    for separator, most in ((b"", 100), (b"\n", 0), (b"\n", -1), (b"\r\n", 1)):
        error = _expect_error(ValueError, one.recv_until, separator, most)
        _expect(repr(most) in str(error) or repr(separator) in str(error), f"the error does not name it: {error}")
    other.send_all(b"line\nrest ")
    _wrong_sizes_of_recv(one)  # with all of it in the transport
    _expect_bytes(one.recv_until(b"\n", 100), b"line\n")
    _wrong_sizes_of_recv(one)  # and with the rest taken from there already
    other.send_all(b"more")
    _expect_bytes(one.recv_exactly(9), b"rest more")


def _wrong_sizes_of_recv(stream: Stream) -> None:
    """Of a stream that has something to give out."""
    for size in (-1, -2):
        _expect_error(ValueError, stream.recv, size)
    for wrong in (1.5, 1e6, "a", None):
        _expect_error(TypeError, stream.recv, wrong)
    _expect_error(TypeError, stream.recv_into, bytes(10))
    _expect_bytes(stream.recv(0), b"")


# Who may use it.


def _one_reader(one: Stream, other: Stream) -> None:
    """A second reader gets zio.Busy, and the first is not disturbed."""
    with TaskGroup() as group:
        first = group.spawn(one.recv, 100)
        wait_all_parked()
        _expect_error(Busy, one.recv, 100)
        other.send_all(b"x")
        _expect_bytes(first.join(), b"x")


def _one_writer(one: Stream, other: Stream) -> None:
    """A second writer gets zio.Busy, and the first is not disturbed."""
    with TaskGroup() as group:
        first = group.spawn(one.send_all, b"1" * MORE_THAN_FITS)
        wait_all_parked()
        _expect_error(Busy, one.send_all, b"2")
        left = MORE_THAN_FITS
        while left and (part := other.recv(min(left, 1 << 20))):
            _expect(part.count(b"1") == len(part), "bytes of two writers were mixed")
            left -= len(part)
        first.join()
        _expect(left == 0, f"{left} bytes are missing")


def _no_other_thread(one: Stream, other: Stream) -> None:
    """A plain thread that reads or sends gets a RuntimeError, and the stream goes on."""
    other.send_all(b"data")
    _expect_error(RuntimeError, to_thread, one.recv, 100)
    _expect_error(RuntimeError, to_thread, one.send_all, b"x")
    _expect_bytes(_rest_of(one, 4), b"data")


def _others_get_their_turn(one: Stream, other: Stream) -> None:
    """A task that only reads what is there already lets other tasks go on."""
    count = 5000
    turns: list[int] = []
    with TaskGroup() as group:
        group.spawn(other.send_all, b"x" * count)
        _expect_bytes(one.recv(1), b"x")
        wait_all_parked()
        group.spawn(turns.append, 1)
        for _ in range(count - 1):
            one.recv(1)
        _expect(turns, f"no other task had a turn in {count} calls")


_CHECKS: tuple[Callable[[Stream, Stream], None], ...] = (
    _both_ways,
    _no_more_than_asked,
    _kinds_of_buffers,
    _several_buffers,
    _a_part_of_a_file,
    _into_a_buffer,
    _a_bounded_buffer,
    _what_there_is_room_for,
    _half_close,
    _closing_after_sending,
    _closing_under_tasks,
    _closing_at_the_end_of_with,
    _a_peer_that_is_gone,
    _cancelled_while_reading,
    _cancelled_before,
    _how_much_went_out,
    _cut_off_between_two_parts,
    _exactly,
    _until,
    _wrong_sizes,
    _one_reader,
    _one_writer,
    _no_other_thread,
    _others_get_their_turn,
)
