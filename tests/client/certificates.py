"""Authorities and certificates, as files and as contexts, and the part of a server's configuration that names them."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import trustme


@dataclass(frozen=True)
class Files:
    """A certificate with its chain, and its key."""

    cert: Path
    key: Path


class Authority:
    """Signs certificates. `file` is its own, for those who trust it."""

    def __init__(self, folder: Path, name: str = "ca") -> None:
        self.ca = trustme.CA()
        self._folder = folder
        self.file = folder / f"{name}.pem"
        self.file.write_bytes(self.pem)

    @property
    def pem(self) -> bytes:
        return self.ca.cert_pem.bytes()

    def issue(self, *names: str, file: str = "", **options: Any) -> Files:
        """A certificate for these names, in files called after the first of them, or as told."""
        issued = self.ca.issue_cert(*names, **options)
        base = file or names[0]
        files = Files(self._folder / f"{base}.cert", self._folder / f"{base}.key")
        files.cert.write_bytes(b"".join(blob.bytes() for blob in issued.cert_chain_pems))
        files.key.write_bytes(issued.private_key_pem.bytes())
        return files

    def server_context(self, *names: str) -> ssl.SSLContext:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        self.ca.issue_cert(*(names or ("127.0.0.1",))).configure_cert(context)
        return context

    def client_context(self) -> ssl.SSLContext:
        return ssl.create_default_context(cafile=str(self.file))

    def config(self, *settings: str, files: Files | None = None, trusted: Path | None = None) -> str:
        """The part of a server's configuration: its certificate (127.0.0.1, localhost), whom it trusts, and more."""
        files = files or self.issue("127.0.0.1", "localhost", file="server")
        parts = [f'cert_file: "{files.cert}"', f'key_file: "{files.key}"', f'ca_file: "{trusted or self.file}"']
        return f"tls {{ {', '.join([*parts, 'timeout: 5', *settings])} }}\n"
