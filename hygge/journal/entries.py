"""An entry of the journal as bytes: JSON that people can read, with a version and a checksum.

`decode` never guesses: it raises JournalError for an entry that is cut off, empty, changed by hand,
or written by another program or a newer hygge.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any

from hygge.errors import JournalError

VERSION = 1
MAX_RECEIPT_BYTES = 1024

Facts = dict[str, Any]
"""A JSON object."""


def encode(kind: str, flow: str, facts: Facts) -> bytes:
    """Return an entry as it is stored. `kind` is plan, receipt, decision, outcome …"""
    content = {"hygge": VERSION, "kind": kind, "flow": flow, **facts}
    lines = [f" {json.dumps(name)}: {_lines(value)}" for name, value in content.items()]
    return ("{\n" + ",\n".join([*lines, f' "sum": "{_checksum(content)}"']) + "\n}\n").encode()


def _lines(value: object) -> str:
    """Return `value` as JSON; a list of objects has one object a line, as it may be long."""
    if isinstance(value, list) and value and isinstance(value[0], dict):
        return "[\n  " + ",\n  ".join(map(json.dumps, value)) + "\n ]"
    return json.dumps(value)


_FRESH = (
    "`--fresh` passes over it and starts anew; what is committed stands in the store itself, so "
    "nothing is lost or doubled by that"
)


def decode(content: bytes, kind: str, flow: str, where: str, hint: str = _FRESH) -> Facts:
    """Return the facts of an entry that must be of this kind and flow.

    `where` names the entry in errors, `hint` says what to do about a damaged one. Raises
    JournalError for anything but an entry as `encode` writes it.
    """
    try:
        facts = json.loads(content)
        version = facts["hygge"]
    except (ValueError, KeyError, TypeError):
        what = "is no entry that hygge wrote" if content.strip() else "is empty"
        raise JournalError(f"{where} {what}", hint) from None
    if not isinstance(version, int) or version > VERSION:
        raise JournalError(
            f"{where} was written by a newer hygge (version {version} of the journal, "
            f"this one knows {VERSION})",
            "upgrade hygge-data, then run again",
        )
    checksum = facts.pop("sum", None)
    if checksum != _checksum(facts):
        raise JournalError(f"{where} was changed after hygge wrote it, or is cut off", hint)
    if facts.pop("kind", None) != kind:
        raise JournalError(f"{where} is not a {kind}", hint)
    if facts.get("flow") != flow:
        raise JournalError(
            f"{where} belongs to flow '{facts.get('flow')}', not to '{flow}'",
            "give the flow its old name again, or move that folder away; the next run then starts "
            "anew from what the store holds",
        )
    del facts["hygge"], facts["flow"]
    return dict(facts)


def _checksum(content: Facts) -> str:
    text = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]
