"""Rows that a Store refuses in its commit, after they were staged and decided.

Life of such a row: the driver makes a `RefusedRows` for each call of `Store.commit`. The Store adds
the rows that its target refuses, and calls `keep` before its transaction commits. `keep` writes
them beside the journal, under a name that no other call has, where no reader looks. The Store puts
that name into its head (`Head.aside`), which moves together with the other rows. So the head names
the file of the very call that committed, whoever dies, and whatever others tried. The driver shows
that file when it closes the run (`hygge/journal/bad_files.py`).
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pyarrow as pa

from hygge.bad_rows import ARROW, bad_table_of, content_of, too_many
from hygge.errors import UnfitValue
from hygge.model import Head, Limits, Receipt, Run


class RefusedRows:
    """What takes the rows that one call of `Store.commit` sets aside.

    `schema` is that of the flow's rows, where it is known. `write` gets a name and the content of
    a file, and keeps it durably.
    """

    def __init__(
        self,
        run: Run,
        receipts: Sequence[Receipt],
        limits: Limits,
        schema: pa.Schema | None,
        write: Callable[[str, bytes], None],
    ) -> None:
        self.run, self.limits, self.schema, self.write = run, limits, schema, write
        self._before = sum(receipt.set_aside for receipt in receipts)
        self._read = self._before + sum(receipt.rows for receipt in receipts)
        most = min(limits.max_bad_rows, int(limits.max_bad_share * self._read))
        self.most_rows = max(0, most - self._before)
        """The most rows that it may take."""
        self.rows = 0
        self._tables: list[pa.Table] = []
        self._splits: list[int | None] = []

    def check(self, rows: int, error: UnfitValue) -> None:
        """Raise TooManyBadRows where `rows` are more than it may take; `error` is of one of them.

        The Store calls it for each row that it finds, before it reads all of them.
        """
        if rows > self.most_rows:
            raise too_many(
                self._before + rows, self._read, f". One of them: {error.message}",
                self.limits.max_bad_rows, self.limits.max_bad_share,
            )  # fmt: skip

    def add(
        self, table: pa.Table, splits: Sequence[int | None], errors: Sequence[UnfitValue]
    ) -> None:
        """Take rows that are refused: what they were, the split of each, and why.

        Raises UnfitValue for a value that is none of the flow's.
        """
        if self.schema is not None:
            table = _conformed(table, self.schema)
        self._tables.append(bad_table_of(table, enumerate(errors), ARROW))
        self._splits += splits
        self.rows += table.num_rows
        self.schema = self.schema or table.schema

    def keep(self) -> dict[str, Any]:
        """Write the rows durably, and return what the head shall say of them (`Head.aside`)."""
        name = uuid.uuid4().hex
        splits = pa.array(self._splits, pa.int64())
        found = pa.concat_tables(self._tables)
        content = content_of(found, self.run.flow, self.run.id, splits, self.schema)
        self.write(name, content)
        return {"file": name, "rows": self.rows}


def rows_refused(aside: Mapping[str, Any] | None) -> int:
    """Return how many rows a commit set aside, by `Head.aside`."""
    return 0 if aside is None else int(aside["rows"])


def settled(head: Head, receipts: Sequence[Receipt]) -> tuple[int, int, int]:
    """Return how many rows the commit that made `head` applied, superseded and set aside."""
    staged, aside = sum(receipt.rows for receipt in receipts), rows_refused(head.aside)
    return head.rows, max(0, staged - head.rows - aside), aside


def _conformed(table: pa.Table, schema: pa.Schema) -> pa.Table:
    """Return rows that came out of a Store as the flow had them; UnfitValue where that is lost."""
    arrays = []
    for field in schema:
        array = table.column(field.name)
        try:
            arrays.append(array if array.type == field.type else array.cast(field.type))
        except pa.ArrowException as error:
            raise UnfitValue(
                f"column '{field.name}' came back as {array.type}, and was {field.type}: {error}"
            ) from error
    return pa.Table.from_arrays(arrays, schema=schema)
