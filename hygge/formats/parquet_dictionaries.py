"""Columns of text that go from one Parquet file into another as dictionaries, also of Iceberg.

A column of few different texts is a dictionary in its file: each text once, and a small number for
each row. As plain values they are made and looked up again row by row, which is a fifth of the work
of a move. So the reader of a file gives such a column as an Arrow dictionary where the flow's Store
writes Parquet, and the writer gives it on. To every reader of the new file its values are plain.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING

import pyarrow as pa

from hygge.batches import DICTIONARY, plain, plain_schema

if TYPE_CHECKING:
    import pyarrow.parquet as pq

_ENCODINGS = {"PLAIN", "PLAIN_DICTIONARY", "RLE_DICTIONARY", "RLE", "BIT_PACKED"}
"""Of chunks that pyarrow reads as dictionaries. Where one grew too large, others may follow it."""
_BYTES_A_ROW = 2
"""A chunk that holds fewer has no plain text in it: of that, the length alone takes four."""


def columns_in(file: pq.ParquetFile, group: int, wanted: Collection[str]) -> list[str]:
    """Return the columns of text of a row group that are nothing but small dictionaries in it."""
    schema, metadata = file.schema_arrow, file.metadata.row_group(group)
    if plain_schema(schema) != schema:
        return []  # a dictionary tells something there
    texts = {f.name for f in schema if pa.types.is_string(f.type) and f.name in wanted}
    chunks = (metadata.column(index) for index in range(metadata.num_columns))
    return [
        chunk.path_in_schema
        for chunk in chunks
        if chunk.path_in_schema in texts
        and chunk.has_dictionary_page
        and _ENCODINGS.issuperset(chunk.encodings)
        and chunk.total_uncompressed_size < _BYTES_A_ROW * chunk.num_values
    ]


def is_dictionary(field: pa.Field) -> bool:
    """Return whether a column of a batch is such a dictionary."""
    return bool(field.type == DICTIONARY)


def small_only(table: pa.Table) -> pa.Table:
    """Return a batch of plain values, but for dictionaries that are small beside the batch.

    A row group has its whole dictionary, also where it has few rows.
    """
    rest = pa.schema([field for field in table.schema if not is_dictionary(field)])
    if plain_schema(rest) != rest:
        return plain(table)
    small = [
        field.name
        for field, column in zip(table.schema, table.columns, strict=True)
        if is_dictionary(field)
        and sum(chunk.dictionary.nbytes for chunk in column.chunks) <= table.num_rows
    ]
    return _in_types(table, small)


def names_in(tables: Sequence[pa.Table]) -> list[str]:
    """Return the columns that are dictionaries in all tables."""
    found = [{field.name for field in table.schema if is_dictionary(field)} for table in tables]
    both = set.intersection(*found) if found else set()
    return [name for name in (tables[0].schema.names if tables else ()) if name in both]


def as_in_file(tables: Sequence[pa.Table], names: Collection[str]) -> pa.Table:
    """Return tables as one, in which these columns alone are dictionaries: one for each column."""
    whole = pa.concat_tables([_in_types(table, names) for table in tables])
    return whole.unify_dictionaries() if names else whole


def _in_types(table: pa.Table, names: Collection[str]) -> pa.Table:
    """Return a table in which these columns alone are dictionaries."""
    from pyarrow._compute import CastOptions, call_function  # pyarrow.compute is slow to load

    for index, field in enumerate(table.schema):
        if is_dictionary(field) == (field.name in names):
            continue
        if is_dictionary(field):
            as_text = CastOptions.safe(DICTIONARY.value_type)
            column = call_function("cast", [table.column(index)], as_text)
        else:
            column = call_function("dictionary_encode", [table.column(index)])
        table = table.set_column(index, field.with_type(column.type), column)
    return table
