"""Staged rows that a table refuses in the commit: they are found and set aside, all others come.

The rows are put into the table in one statement, as ever. Only where that fails are they put in
pieces, each after a savepoint, and a piece that fails is halved until its bad rows stand alone.
Then each of these is tried once more, since a row may refer to a later one. Whether a row is bad
says the table itself: its rules, its triggers, its types. All of it is one transaction with the
move of the head.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence

import pyarrow as pa

from hygge.errors import HyggeError, Rejected, UnfitValue
from hygge.refused_rows import RefusedRows

AT_ONCE = 1_000
"""About the number of rows in a piece."""
_PARTS = 8
_MARK = "hygge_rows"

Number = tuple[int, int]
"""Tells one staged row from the others, and orders them."""
Range = tuple[Number, Number]
"""The staged rows from one number to another, both included."""


class StagedRows(ABC):
    """The staged rows of a commit, and the table that they go to, in an open transaction."""

    who: str

    @abstractmethod
    def do(self, sql: str) -> None:
        """Run a statement."""

    @abstractmethod
    def put(self, rows: Range | None) -> None:
        """Put rows (None: all) into the table. Raises where it does not take each of them."""

    @abstractmethod
    def refusal(self, error: Exception) -> UnfitValue | None:
        """Return what the table has against a row; None for an error about something else."""

    @abstractmethod
    def ranges(self) -> Iterator[Range]:
        """Yield ranges that hold all rows, of about AT_ONCE rows each."""

    @abstractmethod
    def numbers(self, rows: Range) -> list[Number]:
        """Return the numbers of the rows of a range, in order."""

    @abstractmethod
    def read(self, numbers: Sequence[Number]) -> tuple[pa.Table, list[int | None]]:
        """Return rows as they were staged, in this order, and the split of each, where known."""


def put_all(staged: StagedRows, refused: RefusedRows | None) -> list[Number]:
    """Put the staged rows into the table; `refused` takes those that the table does not.

    Returns the numbers of these rows. Without `refused` such a row is an error. Raises
    TooManyBadRows above the limit.
    """
    if refused is None:
        staged.put(None)
        return []
    if _refusal(staged, None) is None:
        return []
    left: dict[Number, UnfitValue] = {}
    for rows in staged.ranges():
        for number, error in _refused_in(staged, rows):
            left[number] = error
            refused.check(refused.rows + len(left), error)
    while came := [number for number in left if _refusal(staged, (number, number)) is None]:
        for number in came:
            del left[number]
    if left:
        _set_aside(staged, left, refused)
    return sorted(left)


def said(text: str, column: str | None = None) -> UnfitValue:
    """Return what the table says of a row, in one line, for the list of bad rows."""
    error = UnfitValue(f"the table refuses it: {' '.join(text.split())}")
    return error if column is None else error.at(column)


def _refusal(staged: StagedRows, rows: Range | None) -> UnfitValue | None:
    """Put rows after a savepoint; where the table refuses one, undo all and return why."""
    staged.do(f"SAVEPOINT {_MARK}")
    try:
        staged.put(rows)
    except Exception as error:
        refusal = staged.refusal(error)
        if refusal is None and isinstance(error, UnfitValue):
            refusal = error  # the database changed a value
        elif refusal is None and isinstance(error, Rejected):
            refusal = said("a trigger or a rule of the table leaves it out")
        if refusal is None:
            raise
        staged.do(f"ROLLBACK TO SAVEPOINT {_MARK}")
        staged.do(f"RELEASE SAVEPOINT {_MARK}")
        return refusal
    staged.do(f"RELEASE SAVEPOINT {_MARK}")
    return None


def _refused_in(staged: StagedRows, rows: Range) -> Iterator[tuple[Number, UnfitValue]]:
    """Put the rows of a range; yield the number of each one that the table refuses, and why."""
    error = _refusal(staged, rows)
    if error is None:
        return
    numbers = staged.numbers(rows)
    if len(numbers) <= 1:
        if not numbers:  # a trigger of the statement, say
            raise Rejected(error.message)
        yield numbers[0], error
        return
    step = -(-len(numbers) // _PARTS)
    for at in range(0, len(numbers), step):
        part = numbers[at : at + step]
        yield from _refused_in(staged, (part[0], part[-1]))


def _set_aside(staged: StagedRows, left: dict[Number, UnfitValue], refused: RefusedRows) -> None:
    numbers = sorted(left)
    try:
        table, splits = staged.read(numbers)
        refused.add(table, splits, [left[number] for number in numbers])
    except HyggeError as error:
        raise Rejected(
            f"{staged.who}: {left[numbers[0]].message}; and the row cannot be set aside, since its "
            f"values do not come back as they were: {error.message}",
            "mend the row at the source, or leave it out with `where`",
        ) from error
