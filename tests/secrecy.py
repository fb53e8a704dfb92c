"""The secrets that tests use, in every form in which one could show itself, and the search for them.

A test takes its secrets from `secret`. Whatever else is given to a client as a password, token, seed, JWT or private
key is recorded by `tests.secrecy_scan`, so that no test can forget to; such a value must be one that does not
turn up by chance.
"""

from __future__ import annotations

import base64
import itertools
import json
import os
import re
from urllib.parse import quote, quote_plus, unquote

SHORTEST = 8

_numbers = itertools.count(1)
_forms: dict[str, str] = {}  # form -> what it is a form of, in words
_lasting: set[str] = set()  # recorded while test files were imported
_PEM = re.compile(r"-----BEGIN ([A-Z ]*(?:PRIVATE KEY|JWT|SEED))-+\s+(.*?)\s+-+END", re.DOTALL)


def secret(hint: str = "secret", *, odd: bool = False) -> str:
    """A new password or token. `odd`: one that must be percent-encoded in a URL."""
    text = f"{hint}-{next(_numbers)}-{os.urandom(6).hex()}" + ("p@ss/w:rd %41 ?#é" if odd else "")
    record(text)
    return text


def record(value: str | bytes, what: str = "secret") -> None:
    """Look for this from now on: a password or the like, or a text with private keys, a seed or a JWT in it."""
    text = value.decode("latin-1") if isinstance(value, bytes) else str.__str__(value)
    blocks = _PEM.findall(text)
    if blocks:
        for kind, body in blocks:
            for line in body.split():
                _record(line, kind.lower())
    elif text.strip():
        _record(text.strip(), what)


def _record(text: str, what: str) -> None:
    if len(text) < SHORTEST or text.isalpha():
        raise AssertionError(f"the {what} of a test could turn up by chance: make it with tests.secrecy.secret()")
    parts = text.split(".")
    if len(parts) == 3 and text.startswith("eyJ"):  # a JWT; its first part says no more than that
        for part in parts[1:]:
            _forms.setdefault(part, f"a part of the {what}")
    for form in forms(text):
        _forms.setdefault(form, f"the {what}")


def forms(text: str) -> set[str]:
    """How this text may look where it has leaked."""
    data = text.encode()
    found = {text, unquote(text), quote(text), quote(text, safe=""), quote_plus(text), data.hex(), data.hex().upper()}
    found |= {repr(text)[1:-1], ascii(text)[1:-1], repr(data)[2:-1], json.dumps(text)[1:-1]}
    found.add(json.dumps(text, ensure_ascii=False)[1:-1])
    for shift in range(3):  # within something longer, such as "user:password"
        coded = base64.b64encode(b"\0" * shift + data).decode().rstrip("=")
        # The first characters depend on what stands before, the last one on what comes behind.
        inner = coded[(0, 2, 3)[shift] : len(coded) - (1 if (shift + len(data)) % 3 else 0)]
        found |= {inner, inner.replace("+", "-").replace("/", "_")}
    return {form for form in found if len(form) >= SHORTEST}


def find(text: str) -> str | None:
    """What secret is in `text`, in words; None if there is none."""
    for form, what in _forms.items():
        if form in text:
            return what
    return None


def hide(text: str) -> str:
    """The text without the secrets in it, for the report of a leak."""
    for form in sorted(_forms, key=len, reverse=True):
        text = text.replace(form, "<SECRET>")
    return text


def forget() -> None:
    """What was recorded by the tests of one file is of no interest in the next."""
    for form in [form for form in _forms if form not in _lasting]:
        del _forms[form]


def imported() -> None:
    """All test files are imported: what is recorded by now is used in many tests."""
    _lasting.update(_forms)
