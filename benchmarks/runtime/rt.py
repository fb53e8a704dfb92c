"""Shared by the runtime adapters: the meter and arguments of the NATS adapters."""

import os
import ssl
import subprocess
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "adapters"))
import common
from common import Args, emit, run_async, unsupported

SLEEP = float(os.environ.get("BENCH_SLEEP", "3"))  # seconds each sleeping task sleeps; taken off the wall time


class Meter(common.Meter):
    def stop(self, n, minus=0, **extra):
        r = super().stop(n, **extra)
        if minus:
            r["wall"] = max(r["wall"] - minus, 1e-6)
            r["msgs_per_s"] = n / r["wall"]
        return r


CONNECTIONS = 20  # of the echo over TLS


def tls_contexts(context=ssl.SSLContext):
    """For both sides, with a certificate made for the occasion."""
    with tempfile.TemporaryDirectory() as folder:
        key, cert = folder + "/key.pem", folder + "/cert.pem"
        new = [
            "openssl",
            "req",
            "-x509",
            "-nodes",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
            "-days",
            "2",
        ]
        subprocess.run(
            [*new, "-days", "2", "-subj", "/CN=localhost", "-keyout", key, "-out", cert],
            check=True,
            capture_output=True,
        )
        server = context(ssl.PROTOCOL_TLS_SERVER)
        server.load_cert_chain(cert, key)
        client = context(ssl.PROTOCOL_TLS_CLIENT)
        client.check_hostname = False
        client.load_verify_locations(cert)
        return server, client


def pick(names):
    a = Args()
    return a, names.get(a.workload) or names.get(a.workload + "_") or unsupported(a.workload)


def main_async(names):
    a, f = pick(names)

    async def run():
        emit(await f(a))

    run_async(run)


def main(names):
    a, f = pick(names)
    emit(f(a))
