"""Whether rows may go into a table, and what becomes of its columns: before a row moves.

The library's commit of files checks nothing: neither rules of the table nor features that its
writers must keep to. So a table with any that hygge does not keep to is refused.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pyarrow as pa

from hygge.batches import widens
from hygge.connectors.delta.heads import made_by_hygge
from hygge.connectors.delta.library import configuration, partition_columns
from hygge.connectors.files.evolving import Followed, followed
from hygge.connectors.files.heads import check_none_added, check_same
from hygge.errors import NotOurs, StoreError
from hygge.formats.format import Format
from hygge.model import Contract, Head, Run
from hygge.type_words import word_of

if TYPE_CHECKING:
    from deltalake import DeltaTable

_FEATURES = {
    "appendOnly", "invariants", "checkConstraints", "changeDataFeed", "generatedColumns",
    "identityColumns", "columnMapping", "timestampNtz", "domainMetadata", "v2Checkpoint",
    "vacuumProtocolCheck", "rowTracking",
}  # fmt: skip
"""Writer features that a table may list; whether it uses them is looked at below."""
_USED = {
    "delta.enableDeletionVectors": ("true", "deletion vectors"),
    "delta.enableRowTracking": ("true", "row tracking"),
    "delta.columnMapping.mode": ("name id", "column mapping"),
    "delta.enableIcebergCompatV1": ("true", "Iceberg compatibility"),
    "delta.enableIcebergCompatV2": ("true", "Iceberg compatibility"),
}
"""Properties of a table → the values that turn a feature on, and its name."""
_FIELD_RULES = {
    "delta.invariants": "a rule (invariant)",
    "delta.generationExpression": "a generated value",
    "delta.identity.start": "identity values",
}
_PLAIN_FORMAT = Format()


@dataclass(frozen=True)
class Fitted:
    """How rows go into a table."""

    schema: pa.Schema | None
    """The columns that are written, in their order; None: only the rows know them."""
    partition_by: tuple[str, ...]
    followed: Followed | None = None
    """How the columns of the table follow those of the rows; None: they do not."""

    @property
    def changes(self) -> tuple[str, ...]:
        """Return a sentence for each change of the columns."""
        return () if self.followed is None else self.followed.changes


def fitted(
    who: str,
    table: DeltaTable | None,
    schema: pa.Schema | None,
    run: Run,
    head: Head | None,
    contract: Contract | None,
    partition_by: Sequence[str] | None,
    adopts: bool,
) -> Fitted:
    """Return how rows of `schema` go into a table (None: a new one). Raises StoreError."""
    _check_key(who, schema, run)
    _check_names(who, schema or ())
    if table is None:
        by = tuple(partition_by or ())
        _check_partitions(who, schema, by)
        return Fitted(schema, by)
    _check_features(who, table, run)
    by = partition_columns(table)
    if partition_by is not None and tuple(partition_by) != by:
        raise StoreError(
            f"{who} is partitioned by {', '.join(by) or 'nothing'}, and `partition_by` says "
            f"{', '.join(partition_by) or 'nothing'}",
            "leave `partition_by` as the table has it, or write to another path",
        )
    if run.mode == "replace" and not (adopts or made_by_hygge(table)):
        raise NotOurs(
            f"{who} is a Delta table that hygge did not make",
            "`options: {adopt: true}` replaces its rows all the same; or choose another path",
        )
    _check_partitions(who, schema, by)
    if schema is None:
        return Fitted(None, by)
    held = held_schema(table)
    if run.mode == "replace" and contract is None:
        check_none_added(who, held.names, schema.names, head)
        return Fitted(schema, by)
    ordered = [name for name in held.names if name in schema.names]
    ordered += [name for name in schema.names if name not in held.names]
    schema = pa.schema([schema.field(name) for name in ordered], schema.metadata)
    if contract == "evolve":
        written = None if head is None else [name for name, _ in head.columns]
        replaces = run.mode == "replace"
        new = followed(who, held, schema, _PLAIN_FORMAT, written, replaces)
        _check_names(who, new.schema)
        lost = [name for name in run.key if name not in held.names]
        if lost and run.mode == "merge":
            raise StoreError(
                f"{who} has no column '{lost[0]}', which is the key of the rows",
                "keep the key of the rows that are there, or write to another path",
            )
        return Fitted(pa.schema(list(new.schema)), by, new)
    _check_frozen(who, held, schema, run)
    return Fitted(held, by)


def check_empty(who: str, names: Sequence[str]) -> None:
    """Raise NotOurs where a new table would lie among other files: its tools would remove them."""
    others = [name for name in names if not name.startswith(("hygge-", "_", "."))]
    if others:
        raise NotOurs(
            f"{who} is no Delta table, and holds {others[0]}",
            "choose an empty folder: a `vacuum` of the table would remove what else is there",
        )


def held_schema(table: DeltaTable) -> pa.Schema:
    """Return the columns of a table as Arrow types."""
    return pa.schema([_plain(field) for field in pa.schema(table.schema().to_arrow())])


def _plain(field: pa.Field) -> pa.Field:
    kind = field.type
    if kind in (pa.large_string(), pa.string_view()):
        kind = pa.string()
    elif kind in (pa.large_binary(), pa.binary_view()):
        kind = pa.binary()
    return pa.field(field.name, kind, field.nullable)


def _check_frozen(who: str, held: pa.Schema, schema: pa.Schema, run: Run) -> None:
    """Raise StoreError where a table does not hold all values of the rows as it is."""
    fields = []
    for field in schema:
        index = held.get_field_index(field.name)
        wanted = held.field(index).type if index >= 0 else field.type
        fields.append(field.with_type(wanted) if widens(field.type, wanted) else field)
    check_same(who, held, pa.schema(fields), run.mode)


def _check_names(who: str, fields: Iterable[pa.Field], within: str = "") -> None:
    """Raise StoreError where two columns, or two fields of one, are one name in Delta."""
    met: dict[str, str] = {}
    for field in fields:
        other = met.setdefault(field.name.lower(), field.name)
        if other != field.name:
            raise StoreError(
                f"{who}: '{other}' and '{field.name}'{within} differ in case only, and are one "
                "column in Delta Lake",
                "give one of them another name"
                + (" where the rows come from" if within else ", with `as` of `columns`"),
            )
        inner = [field.type.field(at) for at in range(field.type.num_fields)]
        _check_names(who, inner, f" within column '{field.name}'")


def _check_key(who: str, schema: pa.Schema | None, run: Run) -> None:
    """Raise StoreError for a merge key of which two values may be one, or one be two."""
    if schema is None or run.mode != "merge":
        return
    for name in run.key:
        index = schema.get_field_index(name)
        kind = pa.null() if index < 0 else schema.field(index).type
        if pa.types.is_floating(kind) or pa.types.is_nested(kind):
            raise StoreError(
                f"{who}: the merge key '{name}' is {word_of(kind)}, by which rows are not told "
                "apart exactly",
                "use another key, or give it another type under `columns`",
            )


def _check_partitions(who: str, schema: pa.Schema | None, columns: Sequence[str]) -> None:
    if schema is None:
        return
    t = pa.types
    for name in columns:
        index = schema.get_field_index(name)
        if index < 0:
            raise StoreError(
                f"{who}: the rows have no column '{name}', by which the table is partitioned",
                f"give them one, for example with `add`; they have {', '.join(schema.names)}",
            )
        kind = schema.field(index).type
        kinds = (t.is_string, t.is_signed_integer, t.is_date32, t.is_boolean)
        if not any(is_kind(kind) for is_kind in kinds):
            raise StoreError(
                f"{who}: column '{name}' is {word_of(kind)}, and hygge partitions by text, whole "
                "numbers, dates and booleans alone",
                "partition by another column, such as the date of a timestamp",
            )
    if columns and len(columns) == len(schema.names):
        raise StoreError(
            f"{who}: all columns are partition columns, so its files would have none",
            "take one out of `partition_by`",
        )


def _in_words(feature: str) -> str:
    return re.sub(r"(?<=[a-z])(?=[A-Z])", " ", feature).lower()


def _check_features(who: str, table: DeltaTable, run: Run) -> None:
    """Raise StoreError where a table has what its writers must keep to, and hygge does not."""
    properties, protocol = configuration(table), table.protocol()
    used = [
        name
        for key, (values, name) in _USED.items()
        if str(properties.get(key, "")).lower() in values.split()
    ]
    listed = [*(protocol.writer_features or ()), *(protocol.reader_features or ())]
    used += [_in_words(name) for name in listed if name not in _FEATURES]
    used += [
        f"the rule '{key.removeprefix('delta.constraints.')}'"
        for key in properties
        if key.startswith("delta.constraints.")
    ]
    for field in json.loads(table.schema().to_json())["fields"]:
        rules = [said for key, said in _FIELD_RULES.items() if key in field["metadata"]]
        used += [f"{said} in column '{field['name']}'" for said in rules]
    if "delta.setTransactionRetentionDuration" in properties:
        used.append("delta.setTransactionRetentionDuration, by which it forgets what hygge wrote")
    if used:
        raise StoreError(
            f"{who} has {', '.join(dict.fromkeys(used))}, which hygge does not keep to when it "
            "writes",
            "write to another table, or let the engine that made it take that out",
        )
    if str(properties.get("delta.appendOnly", "")).lower() == "true" and run.mode != "append":
        raise StoreError(
            f"{who} is append-only (delta.appendOnly), and `mode: {run.mode}` removes rows",
            "use `mode: append`, or write to another table",
        )
