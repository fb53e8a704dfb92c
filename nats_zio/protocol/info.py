"""What the server says about itself in INFO.

Invariants: objects never change, a later INFO makes a new one; a field that is missing, null or of a wrong type
keeps its former value (or default), so that an odd field we do not need never breaks a connection; fields not known
here are kept in `extra`; `repr` does not show the nonce.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from types import MappingProxyType
from typing import Any

__all__ = ["ServerInfo"]

_NOTHING: Mapping[str, Any] = MappingProxyType({})


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerInfo:
    """The fields of INFO by their names in the protocol; text is empty and numbers are 0 where unknown."""

    server_id: str = ""
    server_name: str = ""
    version: str = ""
    proto: int = 0
    git_commit: str = ""
    go: str = ""
    host: str = ""
    port: int = 0
    headers: bool = False
    auth_required: bool = False
    tls_required: bool = False
    tls_verify: bool = False
    tls_available: bool = False
    max_payload: int = 1 << 20
    jetstream: bool = False
    ip: str = ""
    client_id: int = 0
    client_ip: str = ""
    nonce: str = field(default="", repr=False)
    cluster: str = ""
    cluster_dynamic: bool = False
    domain: str = ""
    connect_urls: tuple[str, ...] = ()
    ws_connect_urls: tuple[str, ...] = ()
    ldm: bool = False
    compression: str = ""
    connect_info: bool = False
    remote_account: str = ""
    acc_is_sys: bool = False
    api_lvl: int = 0
    xkey: str = ""
    extra: Mapping[str, Any] = field(default_factory=lambda: _NOTHING, hash=False)

    def __reduce__(self) -> tuple[Any, ...]:
        values = {item.name: getattr(self, item.name) for item in fields(self)}
        return _restored, ({**values, "extra": dict(self.extra)},)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> ServerInfo:
        """Make it from the JSON object of a first INFO."""
        return cls().merged(values)

    def merged(self, values: Mapping[str, Any]) -> ServerInfo:
        """Return what is known after one more INFO: what it does not say is unchanged."""
        changes: dict[str, Any] = {}
        extra: dict[str, Any] = {}
        for name, value in values.items():
            if name not in _KINDS:
                extra[name] = value
                continue
            usable = _convert(value, _KINDS[name])
            if usable is not None and not (name == "max_payload" and usable <= 0):
                changes[name] = usable
        if extra:
            changes["extra"] = MappingProxyType({**self.extra, **extra})
        return replace(self, **changes)


def _restored(values: dict[str, Any]) -> ServerInfo:
    """What was copied or pickled."""
    return ServerInfo(**{**values, "extra": MappingProxyType(values["extra"])})


_KINDS: dict[str, type] = {item.name: type(item.default) for item in fields(ServerInfo) if item.name != "extra"}


def _convert(value: object, kind: type) -> Any:
    """Return `value` as a `kind`, None if it is not one."""
    if kind is tuple:
        return tuple(item for item in value if isinstance(item, str)) if isinstance(value, list) else None
    if kind is int and isinstance(value, float) and value.is_integer():
        return int(value)
    return value if type(value) is kind else None
