"""Mistakes planted in the client, one at a time, that the tests must find: `make mutants`.

Each is made in a copy of the tree, where the tests that are named beside it run until one fails. What is printed at the
end is a table: which mistake was found by which test, and which by none. `tests/test_mutants.py` sees to it that each
can be planted and that its tests exist.

    python -m tests.mutants                     # all of them
    python -m tests.mutants reconnect drain     # those that have one of these words in their name
    python -m tests.mutants --everywhere drain  # if its own tests do not find it, look in all tests of the client
    python -m tests.mutants --at-once 4         # so many at a time
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
EVERYWHERE = ("tests/client", "tests/protocol")
LIMIT = 900.0  # seconds for the tests of one of them, against hangs


@dataclass(frozen=True, slots=True)
class Mutant:
    """The code ``old``, which stands exactly once in ``file``, becomes ``new``.

    ``old`` is as short as it can be without standing elsewhere too, so that changes around it do no harm; spaces and
    line ends count the same. ``by`` are the tests that find the mistake: files, or ``file::function``, below
    ``tests/client``.
    """

    name: str
    file: str
    old: str
    new: str
    by: str

    @property
    def tests(self) -> list[str]:
        return [f"tests/client/test_{test}" for test in self.by.split()]


MUTANTS = [
    Mutant(
        "no SUB after a reconnect",
        "nats_zio/subscriptions/subscribing.py",
        "frames.append(encoder.sub(sub.subject, sub.queue, sub.sid))",
        "pass",
        "reconnect.py::test_subscriptions_go_on_and_deliver_once",
    ),
    Mutant(
        "the limit of a subscription begins anew after a reconnect",
        "nats_zio/subscriptions/subscription.py",
        "return None if self._max_msgs is None else self._max_msgs - self._received",
        "return self._max_msgs",
        "reconnect.py::test_a_limit_counts_what_came_before_the_reconnect",
    ),
    Mutant(
        "a frame torn by the broken connection is taken for sent",
        "nats_zio/session/writer.py",
        "if end > written and len(frame) == 2:",
        "if end - len(frame[-1]) > written and len(frame) == 2:",
        "backpressure.py::test_what_the_system_did_not_take_whole_is_sent_after_the_reconnect",
    ),
    Mutant(
        "the rest of a torn frame is resumed on the next connection",
        "nats_zio/session/writer.py",
        "self.batch, self.rest = [], None",
        "self.batch = []",
        "cut_streams.py::test_a_write_that_breaks_off_is_never_resumed_and_nothing_is_sent_twice",
    ),
    Mutant(
        "what was written wholly is sent again",
        "nats_zio/session/writer.py",
        "if end > written and len(frame) == 2:",
        "if len(frame) == 2:",
        "backpressure.py::test_what_the_system_did_not_take_whole_is_sent_after_the_reconnect",
    ),
    Mutant(
        "buffered messages go before the subscriptions",
        "nats_zio/session/outbound.py",
        "self.lines[:0] = lines",
        "self.lines += lines",
        "reconnect.py::test_publishes_while_disconnected_arrive_in_order_exactly_once",
    ),
    Mutant(
        "losses are not reported",
        "nats_zio/session/outbound.py",
        "return lost",
        "return 0, 0",
        "reconnect.py::test_disconnected_counts_what_was_accepted_since_the_last_proof",
    ),
    Mutant(
        "the reconnect buffer has no limit",
        "nats_zio/session/kept.py",
        "if total + size > self._limit or not self._limit:",
        "if False:",
        "reconnect.py::test_a_full_reconnect_buffer_raises_and_keeps_what_it_has",
    ),
    Mutant(
        "who waits for room to publish is not told when the connection breaks",
        "nats_zio/session/outbound.py",
        "self._room.discard, self._room.items)",
        "self._room.discard)",
        "backpressure.py::test_those_who_wait_for_room_go_on_when_the_connection_breaks",
    ),
    Mutant(
        "the latch of a thread is lost: woken before it waits, it waits",
        "nats_zio/latch.py",
        "self.value = value self.settled = True self.interrupt()",
        "self.value = value\nself.settled = True",
        "link.py::test_verbose_and_pedantic_change_nothing_for_the_user",
    ),
    Mutant(
        "a thread that is interrupted keeps the message it was woken for from the others",
        "nats_zio/sleepers.py",
        "self.rouse(1) # what this one was woken for is for the next",
        "pass",
        "sleepers.py",
    ),
    Mutant(
        "requests in flight are not told of the broken connection",
        "nats_zio/requests/requests.py",
        "if line and id(line) not in kept:",
        "if False:",
        "reconnect.py::test_a_client_in_use_loses_no_order_and_repeats_nothing",
    ),
    Mutant(
        "requests that are still in the queue fail when the connection breaks",
        "nats_zio/requests/requests.py",
        "if line and id(line) not in kept:",
        "if line:",
        "request.py::test_a_request_not_yet_written_when_the_link_breaks_is_answered_after_the_reconnect",
    ),
    Mutant(
        "a late reply goes to whoever asks next",
        "nats_zio/requests/requests.py",
        "self._tokens = count(1)",
        "from itertools import repeat\n\nself._tokens = repeat(1)",
        "reconnect.py::test_a_client_in_use_loses_no_order_and_repeats_nothing request.py",
    ),
    Mutant(
        "no responders is a reply like any other",
        "nats_zio/requests/requests.py",
        "elif raw is not None and raw.startswith(_NO_RESPONDERS) and not message.data:",
        "elif False:",
        "request.py::test_nobody_listening_raises_no_responders_at_once",
    ),
    Mutant(
        "pending messages have no limit",
        "nats_zio/subscriptions/limits.py",
        "while (limit_msgs is not None and len(queue) - waiting >= limit_msgs) or (",
        "while (",
        "limits.py::test_drop_new_keeps_the_oldest",
    ),
    Mutant(
        "pending bytes have no limit",
        "nats_zio/subscriptions/limits.py",
        "limit_bytes is not None and size + more > limit_bytes",
        "False",
        "limits.py::test_the_limit_of_bytes_counts_payload_and_headers",
    ),
    Mutant(
        "a slow consumer is reported for each message",
        "nats_zio/subscriptions/subscription.py",
        "if limits.episodes > episodes:",
        "if limits.slow:",
        "limits.py::test_slow_consumer_is_told_once_per_episode",
    ),
    Mutant(
        "an error of the server ends the connection",
        "nats_zio/session/session.py",
        "core.emit(events.ServerError(problem, sub))",
        "core.emit(events.ServerError(problem, sub))\nself.lose(problem)",
        "server_errors.py",
    ),
    Mutant(
        "a PING of the server is not answered",
        "nats_zio/session/session.py",
        "core.outbound.control(protocol.PONG)",
        "pass",
        "link.py::test_pings_of_the_server_are_answered_while_the_program_computes odd_servers.py",
    ),
    Mutant(
        "a silent server is never given up",
        "nats_zio/session/liveness.py",
        "elif self._unanswered >= self._max_pings:",
        "elif False:",
        "link.py::test_a_server_that_freezes_is_given_up_and_taken_again",
    ),
    Mutant(
        "only PONGs count as life",
        "nats_zio/session/session.py",
        "liveness.heard = True groups, control = feed(data)",
        "groups, control = feed(data)",
        "odd_servers.py",
    ),
    Mutant(
        "waits before an attempt do not grow",
        "nats_zio/session/backoff.py",
        "return min(max(self._wait, LEAST) * 2.0 ** min(times, 30), max(self._max_wait, LEAST))",
        "return min(self._wait, self._max_wait)",
        "reconnect.py::test_reconnect_waits_grow_and_are_bounded",
    ),
    Mutant(
        "a server that is refused twice is asked for ever",
        "nats_zio/session/pool.py",
        "refused_again = self._abort_on_auth_error and entry.refusal and now - entry.refused_at >= REFUSED_FOR",
        "refused_again = False",
        "pool.py",
    ),
    Mutant(
        "discovered servers are never forgotten",
        "nats_zio/session/pool.py",
        "if not entry.discovered or",
        "if True or",
        "servers.py::test_a_discovered_server_that_the_cluster_no_longer_names_is_forgotten",
    ),
    Mutant(
        "without TLS from the server the credentials go out in clear",
        "nats_zio/session/connection.py",
        "if not (info.tls_required or info.tls_available):",
        "if False:",
        "in_clear.py::test_a_server_without_tls_hears_nothing_where_it_is_wanted",
    ),
    Mutant(
        "what came in clear behind INFO is believed after the handshake",
        "nats_zio/session/connection.py",
        "if not alone:",
        "if False:",
        "in_clear.py",
    ),
    Mutant(
        "certificates are checked for no name",
        "nats_zio/tls.py",
        "return context",
        "context.check_hostname = False\nreturn context",
        "tls.py::test_a_certificate_is_for_a_name",
    ),
    Mutant(
        "the URL of a server is shown with its password",
        "nats_zio/servers.py",
        'return f"{self.scheme}://{authority(self.host, self.port)}',
        'return f"{self.scheme}://{self.password}@{authority(self.host, self.port)}',
        "urls.py reconnect.py::test_when_the_attempts_are_used_up_the_client_closes_with_no_servers_error",
    ),
    Mutant(
        "a message larger than the server takes is sent",
        "nats_zio/session/outbound.py",
        "if size > self.max_payload: raise MaxPayloadError(size, self.max_payload) while True:",
        "while True:",
        "publish.py::test_a_payload_above_the_limit_is_refused_and_the_link_stays_up",
    ),
    Mutant(
        "a request given up while there is no connection is sent all the same",
        "nats_zio/requests/requests.py",
        "self._core.outbound.withdraw(entry[1])",
        "pass",
        "promises.py::test_a_request_given_up_while_there_is_no_connection_is_not_sent",
    ),
    Mutant(
        "a subscription that the server refused is asked for again after a reconnect",
        "nats_zio/subscriptions/subscribing.py",
        "sub = self.unconfirmed.refused(info, before, self.entries.values())",
        "sub = None",
        "permissions.py::test_a_denied_subscription_is_not_tried_again_after_a_reconnect",
    ),
    Mutant(
        "drain does not wait for handlers",
        "nats_zio/subscriptions/consumers.py",
        "return self.runner.idle(excused)",
        "return True",
        "drain.py",
    ),
    Mutant(
        "close does not send what was accepted",
        "nats_zio/core.py",
        "self.flush_here(seconds)",
        "pass",
        "close.py",
    ),
]


class NotPlanted(Exception):
    """The place for a mistake is not there, or there are several."""


def place(mutant: Mutant, tree: Path) -> tuple[Path, re.Match[str]]:
    """Where the mistake is made."""
    pattern = re.compile(r"\s+".join(map(re.escape, mutant.old.split())))
    file = tree / mutant.file
    found = list(pattern.finditer(file.read_text())) if file.exists() else []
    if len(found) != 1:
        raise NotPlanted(f"{mutant.name}: {mutant.old!r} stands {len(found)} times in {mutant.file}")
    return file, found[0]


def plant(mutant: Mutant, tree: Path) -> Path:
    """Make the mistake in ``tree``; returns the file that it is in."""
    file, match = place(mutant, tree)
    text = file.read_text()
    line = text[text.rfind("\n", 0, match.start()) + 1 : match.start()]
    indentation = line[: len(line) - len(line.lstrip())]
    new = mutant.new.replace("\n", "\n" + indentation)
    file.write_text(text[: match.start()] + new + text[match.end() :])
    return file


def copy_tree(target: Path) -> None:
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    for name in subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines():
        if (ROOT / name).exists():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, target / name)


def first_failure(tree: Path, tests: Sequence[str]) -> str:
    """Run these tests in ``tree`` until one fails; its name, empty if none does."""
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", "--timeout=60"]
    command += [f"--basetemp={tree}/tmp", *tests]
    environment = {**os.environ, "PYTHONPATH": str(tree), "PYTHONDONTWRITEBYTECODE": "1"}
    with tempfile.TemporaryFile("w+") as output:
        try:
            status = subprocess.run(
                command, cwd=tree, env=environment, stdout=output, stderr=output, timeout=LIMIT, check=False
            ).returncode
        except subprocess.TimeoutExpired:
            return "a hang"
        output.seek(0)
        text = output.read()
    if status == pytest.ExitCode.OK:
        return ""
    found: list[str] = re.findall(r"^(?:FAILED|ERROR) (\S+)", text, re.MULTILINE)
    if status != pytest.ExitCode.TESTS_FAILED or not found:
        raise RuntimeError(f"the tests {' '.join(tests)} could not be run (status {status}):\n{text}")
    return found[0]


@dataclass(frozen=True, slots=True)
class Outcome:
    mutant: Mutant
    by: str  # the test that has found it; empty if none did
    seconds: float

    def __str__(self) -> str:
        found = f"found   {self.seconds:4.0f} s  {self.mutant.name}\n{'':16}by {self.by}"
        return found if self.by else f"MISSED  {self.seconds:4.0f} s  {self.mutant.name}"


def hunt(mutant: Mutant, everywhere: bool) -> Outcome:
    start = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        tree = Path(folder)
        copy_tree(tree)
        plant(mutant, tree)
        by = first_failure(tree, mutant.tests) if mutant.by else ""
        if not by and everywhere:
            by = first_failure(tree, EVERYWHERE)
    return Outcome(mutant, by, time.monotonic() - start)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.mutants")
    parser.add_argument("words", nargs="*", help="those that have one of these in their name; all if there is none")
    parser.add_argument("--everywhere", action="store_true", help="look in all tests of the client if need be")
    parser.add_argument("--at-once", type=int, default=1, help="so many at a time")
    return parser.parse_args()


def main() -> None:
    args = arguments()
    chosen = [mutant for mutant in MUTANTS if not args.words or any(word in mutant.name for word in args.words)]
    for mutant in chosen:
        place(mutant, ROOT)
    # Shells have programs in the background ignore it, and children inherit that: tests of it would fail.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    outcomes = []
    with ThreadPoolExecutor(max(args.at_once, 1)) as pool:
        for outcome in pool.map(lambda mutant: hunt(mutant, args.everywhere), chosen):
            print(outcome, flush=True)
            outcomes.append(outcome)
    missed = [outcome.mutant.name for outcome in outcomes if not outcome.by]
    print(f"\n{len(outcomes) - len(missed)} of {len(outcomes)} found")
    for name in missed:
        print(f"missed: {name}")
    sys.exit(bool(missed))


if __name__ == "__main__":
    main()
