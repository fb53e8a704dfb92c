"""Sees to it that ``zio`` is the runtime of this distribution and not the unrelated project of the same name.

Which of two packages of one name is imported depends on how and where they were installed. The other project's has
nothing that the client could use, and the errors would lead nobody to the cause.
"""

from __future__ import annotations

from importlib import metadata, util
from pathlib import Path

_OURS = "nats-zio"


def check() -> None:
    """Import ``zio``; ImportError that names the conflict and the cure if it is not ours."""
    try:
        import zio
    except Exception as exc:
        if _found_ours():
            raise  # something that ours needs is missing
        raise _conflict(_where()) from exc
    if getattr(zio, "__distribution__", None) != _OURS:
        raise _conflict(getattr(zio, "__file__", None))


def _where() -> str | None:
    try:
        spec = util.find_spec("zio")
    except (ImportError, ValueError):
        return None
    return spec.origin if spec is not None else None


def _found_ours() -> bool:
    try:
        text = Path(_where() or "").read_text(encoding="utf-8")
    except (OSError, ValueError):
        return False
    return f'__distribution__ = "{_OURS}"' in text


def _conflict(where: str | None) -> ImportError:
    try:
        other = f"the unrelated project zio {metadata.version('zio')} is installed and has the same import name"
    except metadata.PackageNotFoundError:
        other = "it may come from a file of that name on sys.path, or from an unrelated project on PyPI"
    return ImportError(
        f"the package zio at {where or 'an unknown place'} is not the one of {_OURS}: {other}. "
        f"To mend it: pip uninstall zio && pip install --force-reinstall {_OURS}",
        name="zio",
        path=where,
    )
