"""Text is what a str is, and bytes are what a bytes is: whatever a subclass would show, compare or encode of itself."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from enum import Enum, StrEnum
from typing import Any

import pytest

import nats_zio
import zio
from nats_zio.testing import NatsServer, ScriptedServer
from tests.client.scripted import connected, scripted, until
from tests.secrecy import secret
from zio.testing import SimNetwork

Run = Callable[..., object]


class Odd(str):
    """Shows, measures, compares and encodes itself as something else, and cannot be hashed."""

    __slots__ = ()
    __hash__ = None  # type: ignore[assignment]

    def __eq__(self, other: object) -> bool:
        return True

    def __ne__(self, other: object) -> bool:
        return False

    def __str__(self) -> str:
        return "shown"

    def __repr__(self) -> str:
        raise ZeroDivisionError

    def __format__(self, spec: str) -> str:
        return "formatted"

    def __len__(self) -> int:
        return 1 << 40

    def __bool__(self) -> bool:
        return True

    def __iter__(self) -> Iterator[str]:
        raise ZeroDivisionError

    def __contains__(self, part: object) -> bool:
        return True

    def __getitem__(self, index: Any) -> str:
        raise ZeroDivisionError

    def encode(self, encoding: str = "utf-8", errors: str = "strict") -> bytes:
        return b"encoded"

    def _other(self, *_args: Any, **_kwargs: Any) -> Any:
        raise ZeroDivisionError

    strip = split = partition = rpartition = lower = startswith = endswith = removesuffix = find = _other


class CaseBlind(str):
    """Equal to any other case of itself."""

    __slots__ = ()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, str) and str.lower(self) == str.lower(other)

    def __hash__(self) -> int:
        return hash(str.lower(self))


def member(text: str) -> str:
    return StrEnum("Names", {"MEMBER": text}).MEMBER  # type: ignore[attr-defined, no-any-return]


def mixed_in(text: str) -> str:
    return Enum("Names", {"MEMBER": text}, type=str).MEMBER  # type: ignore[attr-defined, no-any-return]


@pytest.fixture(params=[Odd, CaseBlind, member, mixed_in], ids=["odd", "case-blind", "StrEnum", "str and Enum"])
def text(request: pytest.FixtureRequest) -> Callable[[str], str]:
    return request.param  # type: ignore[no-any-return]


def test_subject_reply_queue_and_headers_go_out_as_the_text_they_are(
    run: Run, nats_server: NatsServer, subject: str, text: Callable[[str], str]
) -> None:
    def main() -> None:
        with nats_zio.connect(nats_server.url) as nc:
            plain = nc.subscribe(f"{subject}.>")
            grouped = nc.subscribe(text(f"{subject}.*"), queue=text("group"))
            nc.publish(
                text(f"{subject}.A"), text("data"), reply=text("answers"), headers=[(text("Key"), text("value"))]
            )
            nc.publish(text(f"{subject}.a"), b"")
            for sub in (plain, grouped):
                message = sub.next()
                assert (message.subject, message.reply, message.data) == (f"{subject}.A", "answers", b"data")
                assert message.headers.pairs() == [("Key", "value")]
                assert sub.next().subject == f"{subject}.a"
            assert type(grouped.subject) is type(grouped.queue) is str
            assert (grouped.subject, grouped.queue) == (f"{subject}.*", "group")

    run(main)


def test_a_subject_is_not_taken_for_another_one_that_it_compares_equal_to(
    run: Run, nats_server: NatsServer, subject: str
) -> None:
    def main() -> None:
        with nats_zio.connect(nats_server.url) as nc, nc.subscribe(f"{subject}.*") as sub:
            nc.subscribe(f"{subject}.A", cb=lambda message: message.respond(b"upper"))
            nc.subscribe(f"{subject}.a", cb=lambda message: message.respond(b"lower"))
            nc.flush()
            for name in (str, CaseBlind):
                nc.publish(name(f"{subject}.a"))
                nc.publish(name(f"{subject}.A"))
                assert [sub.next().subject[-1] for _ in range(2)] == ["a", "A"]
                assert nc.request(name(f"{subject}.a")).data == b"lower"
                assert nc.request(name(f"{subject}.A")).data == b"upper"

    run(main)


def test_requests_of_every_kind_ask_the_subject_that_the_text_is(
    run: Run, nats_server: NatsServer, subject: str, text: Callable[[str], str]
) -> None:
    def main() -> None:
        with nats_zio.connect(nats_server.url, inbox_prefix=text("replies.here")) as nc:
            assert nc.new_inbox().startswith("replies.here.")
            nc.subscribe(subject, cb=lambda message: message.respond(message.data))
            nc.flush()
            assert nc.request(text(subject), text("a")).data == b"a"
            assert nc.request(text(subject), b"b", retry_on_disconnect=True).data == b"b"
            assert [reply.data for reply in nc.request_many(text(subject), b"c", max_msgs=1)] == [b"c"]
            with pytest.raises(nats_zio.NoRespondersError) as caught:
                nc.request(text(f"{subject}.nobody"))
            assert caught.value.subject == f"{subject}.nobody"
            assert type(caught.value.subject) is str

    run(main)


def test_a_refused_subject_is_shown_as_the_text_it_is(
    run: Run, nats_server: NatsServer, text: Callable[[str], str]
) -> None:
    def main() -> None:
        with nats_zio.connect(nats_server.url) as nc:
            for call in (nc.publish, nc.subscribe, nc.request, nc.request_many):
                with pytest.raises(nats_zio.BadSubjectError, match=r"'two words'"):
                    call(text("two words"))
            with pytest.raises(nats_zio.HeaderError, match=r"'two words'"):
                nc.publish("a", headers=[(text("two words"), text("value"))])

    run(main)


def test_options_are_the_text_they_are(text: Callable[[str], str]) -> None:
    def test(server: ScriptedServer) -> None:
        url = text(server.url)
        password, token = secret("password"), secret("token")
        options = {"name": text("a name"), "user": text("user"), "password": text(password)}
        with nats_zio.connect(url, **options, overflow=text("drop_old"), run_callbacks=text("task")) as nc:
            assert nc.servers == [server.url]
            assert nc.options.overflow == "drop_old"
            assert [type(nc.options.overflow), type(nc.options.run_callbacks)] == [str, str]
            sent = server.clients[0].options
            assert (sent["name"], sent["user"], sent["pass"]) == ("a name", "user", password)
        with nats_zio.connect([url], auth=lambda _: nats_zio.Auth(token=text(token))) as nc:
            assert nc.servers == [server.url]
            assert server.clients[0].options["auth_token"] == token
            nc.set_servers(text(f"{server.url},nats://other:1"))
            assert nc.servers == ["nats://other:1", server.url]

    scripted(test)


def test_the_overflow_of_a_subscription_is_the_text_it_is(text: Callable[[str], str]) -> None:
    def test(server: ScriptedServer, nc: nats_zio.Client) -> None:
        sub = nc.subscribe("a", pending_msgs=1, overflow=text("drop_old"))
        for data in (b"1", b"2"):
            nc.publish("a", data)
        nc.flush()
        assert sub.next().data == b"2"
        with pytest.raises(nats_zio.OptionError, match=r"overflow='other'"):
            nc.subscribe("a", overflow=text("other"))

    connected(test)


def test_the_server_that_next_server_names_is_the_text_it_is(text: Callable[[str], str]) -> None:
    def main(first: ScriptedServer) -> None:
        with ScriptedServer("s2", 4222) as second, ScriptedServer("s3", 4222) as third:
            servers = [first.url, second.url, third.url]
            with nats_zio.connect(servers, next_server=lambda *_: text(third.url), no_randomize=True) as nc:
                events = nc.events()
                nc.force_reconnect()
                assert until(events, nats_zio.events.Reconnected)[-1] == nats_zio.events.Reconnected(third.url)

    scripted(main, network=SimNetwork(1))


class OddBytes(bytes):
    def __bytes__(self) -> bytes:
        return b"other"

    def __len__(self) -> int:
        return 3

    def __str__(self) -> str:
        return "shown"

    def __iter__(self) -> Iterator[int]:
        raise ZeroDivisionError


class OddBytearray(bytearray):
    def __bytes__(self) -> bytes:
        return b"other"

    def __len__(self) -> int:
        return 3


@pytest.mark.parametrize(
    ("data", "sent"),
    [
        (OddBytes(b"whole"), b"whole"),
        (OddBytearray(b"whole"), b"whole"),
        (memoryview(OddBytes(b"whole")), b"whole"),
        (memoryview(b"abcdef")[::2], b"ace"),
        (memoryview(b"abcdef")[::-1], b"fedcba"),
        (memoryview(bytes(range(8))).cast("I"), bytes(range(8))),
        (memoryview(bytes(range(6))).cast("B", (2, 3)), bytes(range(6))),
        (memoryview(b""), b""),
        (Odd("größe"), "größe".encode()),
    ],
    ids=["bytes", "bytearray", "view", "every second", "backwards", "of integers", "of two dimensions", "empty", "str"],
)
def test_data_is_the_bytes_it_is(run: Run, nats_server: NatsServer, subject: str, data: Any, sent: bytes) -> None:
    def main() -> None:
        with nats_zio.connect(nats_server.url) as nc, nc.subscribe(subject) as sub:
            nc.publish(subject, data)
            nc.publish(subject, data, headers={"a": "b"})
            nc.publish_msg(nats_zio.Message(subject, data))
            assert [sub.next().data for _ in range(3)] == [sent] * 3
            nc.subscribe(f"{subject}.ask", cb=lambda message: message.respond(data))
            nc.flush()
            reply = nc.request(f"{subject}.ask", data)
            assert (reply.data, type(reply.data)) == (sent, bytes)

    run(main)


def test_data_that_is_changed_afterwards_goes_out_as_it_was(run: Run, nats_server: NatsServer, subject: str) -> None:
    def main() -> None:
        with nats_zio.connect(nats_server.url) as nc, nc.subscribe(subject) as sub:
            data = bytearray(b"abc")
            message = nats_zio.Message(subject, memoryview(data))
            nc.publish(subject, data)
            nc.publish(subject, memoryview(data)[::2])
            data[:] = b"xyz"
            nc.publish_msg(message)
            assert [sub.next().data for _ in range(3)] == [b"abc", b"ac", b"abc"]

    run(main)


def test_headers_that_can_be_read_once_are_sent_with_every_repetition_of_a_request() -> None:
    def test(server: ScriptedServer, nc: nats_zio.Client) -> None:
        asked = []

        def obey(client: Any, command: Any) -> bool:
            if command.verb != "HPUB":
                return False
            asked.append(command.headers)
            if len(asked) == 1:
                client.abort()
            else:
                sid = next(iter(client.subscriptions))
                client.send(b"MSG %b %b 2\r\nok\r\n" % (command.args[1].encode(), sid.encode()))
            return True

        server.on_command = obey
        assert nc.request("a", headers=iter([("key", "value")]), retry_on_disconnect=True).data == b"ok"
        assert asked == [b"NATS/1.0\r\nkey: value\r\n\r\n"] * 2

    connected(test)
    assert zio.lowlevel.runtime_here() is None
