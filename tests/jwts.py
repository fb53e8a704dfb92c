"""Operator mode: keys, and the signed tokens that make servers trust accounts, and accounts their users."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import time
from typing import Any

import nkeys


class Key:
    """An nkey: `seed` is secret, `public` is its name."""

    def __init__(self, prefix: int) -> None:
        self.seed: bytes = bytes(nkeys.encode_seed(os.urandom(32), prefix))
        self._pair = nkeys.from_seed(bytearray(self.seed))
        public = self._pair.public_key
        self.public: str = public.decode() if isinstance(public, bytes) else public

    def sign(self, data: bytes) -> bytes:
        return bytes(self._pair.sign(data))

    def verify(self, data: bytes, signature: bytes) -> bool:
        return bool(self._pair.verify(data, signature))


def user_key() -> Key:
    return Key(nkeys.PREFIX_BYTE_USER)


def _b64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def token(issuer: Key, subject: Key, name: str, claims: dict[str, Any], expires: float | None = None) -> str:
    body: dict[str, Any] = {
        "iat": int(time.time()),
        "iss": issuer.public,
        "name": name,
        "sub": subject.public,
        "nats": {"version": 2, **claims},
    }
    if expires is not None:
        body["exp"] = int(time.time() + expires)
    digest = hashlib.sha256(json.dumps(body, separators=(",", ":")).encode()).digest()
    body["jti"] = base64.b32encode(digest).decode().rstrip("=")
    signed = ".".join(
        _b64(json.dumps(part, separators=(",", ":")).encode()) for part in ({"typ": "JWT", "alg": "ed25519-nkey"}, body)
    )
    return f"{signed}.{_b64(issuer.sign(signed.encode()))}"


_NO_LIMITS = {
    "subs": -1, "data": -1, "payload": -1, "imports": -1, "exports": -1, "wildcards": True, "conn": -1, "leaf": -1,
}  # fmt: skip


class Operator:
    """An operator with one account, `account`, and users made on demand."""

    def __init__(self) -> None:
        self.key = Key(nkeys.PREFIX_BYTE_OPERATOR)
        # Made once: a server that reads its configuration again refuses another one.
        self._token = token(self.key, self.key, "operator", {"type": "operator"})
        self.account = Key(nkeys.PREFIX_BYTE_ACCOUNT)
        self.revoked: dict[str, int] = {}

    def account_token(self) -> str:
        claims: dict[str, Any] = {"type": "account", "limits": _NO_LIMITS}
        if self.revoked:
            claims["revocations"] = self.revoked
        return token(self.key, self.account, "team", claims)

    def config(self) -> str:
        """For a server that knows the account from its configuration."""
        return (
            f"operator: {self._token}\n"
            f"resolver: MEMORY\n"
            f"resolver_preload: {{ {self.account.public}: {self.account_token()} }}\n"
        )

    def user_token(self, user: Key, name: str = "user", expires: float | None = None, **claims: Any) -> str:
        body = {"type": "user", "subs": -1, "data": -1, "payload": -1, **claims}
        return token(self.account, user, name, body, expires)

    def credentials(self, user: Key | None = None, **options: Any) -> bytes:
        """The text of a credentials file."""
        user = user or user_key()
        return credentials(self.user_token(user, **options), user.seed)


def credentials(jwt: str, seed: bytes) -> bytes:
    return f"""-----BEGIN NATS USER JWT-----
{jwt}
------END NATS USER JWT------

************************* IMPORTANT *************************
NKEY Seed printed below can be used to sign and prove identity.
NKEYs are sensitive and should be treated as secrets.

-----BEGIN USER NKEY SEED-----
{seed.decode()}
------END USER NKEY SEED------

*************************************************************
""".encode()
