"""A trial of rows before they are staged: which of them would the table refuse in the commit?

The columns that rules are about are loaded into a table of the session, and the database is asked
for the rows that break a rule. The target is read, and neither changed nor locked. Rows stay in
that table while rules compare them with later rows of the split.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

import pyarrow as pa

from hygge.bad_rows import BadRows
from hygge.changes import places_of_upserts, upserts
from hygge.connectors.sql.rules import ROW, SCRATCH, Rule
from hygge.connectors.sql.target import ORDINAL
from hygge.errors import HyggeError, Transient, UnfitValue

_AT_ONCE = 1_000
"""Numbers of rows in one statement."""


class Scratch(Protocol):
    """The table of a session with the columns of a trial, typed as in the target."""

    quote: Callable[[str], str]

    def load(self, rows: pa.Table, start: int) -> None:
        """Add rows, numbered from `start` on. Raises UnfitValue, and then adds none."""

    def ask(self, sql: str) -> list[tuple[int, ...]]:
        """Return the rows of a query. Raises HyggeError, and goes on."""

    def do(self, sql: str) -> None:
        """Run a statement. Raises HyggeError, and goes on."""


class Trial:
    """The trial of one split's rows; see `hygge.connectors.sql.rules`."""

    def __init__(self, scratch: Scratch, rules: Sequence[Rule], bad_rows: BadRows, who: str):
        self.scratch, self.bad_rows, self.who = scratch, bad_rows, who
        self.rules = [rule for rule in rules if rule.broken]
        self.columns = columns_of(rules)
        self.found_elsewhere = 0
        """Rows that were set aside for what is in a table now, and may not be there later."""
        self._next = 0
        for at, rule in enumerate([*self.rules]):
            if rule.first:
                listed = ", ".join(map(scratch.quote, rule.columns))
                self._tell(f"CREATE INDEX _hygge_trial_{at} ON {self._table} ({listed})", rule)

    @property
    def _table(self) -> str:
        return self.scratch.quote(SCRATCH)

    def sifted(self, batches: Iterator[pa.Table]) -> Iterator[pa.Table]:
        """Yield the batches without the rows that break a rule, which are set aside."""
        for batch in batches:
            yield self.sift(batch) if batch.num_rows else batch
            del batch

    def sift(self, batch: pa.Table) -> pa.Table:
        """Return the rows of a batch that break no rule, and set the others aside."""
        start = self._next
        tried = upserts(batch)  # of a change that deletes a row comes none
        try:
            self.scratch.load(self._picked(tried), start)
        except UnfitValue:
            batch = self.bad_rows.sift(batch, self._check_types)
            tried = upserts(batch)
            self.scratch.load(self._picked(tried), start)
        self._next += tried.num_rows
        places = places_of_upserts(batch)
        broken: dict[int, UnfitValue] = {}
        # Rows that other rules refuse are in nobody's way.
        for rule in [rule for rule in self.rules if not rule.first]:
            found = self._broken(rule, start)
            broken |= dict.fromkeys([places[at - start] for at in found], self._error(rule))
            self._forget(found)
            self.found_elsewhere += 0 if rule.is_firm else len(found)
            if self.bad_rows.rows + len(broken) > self.bad_rows.most_rows:
                return self.bad_rows.take(batch, broken)  # it raises
        twice = self._twice(start)
        broken |= {at - start: self._error(rule) for at, rule in twice.items()}
        self._forget([*twice])
        self.found_elsewhere += len(twice)  # another row may have held the key before
        if not any(rule.first for rule in self.rules):
            self.scratch.do(f"DELETE FROM {self._table}")
        return self.bad_rows.take(batch, broken)

    def _picked(self, batch: pa.Table) -> pa.Table:
        """Return the columns that rules are about; SQLite does not mind the case of a name."""
        names = {name.lower(): name for name in batch.column_names}
        names |= {name: name for name in batch.column_names}
        return batch.select([names.get(name) or names[name.lower()] for name in self.columns])

    def _check_types(self, batch: pa.Table) -> None:
        """Raise UnfitValue for a value that a column of the table does not take."""
        self.scratch.load(self._picked(upserts(batch)), self._next)
        self.scratch.do(
            f"DELETE FROM {self._table} WHERE {self.scratch.quote(ORDINAL)} >= {self._next}"
        )

    def _broken(self, rule: Rule, start: int) -> list[int]:
        """Return the numbers of the rows that break a rule; no more than the run may set aside."""
        return [number for number, *_ in self._ask(rule, start, "", self.bad_rows.most_rows + 1)]

    def _twice(self, start: int) -> dict[int, Rule]:
        """Return the numbers of the rows that have a key of an earlier row, which stays.

        As the table would take them, one after the other: a row that it refuses for one key holds
        no other one. A row that must be looked at and stays has a refused row before it for each
        key, so that no more of them are asked for than make the run fail.
        """
        rules = [rule for rule in self.rules if rule.first]
        most = (self.bad_rows.most_rows + 1) * (1 + len(rules))
        keys: dict[int, dict[tuple[str, int], Rule]] = {}
        for rule in rules:
            for number, first in self._ask(rule, start, f", {rule.first}", most):
                keys.setdefault(number, {})[rule.broken, first] = rule
                keys.setdefault(first, {})[rule.broken, first] = rule
        held: set[tuple[str, int]] = set()
        refused: dict[int, Rule] = {}
        for number in sorted(keys):
            taken = [key for key in keys[number] if key in held]
            if taken and number >= start:
                refused[number] = keys[number][taken[0]]
            else:
                held.update(keys[number])
        return refused

    def _ask(self, rule: Rule, start: int, more: str, most: int) -> list[tuple[int, ...]]:
        """Return the numbers of rows that break a rule, with `more`; none if it cannot be asked."""
        number = f"{ROW}.{self.scratch.quote(ORDINAL)}"
        try:
            return self.scratch.ask(
                f"SELECT {number}{more} FROM {self._table} {ROW} WHERE {number} >= {start} "
                f"AND ({rule.broken}) ORDER BY 1 LIMIT {most}"
            )
        except Transient:  # it is locked by others: a later attempt may ask
            raise
        except HyggeError:  # this user may not read that table, say
            self.rules.remove(rule)
            return []

    def _tell(self, sql: str, rule: Rule) -> None:
        try:
            self.scratch.do(sql)
        except HyggeError:
            self.rules.remove(rule)

    def _forget(self, numbers: Sequence[int]) -> None:
        for at in range(0, len(numbers), _AT_ONCE):
            listed = ", ".join(map(str, numbers[at : at + _AT_ONCE]))
            self.scratch.do(
                f"DELETE FROM {self._table} WHERE {self.scratch.quote(ORDINAL)} IN ({listed})"
            )

    def _error(self, rule: Rule) -> UnfitValue:
        error = UnfitValue(rule.said)  # it stands in the list of bad rows, of which a line is short
        return error.at(rule.columns[0]) if len(rule.columns) == 1 else error


def columns_of(rules: Sequence[Rule]) -> list[str]:
    """Return the columns that must be known to ask for these rules."""
    return sorted({name for rule in rules if rule.broken for name in rule.columns})
