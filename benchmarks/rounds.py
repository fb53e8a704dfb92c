"""Running workloads: each run a process of its own, peers interleaved, as many operations as fill the time."""

from __future__ import annotations

import json
import os
import subprocess
import time
from contextlib import nullcontext
from typing import Any

from machine import (
    BUILD,
    Cores,
    Peer,
    Server,
    SkipPeerError,
    arguments,
    children_cpu,
    machine_busy,
    popen,
    proc_cpu,
    proc_peak_kb,
    read_line,
    stop,
)
from workloads import FEED_WINDOW, JS_FILL, MB, Spec, echo_requests

Result = dict[str, Any]
UNSUPPORTED = 3  # exit status of an adapter that has no such workload


def _helper(spec: Spec, parameters: dict[str, Any], server: Server | None) -> list[str] | None:
    """Prepare the other side: its command, if it is a program. Rounds the number of messages to what it can do."""
    helper, raw = spec[2] or "", str(BUILD / "raw")
    if helper == "feed":
        burst = max(1, min(25_000, FEED_WINDOW // parameters["size"], parameters["n"] // 4))
        parameters |= {"burst": burst, "n": parameters["n"] // burst * burst}
        return [raw, "feed", *arguments(parameters)]
    if helper == "respond":
        command = [raw, "respond", *arguments(parameters)]
        parameters["n"] = max(parameters["n"] // parameters["conc"], 1) * parameters["conc"]
        return command
    if helper == "load":
        return [raw, "load", *arguments(parameters | {"conc": 256})]
    if helper.startswith("jsstream"):
        assert server is not None
        server.stream(helper.split(":")[1])
    elif helper.startswith("jsfill"):
        assert server is not None
        server.consumer()
    return None


def run_once(peer: Peer, spec: Spec, n: int, server: Server | None, timeout: float) -> Result:
    """One run of one peer. SkipPeerError if it has no such workload; RuntimeError if counts are not exact."""
    parameters = spec[1] | {"n": n}
    if server is not None:
        parameters["port"] = server.port
    command = _helper(spec, parameters, server)
    busy, kids, start = machine_busy(), children_cpu(), time.time()
    served = proc_cpu(server.proc.pid) if server is not None else 0.0
    helper = proc = None
    try:
        if command is not None:
            helper = popen(command, Cores.others, stdout=subprocess.PIPE)
            if read_line(helper).strip() != "up":
                raise RuntimeError(f"{command} does not come up")
        proc = peer.popen(spec[0], parameters)
        if spec[2] == "echo":
            return _run_echo(proc, parameters)
        result = _result(proc, timeout)
        if spec[2] in ("feed", "load"):
            assert helper is not None
            other = json.loads(helper.communicate(timeout=20)[0].strip().splitlines()[-1])
            if other["msgs"] != parameters["n"] or result["msgs"] != parameters["n"]:
                raise RuntimeError(f"count: helper {other['msgs']}, peer {result['msgs']}, wanted {parameters['n']}")
            if spec[2] == "load":
                result |= {key: other[key] for key in ("msgs_per_s", "p50_us", "p99_us")}
    finally:
        stop(helper)
        stop(proc)
    served = proc_cpu(server.proc.pid) - served if server is not None else 0.0
    result["server_cpu_us_per_msg"] = served / result["msgs"] * 1e6
    foreign = machine_busy() - busy - served - (children_cpu() - kids)
    result["foreign"] = max(0, foreign) / ((time.time() - start) * (os.cpu_count() or 1))
    return result


def _result(proc: subprocess.Popen[str], timeout: float) -> Result:
    try:
        out, err = proc.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
        proc.kill()
        out, err = proc.communicate()
        raise RuntimeError(f"timeout after {timeout} s: {err[-300:]}") from None
    if proc.returncode == UNSUPPORTED:
        raise SkipPeerError("unsupported")
    if proc.returncode or not out.strip():
        raise RuntimeError(f"exit {proc.returncode}: {err[-600:]}")
    result: Result = json.loads(out.strip().splitlines()[-1])
    return result


def _run_echo(proc: subprocess.Popen[str], parameters: dict[str, Any]) -> Result:
    line = read_line(proc)
    if not line.startswith("port="):
        if proc.wait(10) == UNSUPPORTED:
            raise SkipPeerError("unsupported")
        assert proc.stderr is not None
        raise RuntimeError(f"echo server: {line!r} {proc.stderr.read()[-300:]}")
    time.sleep(0.1)
    before = proc_cpu(proc.pid)
    port = line.strip().split("=")[1]
    command = [BUILD / "echoload", port, *(str(parameters[key]) for key in ("conns", "size", "n"))]
    load = popen(command, Cores.others, stdout=subprocess.PIPE)
    try:
        result: Result = json.loads(load.communicate(timeout=60)[0])
    finally:
        stop(load)
    result["cpu"] = proc_cpu(proc.pid) - before
    result["cpu_us_per_msg"] = result["cpu"] / result["msgs"] * 1e6
    result["max_rss_kb"] = proc_peak_kb(proc.pid)
    result["foreign"] = 0
    return result


def calibrate(peer: Peer, spec: Spec, server: Server | None, seconds: float) -> int:
    """How many operations take about ``seconds``. A warm-up too."""
    if "n" in spec[1]:
        return int(spec[1]["n"])
    if spec[2] == "echo":
        return int(echo_requests(spec) * min(1, seconds))
    limit = JS_FILL if (spec[2] or "").startswith("jsfill") else 1 << 40
    if spec[2] == "feed" or spec[0] == "pub":
        limit = 1024 * MB // spec[1]["size"]
    for prefix, most in peer.max.items():
        if spec[0].startswith(prefix):
            limit = min(limit, most)
    n = min(2000, limit)
    for _ in range(4):
        wall = run_once(peer, spec, n, server, 60)["wall"]
        if wall > 0.15 or n == limit:
            break
        n = min(int(n * min(0.3 / wall, 50)), limit)
    return max(100, min(int(n / wall * seconds), limit, 5_000_000))


def run_workload(
    peers: list[Peer], spec: Spec, rounds: int, seconds: float, needs_server: bool
) -> tuple[dict[str, list[Result]], dict[str, str]]:
    """All rounds of one workload: the runs of each peer, and why others have none."""
    runs: dict[str, list[Result]] = {}
    notes: dict[str, str] = {}
    n: dict[str, int] = {}
    with Server() if needs_server else nullcontext() as server:
        if (spec[2] or "").startswith("jsfill"):
            assert server is not None
            server.stream("memory")
            fill = {"port": server.port, "n": JS_FILL, "size": 128, "conc": 256, "subject": "js.x"}
            command = [BUILD / "raw", "jspub", *arguments(fill)]
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        for number in range(rounds + 1):  # the first calibrates
            for peer in peers:
                if peer.name in notes:
                    continue
                try:
                    if number == 0:
                        n[peer.name] = calibrate(peer, spec, server, seconds)
                    else:
                        runs.setdefault(peer.name, []).append(run_once(peer, spec, n[peer.name], server, 120))
                except SkipPeerError as error:
                    notes[peer.name] = str(error)
                except Exception as error:  # a failing peer is a finding, not the end
                    notes[peer.name] = f"FAILED: {error!r}"[:700]
    return runs, notes
