"""Authorities and certificates for servers and clients in tests."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import trustme

from integration.containers import engine_host

FOLDER = "/etc/nats/tls"


@dataclass(frozen=True)
class ClientFiles:
    """Paths on this machine."""

    cert: Path
    key: Path


class Authority:
    """Signs certificates. `file` is its own, for those who trust it."""

    def __init__(self, folder: Path, name: str = "ca") -> None:
        self._ca = trustme.CA()
        self._folder = folder
        self.file = folder / f"{name}.pem"
        self.pem: bytes = self._ca.cert_pem.bytes()
        self.file.write_bytes(self.pem)

    def server_files(self, *names: str, trusted: bytes | None = None, **options: Any) -> dict[str, bytes]:
        """Files for a server's container: certificate (for the names that we connect to, if none are given) and key."""
        names = names or tuple({"127.0.0.1", "localhost", engine_host()})
        issued = self._ca.issue_cert(*names, **options)
        return {
            f"{FOLDER}/cert.pem": b"".join(blob.bytes() for blob in issued.cert_chain_pems),
            f"{FOLDER}/key.pem": issued.private_key_pem.bytes(),
            f"{FOLDER}/ca.pem": trusted or self.pem,
        }

    def client_files(self, name: str, **options: Any) -> ClientFiles:
        issued = self._ca.issue_cert(name, **options)
        files = ClientFiles(self._folder / f"{name}-cert.pem", self._folder / f"{name}-key.pem")
        files.cert.write_bytes(b"".join(blob.bytes() for blob in issued.cert_chain_pems))
        files.key.write_bytes(issued.private_key_pem.bytes())
        files.key.chmod(0o600)
        return files


def tls_config(*settings: str) -> str:
    """The part of a server's configuration that names the files of `Authority.server_files`."""
    parts = [f"cert_file: {FOLDER}/cert.pem", f"key_file: {FOLDER}/key.pem", f"ca_file: {FOLDER}/ca.pem", "timeout: 5"]
    return f"tls {{ {', '.join([*parts, *settings])} }}"
