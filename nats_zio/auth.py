"""Who we are: what CONNECT says to prove it, made anew for each connection.

No secret leaves this module but in CONNECT: none is in a repr, and an error that concerns one is raised without it,
and without the exception of the library below, whose frames hold it.
"""

from __future__ import annotations

import base64
import os
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import zio

from .errors import CredentialsError
from .user_functions import Raised, check_plain

if TYPE_CHECKING:
    from collections.abc import Callable

    from .options import Options
    from .protocol import ServerInfo
    from .servers import Server
    from .user_functions import UserFunctions

    AuthSource = Callable[[ServerInfo], "Auth"]

_BLOCK = re.compile(rb"-{3,}[^\r\n]*BEGIN[^\r\n]*-{3,}\s+(\S+)\s+-{3,}[^\r\n]*END[^\r\n]*-{3,}")
_SEED = re.compile(rb"S[A-Z2-7]{57}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Auth:
    """What proves who we are: a user with password, a token, a JWT with a signature, or an nkey with one.

    ``nkey`` is the public key. ``sign`` gets the server's nonce and returns the raw Ed25519 signature of it; it may
    block, like the function given as ``auth=`` itself: both are called where handlers run.
    """

    user: str | None = field(default=None, repr=False)
    password: str | None = field(default=None, repr=False)
    token: str | None = field(default=None, repr=False)
    jwt: str | None = field(default=None, repr=False)
    nkey: str | None = field(default=None, repr=False)
    sign: Callable[[bytes], bytes] | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        for name in ("user", "password", "token", "jwt", "nkey"):
            value = getattr(self, name)
            if value is not None and not isinstance(value, str):
                raise TypeError(f"{name} must be a str, not {type(value).__name__}")
        if self.sign is not None and not callable(self.sign):
            raise TypeError(f"sign must be a function, not {type(self.sign).__name__}")
        check_plain("sign", self.sign)
        if self.nkey is not None and self.sign is None:
            raise ValueError("an nkey proves nothing without sign=")


def connect_fields(
    server: Server, options: Options, info: ServerInfo, user_functions: UserFunctions
) -> dict[str, str | None]:
    """The fields of CONNECT that say who we are. May block: files are read, and ``auth=`` is asked.

    The credentials of a server's URL win. CredentialsError if there are none to be had.
    """
    if server.user is not None or server.token is not None:
        auth = Auth(user=server.user, password=server.password, token=server.token)
    elif options.nkey_seed is not None:
        auth = _of_seed(_as_bytes(options.nkey_seed))
    elif options.credentials is not None:
        auth = _of_credentials(options.credentials)
    elif options.auth is not None:
        auth = options.auth if isinstance(options.auth, Auth) else _asked(options.auth, info, user_functions)
    else:
        auth = Auth(user=options.user, password=options.password, token=options.token)
    # Without a nonce the server asks for no signature, and has no use for what needs one.
    signed = bool(info.nonce)
    return {
        "user": auth.user,
        "pass": auth.password,
        "auth_token": auth.token,
        "jwt": auth.jwt if signed else None,
        "nkey": auth.nkey if signed else None,
        "sig": _signature(auth.sign, info.nonce, user_functions) if signed and auth.sign is not None else None,
    }


def check_seed(seed: str | bytes) -> None:
    """ValueError, without the seed, if it is none."""
    _key_pair(_as_bytes(seed))


def check_credentials(data: bytes) -> None:
    """ValueError, without what is in it, if this is no text of a credentials file."""
    _key_pair(_parse_credentials(data)[1])


def is_no_path(text: str) -> bool:
    """Whether this is what should stand in a credentials file, and not the path of one: it must not be shown."""
    return "\n" in text or text.startswith(("-----", "eyJ")) or _SEED.fullmatch(_as_bytes(text)) is not None


def _asked(source: AuthSource, info: ServerInfo, user_functions: UserFunctions) -> Auth:
    try:
        auth: object = user_functions.call(source, info)
    except Raised as raised:
        raise CredentialsError(f"auth= raised {type(raised.error).__name__}") from raised.error
    if not isinstance(auth, Auth):
        raise CredentialsError(f"auth= returned {type(auth).__name__}, not nats_zio.Auth")
    return auth


def _of_seed(seed: bytes) -> Auth:
    pair = _key_pair(seed)
    return Auth(nkey=pair.public_key.decode(), sign=pair.sign)


def _of_credentials(source: str | os.PathLike[str] | bytes) -> Auth:
    if isinstance(source, bytes):
        data, what = source, "the credentials"
    else:
        what = f"the credentials file {os.fspath(source)}"
        try:
            data = zio.to_thread(Path(source).read_bytes, abandon_on_cancel=True)
        except OSError as exc:
            raise CredentialsError(f"{what} cannot be read: {exc.strerror or type(exc).__name__}") from None
    problem = ""
    try:
        jwt, seed = _parse_credentials(data)
        pair = _key_pair(seed)
    except ValueError as exc:
        problem = str(exc)
    if problem:  # outside of the except clause, so that nothing hangs on the error
        raise CredentialsError(f"{what} cannot be used: {problem}")
    return Auth(jwt=jwt.decode(), sign=pair.sign)


def _parse_credentials(data: bytes) -> tuple[bytes, bytes]:
    """The JWT and the seed in the text of a credentials file."""
    blocks = _BLOCK.findall(data)
    if len(blocks) < 2:
        raise ValueError("no JWT and seed between lines of dashes were found")
    jwt, seed = blocks[:2]
    if jwt.count(b".") != 2 or not jwt.isascii():
        raise ValueError("the first block is no JWT")
    return jwt, seed


def _key_pair(seed: bytes) -> Any:
    """The keys of a seed; ValueError, with nothing of it, if it is none."""
    import nkeys

    pair = None
    if _SEED.fullmatch(seed):
        try:
            raw = base64.b32decode(seed + b"======")
            if nkeys.crc16(bytearray(raw[:-2])).to_bytes(2, "little") == raw[-2:]:  # from_seed does not look
                pair = nkeys.from_seed(bytearray(seed))
        except Exception:
            pair = None
    if pair is None:
        raise ValueError("that is no nkey seed (58 characters, the first an S)")
    return pair


def _signature(sign: Callable[[bytes], bytes], nonce: str, user_functions: UserFunctions) -> str:
    try:
        signature: object = user_functions.call(sign, nonce.encode())
    except Raised as raised:
        raise CredentialsError(f"sign= raised {type(raised.error).__name__}") from raised.error
    if not isinstance(signature, (bytes, bytearray)):
        raise CredentialsError(f"sign= returned {type(signature).__name__}, not bytes")
    return base64.urlsafe_b64encode(signature).rstrip(b"=").decode()


def _as_bytes(seed: str | bytes) -> bytes:
    # What is not ASCII is no seed; the error of encode() would quote it.
    return seed.encode("ascii", "replace").strip() if isinstance(seed, str) else bytes(seed).strip()
