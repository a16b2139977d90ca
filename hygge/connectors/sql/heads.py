"""The row of `_hygge_heads` that says what is committed to a table.

`_hygge_heads` stands beside the target and has one row for each flow and target. `made` is NULL, or
it names the table that hygge created: `replace` may drop the rows of the target only while the
target is still that table. A `replace` deletes the heads of other flows on its target: their rows
are gone, so these flows start anew. Each row holds the number of its format; hygge refuses rows of
a newer format, and rows that make no sense.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple

from hygge.errors import NotOurs, StoreError, Superseded
from hygge.model import Commit, Head, Receipt, Run, Watermark
from hygge.refused_rows import settled

HEADS = "_hygge_heads"


FORMAT = 1
"""The format of the rows of `_hygge_heads`."""

_TIES = "\0ties"
"""The name of no column: beside it `columns` has what the head remembers of the rows at its
watermark. So tables of heads that older versions made have room for it."""
_ASIDE = "\0aside"
"""The same for the rows that the commit set aside (`Head.aside`)."""

HEAD_COLUMNS = (
    "flow", "target", "format", "generation", "run", "rows", "watermark", "cursor", "columns",
    "made", "committed_at",
)  # fmt: skip


def head_values(
    run: Run,
    target: str,
    base: Head | None,
    rows: int,
    watermark: Watermark,
    columns: Iterable[tuple[str, str]],
    made: str | None,
) -> dict[str, Any]:
    """The row of `_hygge_heads` that a commit writes."""
    cursor = run.cursor
    if cursor is None and base is not None and watermark is not None:
        cursor = base.cursor  # a run without one has taken the watermark over
    return {
        "flow": run.flow,
        "target": target,
        "format": FORMAT,
        "generation": base.generation + 1 if base else 1,
        "run": run.id,
        "rows": rows,
        "watermark": json.dumps(watermark),
        "cursor": cursor,
        "columns": _columns_text(columns, run),
        "made": made,
        "committed_at": f"{datetime.now(UTC):%Y-%m-%d %H:%M:%S}",
    }


def _columns_text(columns: Iterable[tuple[str, str]], run: Run) -> str:
    """The text for `columns`: (name, type) of each, and what `run` remembers of its last rows."""
    ties = [] if run.ties is None else [(_TIES, json.dumps(dict(run.ties)))]
    return json.dumps([*columns, *ties])


def note_aside(row: dict[str, Any], aside: dict[str, Any]) -> None:
    """Write into the row of a head which rows its commit sets aside: see `Head.aside`."""
    row["columns"] = json.dumps([*json.loads(row["columns"]), [_ASIDE, json.dumps(aside)]])


def head_of(row: dict[str, Any], who: str) -> Head:
    """The Head of such a row; StoreError if hygge did not write it, or a newer hygge did."""
    lacks = [name for name in HEAD_COLUMNS if name not in row]
    number = row.get("format")
    if isinstance(number, int) and number > FORMAT:
        raise StoreError(
            f"{who}: the head of flow {row.get('flow')!r} in {HEADS} was written by a newer hygge "
            f"(format {number})",
            "upgrade hygge-data, then run again",
        )
    if lacks:
        raise not_a_head(who, f"there is no column '{lacks[0]}'")
    try:
        pairs = tuple((str(name), str(kind)) for name, kind in json.loads(row["columns"]))
        columns = tuple(pair for pair in pairs if pair[0] not in (_TIES, _ASIDE))
        noted = {name: json.loads(text) for name, text in pairs if name in (_TIES, _ASIDE)}
        head = Head(
            row["flow"], row["generation"], row["run"], row["rows"],
            json.loads(row["watermark"]), columns, cursor=row["cursor"],
            ties=noted.get(_TIES), aside=noted.get(_ASIDE),
        )  # fmt: skip
    except (ValueError, TypeError) as error:
        raise not_a_head(who, f"of flow {row['flow']!r}: {error}") from error
    counts = (number, head.generation, head.rows)
    if not all(type(each) is int and each >= 0 for each in counts) or not head.generation:
        raise not_a_head(who, f"format, generation and rows of flow {head.flow!r} are {counts}")
    if not isinstance(head.run, str) or isinstance(head.watermark, list | dict):
        raise not_a_head(who, f"run and watermark are {head.run!r} and {head.watermark!r}")
    return head


class StoredHead(NamedTuple):
    """A row of the heads."""

    head: Head
    made: str | None
    """The identity of the table that hygge made; None if it did not make it."""


Heads = dict[str, StoredHead]
"""The heads of one target, by flow."""


def stored_heads(rows: Sequence[dict[str, Any]], who: str) -> Heads:
    """Return the heads in rows of `_hygge_heads`; StoreError if hygge would not write them."""
    stored = [StoredHead(head_of(row, who), row["made"]) for row in rows]
    heads = {each.head.flow: each for each in stored}
    if len(heads) < len(stored):
        raise not_a_head(who, "there are two heads of one flow")
    return heads


def head_in(heads: Heads, flow: str) -> Head | None:
    """Return the head of one flow."""
    return heads[flow].head if flow in heads else None


def not_a_head(who: str, why: str) -> StoreError:
    """The error for something else where the head should be."""
    return StoreError(
        f"{who}: what stands in {HEADS} is not what hygge writes there: {why}",
        f"restore it from a backup. Without it nobody knows what was moved: to start anew, empty "
        f"the table that was written, and drop {HEADS} or the row in it",
    )


OR = "\0"
"""Between the identities of one table that is being altered: it is the one or the other."""


def still(now: str | None, heads: Heads) -> bool:
    """True if a table is one that hygge made; users may have added columns behind the others."""
    made = [stored.made for stored in heads.values() if isinstance(stored.made, str)]
    return now is not None and any(
        now.startswith(identity) for each in made for identity in each.split(OR)
    )


def already(now: Head | None, run: Run, receipts: Sequence[Receipt]) -> Commit | None:
    """The commit of this run, if the head says that it is committed already."""
    if now is None or now.run != run.id:
        return None
    return Commit(now, *settled(now, receipts), note="it was committed before")


def compared(
    now: Head | None, run: Run, base: Head | None, receipts: Sequence[Receipt], who: str
) -> Commit | None:
    """Compare the head: the commit of this run if it was made before, None if `base` is the head.

    Raises Superseded if it is another one.
    """
    done = already(now, run, receipts)
    if done is None:
        check_base(now, base, who)
    return done


def check_base(now: Head | None, base: Head | None, who: str) -> None:
    """Raise Superseded unless the head is `base`: the compare of compare-and-swap."""
    if (now and (now.generation, now.run)) != (base and (base.generation, base.run)):
        raise Superseded(
            f"{who}: run {now.run if now else 'none'} is committed, where "
            f"{base.run if base else 'none'} was expected",
            "two runs of this flow overlapped; run it again",
        )


OR_REPLACE = "or use `mode: replace`, which makes a table of hygge's anew, or another table"
"""The end of hints about a table that rows do not fit: `replace` refuses tables of others."""
OR_ELSEWHERE = "or use another table"
"""The same where the table is adopted: `replace` is what the flow does."""


def not_ours(who: str) -> NotOurs:
    """The error for a `replace` onto a table that hygge did not make."""
    return NotOurs(
        f"{who} exists, and hygge did not make it, or not as it is now",
        "replace its rows and keep the table with `adopt: true`, choose another table, use "
        "`mode: append`, or drop the table yourself",
    )


def lost_target(who: str, flow: str) -> StoreError:
    """The error for a head whose table is gone."""
    return StoreError(
        f"{who} is gone, but flow '{flow}' has committed rows to it; going on would leave them out",
        f"restore the table, or start anew: DELETE FROM {HEADS} WHERE flow = '{flow}'",
    )
