"""An entry of the journal as text: JSON for people, with a version in front and a sum at the end.

What is truncated, empty, of another program, of a newer hygge, or changed by hand is an error that
names the entry, never a guess.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any

from hygge.errors import JournalError

VERSION = 1
MOST_BYTES_OF_RECEIPT = 1024


def written(kind: str, flow: str, facts: dict[str, Any]) -> bytes:
    """An entry as it is kept."""
    content = {"hygge": VERSION, "kind": kind, "flow": flow, **facts}
    lines = [f" {json.dumps(name)}: {_lines(value)}" for name, value in content.items()]
    return ("{\n" + ",\n".join([*lines, f' "sum": "{_sum(content)}"']) + "\n}\n").encode()


def _lines(value: Any) -> str:
    """JSON, an item a line where there may be many."""
    if isinstance(value, list) and value and isinstance(value[0], dict):
        return "[\n  " + ",\n  ".join(map(json.dumps, value)) + "\n ]"
    return json.dumps(value)


_FRESH = (
    "`--fresh` passes over it and starts anew; what is committed stands in the store itself, so "
    "nothing is lost or doubled by that"
)


def read(content: bytes, kind: str, flow: str, where: str, mend: str = _FRESH) -> dict[str, Any]:
    """The facts of an entry. `where` is what to call it in errors, `mend` what to do about it."""
    try:
        facts = json.loads(content)
        version = facts["hygge"]
    except (ValueError, KeyError, TypeError):
        what = "is no entry that hygge wrote" if content.strip() else "is empty"
        raise JournalError(f"{where} {what}", mend) from None
    if not isinstance(version, int) or version > VERSION:
        raise JournalError(
            f"{where} was written by a newer hygge (version {version} of the journal, "
            f"this one knows {VERSION})",
            "upgrade hygge-data, then run again",
        )
    said = facts.pop("sum", None)
    if said != _sum(facts):
        raise JournalError(f"{where} was changed after hygge wrote it, or is cut off", mend)
    if facts.pop("kind", None) != kind:
        raise JournalError(f"{where} is not a {kind}", mend)
    if facts.get("flow") != flow:
        raise JournalError(
            f"{where} belongs to flow '{facts.get('flow')}', not to '{flow}'",
            "give the flow its old name again, or move that folder away; the next run then starts "
            "anew from what the store holds",
        )
    del facts["hygge"], facts["flow"]
    return dict(facts)


def _sum(content: dict[str, Any]) -> str:
    text = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]
