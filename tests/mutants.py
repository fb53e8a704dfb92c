"""Mistakes planted in the client, one at a time, that the suite must find: `make mutants`.

Each is made in a copy of the tree, where the tests run until the first failure. What is printed at the end is a table:
which mistake was found by which test, and which by none. Names on the command line choose some of them.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
# In two rounds, the first one with those that find most in little time.
FIRST = "reconnect limits request servers pool backoff link close drain tls connect from_threads publish subscribe"
ROUNDS = ([f"tests/client/test_{name}.py" for name in FIRST.split()], ["tests/client", "tests/protocol"])
LIMIT = 900.0  # seconds for one of them


@dataclass(frozen=True, slots=True)
class Mutant:
    """``old``, which stands exactly once in ``file``, becomes ``new``."""

    name: str
    file: str
    old: str
    new: str


MUTANTS = [
    Mutant(
        "no SUB after a reconnect",
        "nats_zio/subscriptions/subscribing.py",
        "            frames.append(encoder.sub(sub.subject, sub.queue, sub.sid))\n",
        "",
    ),
    Mutant(
        "the limit of a subscription begins anew after a reconnect",
        "nats_zio/subscriptions/subscription.py",
        "return None if self._max_msgs is None else self._max_msgs - self._received",
        "return self._max_msgs",
    ),
    Mutant(
        "a frame torn by the broken connection is taken for sent",
        "nats_zio/session/outbound.py",
        "            if end > written and len(frame) == 2:\n",
        "            if end - len(frame[-1]) > written and len(frame) == 2:\n",
    ),
    Mutant(
        "the rest of a torn frame is resumed on the next connection",
        "nats_zio/session/outbound.py",
        "            self._batch, self._rest = [], None\n",
        "            self._batch = []\n",
    ),
    Mutant(
        "what was written wholly is sent again",
        "nats_zio/session/outbound.py",
        "            if end > written and len(frame) == 2:\n",
        "            if len(frame) == 2:\n",
    ),
    Mutant(
        "buffered messages go before the subscriptions",
        "nats_zio/session/outbound.py",
        "            self.lines[:0] = [frame[:-2] for frame in replay]\n",
        "            self.lines += [frame[:-2] for frame in replay]\n",
    ),
    Mutant(
        "losses are not reported",
        "nats_zio/session/outbound.py",
        "        return lost\n",
        "        return 0, 0\n",
    ),
    Mutant(
        "the reconnect buffer has no limit",
        "nats_zio/session/kept.py",
        "        if self._bytes + size > self._limit or not self._limit:\n",
        "        if False:\n",
    ),
    Mutant(
        "who waits for room to publish is not told when the connection breaks",
        "nats_zio/session/outbound.py",
        "            self._proved_msgs, self._proved_bytes = msgs, bytes_\n            self._room.wake_all()\n",
        "            self._proved_msgs, self._proved_bytes = msgs, bytes_\n",
    ),
    Mutant(
        "the latch of a thread is lost: woken before it waits, it waits",
        "nats_zio/latch.py",
        "        self.value = value\n        self.settled = True\n        self.interrupt()\n",
        "        self.value = value\n        self.settled = True\n",
    ),
    Mutant(
        "a thread that is interrupted keeps the message it was woken for from the others",
        "nats_zio/sleepers.py",
        "                self.rouse(1)  # what this one was woken for is for the next\n",
        "                pass\n",
    ),
    Mutant(
        "requests in flight are not told of the broken connection",
        "nats_zio/requests/requests.py",
        "            if line and id(line) not in kept:\n",
        "            if False:\n",
    ),
    Mutant(
        "requests that are still in the queue fail when the connection breaks",
        "nats_zio/requests/requests.py",
        "            if line and id(line) not in kept:\n",
        "            if line:\n",
    ),
    Mutant(
        "a late reply goes to whoever asks next",
        "nats_zio/requests/requests.py",
        "        self._tokens = count(1)\n",
        "        from itertools import repeat\n\n        self._tokens = repeat(1)  # type: ignore[assignment]\n",
    ),
    Mutant(
        "no responders is a reply like any other",
        "nats_zio/requests/requests.py",
        "            elif raw is not None and raw.startswith(_NO_RESPONDERS) and not message.data:\n",
        "            elif False:\n",
    ),
    Mutant(
        "pending messages have no limit",
        "nats_zio/subscriptions/limits.py",
        "        while (limit_msgs is not None and len(queue) - waiting >= limit_msgs) or (\n",
        "        while (\n",
    ),
    Mutant(
        "pending bytes have no limit",
        "nats_zio/subscriptions/limits.py",
        "            limit_bytes is not None and size + more > limit_bytes\n",
        "            False\n",
    ),
    Mutant(
        "a slow consumer is reported for each message",
        "nats_zio/subscriptions/subscription.py",
        "        if limits.slow and not was_slow:\n",
        "        if limits.slow:\n",
    ),
    Mutant(
        "an error of the server ends the connection",
        "nats_zio/session/session.py",
        "        core.emit(events.ServerError(problem, sub))\n",
        "        core.emit(events.ServerError(problem, sub))\n        self.lose(problem)\n",
    ),
    Mutant(
        "a PING of the server is not answered",
        "nats_zio/session/session.py",
        "            core.outbound.control(protocol.PONG)\n",
        "            pass\n",
    ),
    Mutant(
        "a silent server is never given up",
        "nats_zio/session/liveness.py",
        "        elif self._unanswered >= self._max_pings:\n",
        "        elif False:\n",
    ),
    Mutant(
        "only PONGs count as life",
        "nats_zio/session/session.py",
        "                liveness.heard = True\n",
        "",
    ),
    Mutant(
        "waits before an attempt do not grow",
        "nats_zio/session/backoff.py",
        "        return min(self._wait * 2.0 ** min(times, 30), self._max_wait)\n",
        "        return min(self._wait, self._max_wait)\n",
    ),
    Mutant(
        "a server that is refused twice is asked for ever",
        "nats_zio/session/pool.py",
        "        refused_again = self._abort_on_auth_error and entry.refusal and before == entry.refusal\n",
        "        refused_again = False\n",
    ),
    Mutant(
        "discovered servers are never forgotten",
        "nats_zio/session/pool.py",
        "            if not entry.discovered or entry.server == connected or ",
        "            if True or ",
    ),
    Mutant(
        "without TLS from the server the credentials go out in clear",
        "nats_zio/session/connection.py",
        "    if not (info.tls_required or info.tls_available):\n",
        "    if False:\n",
    ),
    Mutant(
        "what came in clear behind INFO is believed after the handshake",
        "nats_zio/session/connection.py",
        "    if not alone:\n",
        "    if False:\n",
    ),
    Mutant(
        "certificates are checked for no name",
        "nats_zio/tls.py",
        "    return context\n",
        "    context.check_hostname = False\n    return context\n",
    ),
    Mutant(
        "the URL of a server is shown with its password",
        "nats_zio/servers.py",
        '        return f"{self.scheme}://{authority(self.host, self.port)}',
        '        return f"{self.scheme}://{self.password}@{authority(self.host, self.port)}',
    ),
    Mutant(
        "a message larger than the server takes is sent",
        "nats_zio/session/outbound.py",
        "            raise MaxPayloadError(size, self.max_payload)\n        while True:\n",
        "            pass\n        while True:\n",
    ),
    Mutant(
        "a request given up while there is no connection is sent all the same",
        "nats_zio/requests/requests.py",
        "            self._core.outbound.withdraw(entry[1])\n",
        "            pass\n",
    ),
    Mutant(
        "a subscription that the server refused is asked for again after a reconnect",
        "nats_zio/subscriptions/subscription.py",
        "            self._sleepers.rouse(len(self._sleepers))\n            self._core.table.forget(self)\n",
        "",
    ),
    Mutant(
        "drain does not wait for handlers",
        "nats_zio/subscriptions/consumers.py",
        "            return self.runner.idle(excused)\n",
        "            return True\n",
    ),
    Mutant(
        "close does not send what was accepted",
        "nats_zio/core.py",
        "                    self.flush_here(CLOSE_TIMEOUT)\n",
        "                    pass\n",
    ),
]


def plant(mutant: Mutant, tree: Path) -> None:
    """Make the mistake in ``tree``."""
    file = tree / mutant.file
    text = file.read_text()
    if text.count(mutant.old) != 1:
        raise SystemExit(f"{mutant.name}: {mutant.old!r} stands {text.count(mutant.old)} times in {mutant.file}")
    file.write_text(text.replace(mutant.old, mutant.new))


def copy_tree(target: Path) -> None:
    names = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
    for name in names:
        if (ROOT / name).exists():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, target / name)


def first_failure(tree: Path, tests: list[str]) -> str:
    """Run these tests in ``tree`` until one fails; its name, empty if none does."""
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", "--timeout=60", *tests]
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
    if status not in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED):
        raise SystemExit(f"the tests could not be run:\n{text}")
    found = re.findall(r"^(?:FAILED|ERROR) (\S+)", text, re.MULTILINE)
    return (found or ["a failure"])[0] if status else ""


def hunt(mutant: Mutant) -> tuple[Mutant, str, float]:
    """The test that finds it; empty if none does."""
    start = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        tree = Path(folder)
        copy_tree(tree)
        plant(mutant, tree)
        by = ""
        for tests in ROUNDS:
            by = by or first_failure(tree, tests)
    took = time.monotonic() - start
    print(f"{'found' if by else 'MISSED'} in {took:4.0f} s: {mutant.name}" + (f"  [{by}]" if by else ""), flush=True)
    return mutant, by, took


def main() -> None:
    chosen = [mutant for mutant in MUTANTS if not sys.argv[1:] or any(word in mutant.name for word in sys.argv[1:])]
    with tempfile.TemporaryDirectory() as folder:  # each can be planted
        copy_tree(Path(folder))
        for mutant in chosen:
            plant(mutant, Path(folder))
            shutil.copy2(ROOT / mutant.file, Path(folder) / mutant.file)
    # Shells have programs in the background ignore it, and children inherit that: tests of it would fail.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    workers = int(os.environ.get("WORKERS", "1"))
    with ThreadPoolExecutor(workers) as pool:
        results = list(pool.map(hunt, chosen))
    missed = [mutant.name for mutant, by, _ in results if not by]
    print(f"\n{len(results) - len(missed)} of {len(results)} found")
    for name in missed:
        print(f"missed: {name}")
    sys.exit(bool(missed))


if __name__ == "__main__":
    main()
