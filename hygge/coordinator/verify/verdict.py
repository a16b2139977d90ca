"""What a comparison of source and store means, in the mode of the flow.

- `replace`: the store has the rows of the source, and no others.
- `append` and `merge` with a cursor: the store has the rows up to the watermark; newer ones are
  counted. Rows that only the store has were deleted at the source, or were there before.
- `append` without a cursor adds all rows in each run, so only its first run can be compared.

A source that has moved on since the run is said, and is not called wrong: files that are not those
of the run, another number of rows than the run read, or rows that change while they are read.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

import numpy as np
import pyarrow as pa

from hygge.coordinator.verify.compare import Difference, compare
from hygge.coordinator.verify.hashes import MOST_ROWS, Hashes, Side, column_hashes, combined
from hygge.coordinator.verify.in_database import are_in_one_file, rows_if_same
from hygge.coordinator.verify.sides import (
    Columns,
    NotComparable,
    Reader,
    match_columns,
    open_source,
    open_store,
    renamed,
    summarize,
    up_to,
)
from hygge.errors import as_hygge_error, rows_text
from hygge.journal import FlowJournal
from hygge.model import Head, Receipt, Run, Watermark
from hygge.places.place import place_at
from hygge.refused_rows import rows_refused
from hygge.run.flow import Flow
from hygge.run.key import find_key
from hygge.type_words import value_text

Status = Literal["same", "different", "moved", "not compared", "failed"]
_NAMED = 5
_SHOWN_COLUMNS = 4


@dataclass
class Verdict:
    """The result of comparing the two ends of one flow."""

    flow: str
    status: Status
    rows_source: int = 0
    """Rows that the source would give, up to the watermark."""
    rows_store: int = 0
    columns: list[str] = field(default_factory=list)
    """The columns that were compared."""
    columns_differ: list[str] = field(default_factory=list)
    lost: int = 0
    """Keys of the source that the store lacks."""
    doubled: int = 0
    """Keys that the store has more often than the source."""
    changed: int = 0
    """Keys whose values differ."""
    only_in_store: int = 0
    """Keys that only the store has."""
    first: list[str] = field(default_factory=list)
    """The first keys that differ, in words."""
    notes: list[str] = field(default_factory=list)
    hint: str | None = None

    def facts(self) -> dict[str, Any]:
        """Return it as JSON."""
        return asdict(self)


def verify_flow(flow: Flow, sample: int | None = None) -> Verdict:
    """Compare what the source would give with what the store holds; reads, and writes nothing.

    `sample`: compare only so many rows of the source.
    """
    try:
        return _Comparison(flow, sample).verdict()
    except NotComparable as error:
        return Verdict(flow.name, "not compared", notes=[error.message], hint=error.hint)
    except Exception as error:
        reason = as_hygge_error(error)
        return Verdict(flow.name, "failed", notes=[reason.message], hint=reason.hint)


class _Comparison:
    """The comparison of one flow."""

    source: Reader
    store: Reader
    columns: Columns

    def __init__(self, flow: Flow, sample: int | None) -> None:
        self.flow, self.sample = flow, sample

    def verdict(self) -> Verdict:
        flow = self.flow
        if flow.home.traits.changes:
            raise NotComparable(
                "the home gives changes (`_op`), and not the rows that the store should have",
                "compare the store with the source of the changes, by a flow that reads that",
            )
        head = flow.store.head(flow.identity)
        if head is None:
            raise NotComparable("the store holds no run of this flow", "run it first")
        if flow.mode == "append" and flow.cursor is None and head.generation > 1:
            raise NotComparable(
                f"each of its {head.generation} runs added all rows again (`append` without a "
                "cursor)"
            )
        find_key(flow)
        self.source, plan = open_source(flow, head)
        self.splits = len(plan.splits)
        self.store, there = open_store(flow, self.source.schema)
        self.columns = match_columns(flow, plan, there, head)
        run = flow.new_run("verify")
        key = run.key or plan.key
        self.key = tuple(name for name in key if name in self.columns.forms)
        adds_versions = flow.mode == "append" and flow.cursor is not None
        if len(self.key) < len(key) or adds_versions:
            self.key = ()  # it tells no rows of the store apart
        self.has_unique_key = bool(self.key) and (flow.mode == "merge" or self.key == plan.key)
        self.keeps = None
        self._refuse_newer_text(run, head, plan.watermark)
        if run.cursor is not None and head.watermark is not None and not self._is_text(run.cursor):
            self.keeps = up_to(head.watermark, run.cursor)
        if self.sample is None and (rows := rows_if_same(flow, self.store.home, head)) is not None:
            both = Side(rows)
            verdict = self._begun(both, both)
            verdict.notes.append("compared by the database, one hash over all rows")
            return verdict
        verdict = self._of_all(head) if self.sample is None else self._of_sample(self.sample)
        self._refuse_newer_text(run, head, self.source.reached)
        if self.columns.unknown and verdict.status == "same":
            verdict.status = "not compared"
        return verdict

    def _is_text(self, cursor: str) -> bool:
        types, kind = pa.types, self.source.schema.field(cursor).type
        is_text = types.is_string(kind) or types.is_large_string(kind)
        return bool(is_text or types.is_string_view(kind) or types.is_dictionary(kind))

    def _refuse_newer_text(self, run: Run, head: Head, reached: Watermark) -> None:
        """Raise NotComparable where rows may be newer than a watermark that is a text.

        Only the database knows which are, by its collation. Where none is, all are compared.
        """
        if run.cursor is not None and reached != head.watermark and self._is_text(run.cursor):
            raise NotComparable(
                "its source has moved on since the run, and only the database knows which texts "
                f"of '{run.cursor}' are newer",
                "run the flow again, then verify it at once",
            )

    def _of_all(self, head: Head) -> Verdict:
        source = summarize(self.source, self.columns, self.key, self.keeps)
        newer = self.source.newer
        store = summarize(self.store, self.columns, self.key, names=self.columns.there)
        verdict = self._begun(source, store)
        if newer:
            are = "is" if newer == 1 else "are"
            verdict.notes.append(f"{rows_text(newer)} of the source {are} beyond the watermark")
        if source.sums() == store.sums():
            return verdict
        verdict.columns_differ = [
            name
            for name in self.columns.forms
            if source.columns.get(name) != store.columns.get(name)
        ]
        self._judge(verdict, source, store, head)
        return verdict

    def _begun(self, source: Side, store: Side) -> Verdict:
        return Verdict(
            self.flow.name,
            "same",
            source.rows,
            store.rows,
            columns=list(self.columns.forms),
            notes=[*self.columns.unknown, *self.columns.left_out],
        )

    def _judge(self, verdict: Verdict, source: Side, store: Side, head: Head) -> None:
        """Say what differs, and whether that is wrong."""
        verdict.status = "different"
        if not (source.has_rows and store.has_rows):
            verdict.notes.append(f"more than {MOST_ROWS:,} rows: single keys are not looked for")
            if not verdict.columns_differ and source.rows == store.rows:
                verdict.notes.append("each column has the values of the source, in other rows")
            again = summarize(self.source, self.columns, self.key, self.keeps)
        else:
            found = compare(source, store, self.flow.mode == "merge" and bool(self.key))
            keeps_others = self.flow.mode != "replace"
            again = self._name_first(verdict, found, keeps_others)
            verdict.lost, verdict.doubled = len(found.lost), len(found.doubled)
            verdict.changed, verdict.only_in_store = len(found.changed), len(found.extra)
            wrong = verdict.lost + verdict.doubled + verdict.changed
            if keeps_others and not wrong:
                verdict.status = "same"
                verdict.columns_differ = []
                are = "is" if verdict.only_in_store == 1 else "are"
                verdict.notes.append(
                    f"{rows_text(verdict.only_in_store)} {are} only in the store: mode "
                    f"{self.flow.mode} keeps what was deleted at the source, or was there before"
                )
                return
        if why := self._moved(source, again, store, head):
            verdict.status = "moved"
            verdict.notes.append(why)
            verdict.hint = "run the flow again, then verify it at once"
            return
        if self._were_set_aside(verdict, head):
            verdict.status, verdict.columns_differ = "same", []
            return
        verdict.hint = (
            "if the source has changed since the run, run the flow again and verify it at once; "
            "else the store is wrong: `hygge show` tells of the run, and --fresh moves all again"
        )

    def _moved(self, source: Side, again: Side, store: Side, head: Head) -> str:
        """Return why the source is taken for one that has moved on since the run, or ""."""
        if source.sums() != again.sums():
            return "the source changed while it was read"
        decision = FlowJournal(place_at(self.flow.state), self.flow.identity).decision(
            Run(head.run, self.flow.identity)
        )
        if decision is None or self.flow.cursor is not None:
            return ""
        then = dict(zip([r.ticket.split for r in decision.receipts], decision.digests, strict=True))
        now = self.source.digests
        is_told = all(then.values()) and all(now.values()) and not are_in_one_file(self.flow)
        if is_told and then != now:
            return "the source is not in the state that the last run read"
        rows = sum(map(_rows_of, decision.receipts))
        planned = source.rows + self.source.set_aside
        is_whole = self.flow.mode != "replace" or store.rows == head.rows
        if is_whole and planned != rows:
            return f"the source has {rows_text(planned)} now, and the last run read {rows:,} of it"
        return ""

    def _were_set_aside(self, verdict: Verdict, head: Head) -> bool:
        """Return whether what is lost is as much as the run has set aside, as it was asked to."""
        decision = FlowJournal(place_at(self.flow.state), self.flow.identity).decision(
            Run(head.run, self.flow.identity)
        )
        aside = 0 if decision is None else sum(each.set_aside for each in decision.receipts)
        aside += rows_refused(head.aside)
        aside -= self.source.set_aside  # those are in neither side
        others = verdict.doubled + verdict.changed + verdict.only_in_store
        if aside <= 0 or others or verdict.rows_source - verdict.rows_store != aside:
            return False
        lack = f"{rows_text(aside)} that the store lacks {'was' if aside == 1 else 'were'}"
        verdict.notes.append(f"{lack} set aside: `hygge bad`")
        return True

    def _name_first(self, verdict: Verdict, found: Difference, keeps_others: bool) -> Side:
        """Name the first keys that differ; return the second reading of the source."""
        wanted = [found.lost, found.doubled, found.changed]
        wanted += [] if keeps_others else [found.extra]
        words = ("lost", "doubled", "changed", "only in the store")
        chosen = {int(key): word for word, keys in zip(words, wanted, strict=False)
                  for key in keys[:_NAMED]}  # fmt: skip
        again, here = self._rows(self.source, chosen, self.keeps, None)
        _, there = self._rows(self.store, chosen, None, self.columns.there)
        for key, word in chosen.items():
            rows = here.get(key, []) or there.get(key, [])
            if not rows:
                continue  # the side has moved since
            text = f"{word}: {self._key_text(rows[0])}"
            if word == "changed" and here.get(key) and there.get(key):
                text += f" in {', '.join(self._columns_that_differ(here[key][0], there[key][0]))}"
            elif word == "doubled":
                text += f" is there {len(there.get(key, []))} times"
            verdict.first.append(text)
        return again

    def _rows(
        self, reader: Reader, chosen: dict[int, str], keeps: Any, names: Any
    ) -> tuple[Side, dict[int, list[pa.Table]]]:
        """Return a reading of a side, and the rows of the chosen keys."""
        side, rows = Side(), dict[int, list[pa.Table]]()
        wanted = np.array(list(chosen), np.uint64)
        for whole in reader.tables(keeps):
            table = renamed(whole, self.columns, names)
            side.add(table, self.columns.forms, self.key)
            keys = self._keys(table)
            for at in np.flatnonzero(np.isin(keys, wanted)):
                rows.setdefault(int(keys[at]), []).append(table.slice(int(at), 1))
            side.keys, side.whole = [], []
        return side, rows

    def _keys(self, table: pa.Table) -> Hashes:
        names = self.key or tuple(sorted(self.columns.forms))
        parts = [column_hashes(table.column(name), self.columns.forms[name]) for name in names]
        return combined(parts, table.num_rows)

    def _key_text(self, row: pa.Table) -> str:
        names: Sequence[str] = self.key or list(self.columns.forms)[:_SHOWN_COLUMNS]
        return ", ".join(f"{name} {value_text(row.column(name)[0])}" for name in names)

    def _columns_that_differ(self, here: pa.Table, there: pa.Table) -> list[str]:
        return [
            name
            for name, form in self.columns.forms.items()
            if column_hashes(here.column(name), form)[0]
            != column_hashes(there.column(name), form)[0]
        ]

    def _of_sample(self, rows: int) -> Verdict:
        """Compare some rows of the source, from all over it, with those of the same key."""
        if not self.has_unique_key:
            self.key = ()  # some of the rows of a key may be outside of the sample
        source, keys = Side(), set[int]()
        share = -(-rows // self.splits)
        for table in self.source.tables(self.keeps, share):
            if source.rows >= rows:
                break
            part = renamed(table, self.columns, None).slice(0, rows - source.rows)
            source.add(part, self.columns.forms, self.key)
            keys.update(map(int, self._keys(part)))
        wanted = np.array(sorted(keys), np.uint64)
        store = Side()
        for table in self.store.tables():
            there = renamed(table, self.columns, self.columns.there)
            own = there.filter(pa.array(np.isin(self._keys(there), wanted)))
            store.add(own, self.columns.forms, self.key)
        verdict = self._begun(source, store)
        verdict.notes.append(f"a sample of {rows_text(source.rows)}")
        found = compare(source, store)
        if not self.key:
            found = replace(found, doubled=found.doubled[:0])
        verdict.lost, verdict.doubled = len(found.lost), len(found.doubled)
        verdict.changed = len(found.changed)
        if verdict.lost + verdict.doubled + verdict.changed:
            verdict.status = "different"
            self._name_first(verdict, found, keeps_others=True)
        return verdict


def _rows_of(receipt: Receipt) -> int:
    return receipt.rows + receipt.set_aside
