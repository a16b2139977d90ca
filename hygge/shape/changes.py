"""The last step of a flow whose Home gives changes: what `_op` says is looked at, row by row."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import pyarrow as pa

from hygge.changes import OP, checked, marked
from hygge.errors import ConfigError
from hygge.shape.bound import Bound
from hygge.shape.step import Reading


@dataclass(frozen=True)
class CheckChanges:
    """The step that raises UnfitValue for a row that is no change."""

    schema: pa.Schema
    key: tuple[str, ...]
    cursor: str | None

    def apply(self, table: pa.Table, reading: Reading) -> pa.Table:
        """Return the batch with `_op` marked."""
        return checked(table, self.schema, self.key, self.cursor, reading.who)


def with_changes(
    bound: Bound | None, source: pa.Schema, key: Sequence[str], cursor: str | None, who: str
) -> Bound:
    """Return what the Home's process does, and behind it the look at `_op`.

    `source` are the columns that the Home gives, `key` and `cursor` are named as they come out.
    Raises ConfigError where `_op` is missing, no text, or one of those two.
    """
    if bound is None:
        bound = Bound(source, source, (), {name: name for name in source.names})
    if OP in (*key, cursor):
        raise ConfigError(
            f"{who}: '{OP}' tells what became of a row, so it is neither its key nor its cursor",
            "name others: `key: [id]`",
        )
    step = CheckChanges(marked(bound.schema, who), tuple(key), cursor)
    # Not one of the source's own columns: what passes through undecoded is not looked at.
    origins = {new: old for new, old in bound.origins.items() if new != OP}
    kept = {new: old for new, old in bound.kept.items() if new != OP}
    return replace(
        bound, schema=step.schema, steps=(*bound.steps, step), origins=origins, kept=kept
    )
