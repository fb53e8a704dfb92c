"""TLS to a server: whether, with what certificates, for which name.

What the user gave are names of files, read anew for each connection, so that renewed certificates take effect by
themselves; or a ready context.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import zio

from .errors import OptionError
from .protocol import plain

if TYPE_CHECKING:
    import ssl

    from zio.net import Stream

    from .options import Options
    from .servers import Server

    StrPath = str | os.PathLike[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class TLS:
    """How to speak TLS.

    ``ca``: the file of the authorities to trust, in place of the system's. ``cert`` and ``key``: our own certificate,
    with its chain, and its key, which must not be encrypted (``key`` may be in the same file). Or ``context``, an
    ``ssl.SSLContext`` that is used as it is. ``hostname``: the name that the server's certificate must be for, if it
    is not the one we connect to. ``handshake_first``: the server expects TLS before it says anything, as with ``wss``
    it always does.
    """

    context: ssl.SSLContext | None = None
    ca: StrPath | None = None
    cert: StrPath | None = None
    key: StrPath | None = None
    hostname: str | None = None
    handshake_first: bool = False

    def __post_init__(self) -> None:
        for name in ("ca", "cert", "key"):
            value = getattr(self, name)
            if value is not None and not isinstance(value, (str, os.PathLike)):
                raise OptionError(f"TLS: {name} must be the path of a file, not {type(value).__name__}")
            if value is not None and "-----BEGIN" in os.fspath(value):
                raise OptionError(f"TLS: {name} must be the path of a file, not its text")
        if self.context is not None:
            _check_context(self.context)
            if self.ca is not None or self.cert is not None or self.key is not None:
                raise OptionError("TLS: context excludes ca, cert and key; load them into the context")
        if self.key is not None and self.cert is None:
            raise OptionError("TLS: key without cert")
        if self.hostname is not None and (not isinstance(self.hostname, str) or not self.hostname):
            raise OptionError(f"TLS: hostname={self.hostname!r}: must be a name")
        if not isinstance(self.handshake_first, bool):
            raise OptionError(f"TLS: handshake_first={self.handshake_first!r}: must be True or False")


def check_tls(value: object) -> None:
    """OptionError if this cannot be the option ``tls``."""
    if value is not None and not isinstance(value, (bool, TLS)):
        _check_context(value)


def _check_context(value: object) -> None:
    import ssl

    if not isinstance(value, ssl.SSLContext):
        raise OptionError(f"tls must be True, a nats_zio.TLS or an ssl.SSLContext, not {type(value).__name__}")
    if value.protocol == ssl.PROTOCOL_TLS_SERVER:
        raise OptionError("tls: the context is one for servers; make it with ssl.create_default_context()")


def tls_wanted(server: Server, options: Options) -> TLS | None:
    """The user's wish for TLS with this server, None if there is none."""
    tls = options.tls
    if isinstance(tls, TLS):
        return tls
    if tls is None or isinstance(tls, bool):
        return TLS() if tls or server.scheme in ("tls", "wss") else None
    return TLS(context=tls)


def secure(stream: Stream, server: Server, tls: TLS) -> Stream:
    """Shake hands on ``stream``; what to use in its place. OSError (ssl.SSLError is one): then it is of no use."""
    context = tls.context or zio.to_thread(_make_context, tls, abandon_on_cancel=True)
    name = plain(tls.hostname) or server.tls_name or server.host
    if not name and context.check_hostname:
        raise OptionError(f"{server} has no host name to check the certificate by: give TLS(hostname=...)")
    return stream.start_tls(context, name or None, server_side=False)


def _make_context(tls: TLS) -> ssl.SSLContext:
    """Reads files, so it runs in a thread. The ssl module's errors would not say which file they are about."""
    import ssl

    for path in (tls.ca, tls.cert, tls.key):
        if path is not None:
            Path(path).open("rb").close()
    try:
        context = ssl.create_default_context(cafile=tls.ca)
    except ssl.SSLError as exc:
        raise _about(f"ca={os.fspath(tls.ca or '')}", exc) from None
    if tls.cert is not None:
        try:
            context.load_cert_chain(tls.cert, tls.key, password=_no_password)
        except ssl.SSLError as exc:
            files = f"cert={os.fspath(tls.cert)}" + (f", key={os.fspath(tls.key)}" if tls.key is not None else "")
            raise _about(files, exc) from None
    return context


def _about(files: str, error: ssl.SSLError) -> ssl.SSLError:
    """``error``, of whatever kind it is, with the files that it is about."""
    told = type(error)(error.errno, f"{files}: {error.reason}")
    told.library, told.reason = error.library, error.reason
    return told


def _no_password() -> str:
    """In place of OpenSSL's question on the terminal."""
    raise OSError("the private key is encrypted: decrypt it, or load it into an ssl.SSLContext yourself")
