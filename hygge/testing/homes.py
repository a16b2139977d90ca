"""`HomeContract`: the tests that every Home must pass. Subclass it and define `make`.

    class TestMyHome(HomeContract):
        def make(self, table, tmp_path):
            write(table, tmp_path / "source")
            return MyHome(path=str(tmp_path / "source"), options={"batch_size": self.batch_rows})

The hooks are optional. The Home declares in `traits.lossy` which types it cannot give exactly.
"""

from __future__ import annotations

import asyncio
import gc
import json
import pickle
import warnings
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import ClassVar

import pyarrow as pa
import pyarrow.compute as pc
import pytest

from hygge.batches import reached_of
from hygge.dataframes import as_table
from hygge.errors import SourceChanged
from hygge.home import Home
from hygge.model import Plan, Split
from hygge.testing.probes import (
    SECRET,
    ArrowMemory,
    all_text_of,
    in_worker,
    is_file,
    open_files,
    xfail_if_declared,
)
from hygge.testing.together import Move, kept_together
from hygge.testing.values import difference, every_type, is_lossy, table_of


class HomeContract:
    """The tests of a Home; a subclass defines `make`, and hooks where they apply."""

    batch_rows: ClassVar[int] = 500
    """Rows that a Home made by `make` should read at once at most, where it has such an option."""
    big_rows: ClassVar[int] = 64_000
    """The number of rows of half a kilobyte in the tests of memory."""

    def make(self, table: pa.Table, tmp_path: Path) -> Home:
        """Return a Home over exactly these rows, written below `tmp_path` or anywhere."""
        raise NotImplementedError("define `make(self, table, tmp_path)`: a Home over these rows")

    def make_by_key(self, table: pa.Table, tmp_path: Path) -> Home:
        """Hook: return a Home over these rows, split by the column `k`, which contains NULLs."""
        return self.make(table, tmp_path)

    def make_with_cursor(self, table: pa.Table, tmp_path: Path) -> Home:
        """Hook, for `traits.cursor`: return a Home over these rows with the cursor `n`."""
        raise NotImplementedError("traits.cursor is set: define `make_with_cursor`")

    def make_with_secret(self, secret: str, tmp_path: Path) -> Home:
        """Hook: return a Home whose settings hold the secret and whose source is unreachable."""
        pytest.skip("no hook make_with_secret: this Home is given no secret")

    def change(self, home: Home) -> None:
        """Hook: change the rows of the source, without the Home."""
        pytest.skip("no hook `change`: this Home's source does not change")

    # Splits

    def test_there_is_at_least_one_split(self, tmp_path: Path) -> None:
        for rows in (0, 10):
            with self.make(_table(rows), _folder(tmp_path, str(rows))).open(None) as plan:
                assert plan.splits, f"the plan of a Home of {rows} rows has no split"

    def test_splits_cover_every_row_once(self, tmp_path: Path) -> None:
        table = _table(2_500)
        problem = difference(_read_all(self.make(table, tmp_path)), table)
        assert problem is None, problem

    def test_every_split_has_its_own_index(self, tmp_path: Path) -> None:
        with self.make_by_key(_table(2_500), tmp_path).open(None) as plan:
            indexes = [split.index for split in plan.splits]
        assert indexes == list(range(len(indexes))), f"splits are numbered {indexes}"

    def test_a_split_reads_the_same_twice(self, tmp_path: Path) -> None:
        home = self.make(_table(2_500), tmp_path)
        with home.open(None) as plan:
            for split in plan.splits:
                first = _joined(plan, home.read(split))
                problem = difference(_joined(plan, home.read(split)), first)
                assert problem is None, f"split {split.index} read again: {problem}"

    def test_splits_can_be_read_in_any_order(self, tmp_path: Path) -> None:
        table = _table(2_500)
        home = self.make_by_key(table, tmp_path)
        with home.open(None) as plan:
            backwards = [batch for split in plan.splits[::-1] for batch in home.read(split)]
            problem = difference(_joined(plan, backwards), table)
        assert problem is None, problem

    def test_a_null_key_loses_no_row(self, tmp_path: Path) -> None:
        table = _table(2_500)
        problem = difference(_read_all(self.make_by_key(table, tmp_path)), table)
        assert problem is None, problem

    # Schema and values

    def test_batches_have_the_schema_of_the_plan(self, tmp_path: Path) -> None:
        home = self.make(_table(1_500), tmp_path)
        with home.open(None) as plan:
            assert plan.columns is not None or len(plan.splits) == 1, (
                "only a Home of one split may leave its schema open"
            )
            planned = _columns(plan)
            for split in plan.splits:
                for batch in home.read(split):
                    columns = list(zip(batch.column_names, batch.schema.types, strict=True))
                    planned = planned or columns
                    assert columns == planned, f"a batch has {columns}, the plan says {planned}"

    def test_an_empty_home_gives_no_rows_and_its_schema(self, tmp_path: Path) -> None:
        table = _table(0)
        home = self.make(table, tmp_path)
        with home.open(None) as plan:
            tables = [batch for split in plan.splits for batch in home.read(split)]
            assert sum(table.num_rows for table in tables) == 0
            if plan.columns is not None:
                problem = difference(_joined(plan, tables), table)
                assert problem is None, f"the plan of an empty Home: {problem}"

    @pytest.mark.parametrize("name", list(every_type()))
    def test_every_type_returns_exactly(self, name: str, tmp_path: Path) -> None:
        if name in kept_together(type(self), lambda: self._moving(tmp_path)):
            return
        home, problem, table = None, None, table_of(every_type()[name])
        failure: Exception | None = None
        try:
            home = self.make(table, _folder(tmp_path, "values"))
            problem = difference(_read_all(home), table)
        except Exception as error:
            failure, problem = error, f"{type(error).__name__}: {error}"
        declared = (home or self.make(_table(1), _folder(tmp_path, "declared"))).traits.lossy
        lossy = is_lossy(name, table.schema.field("v").type, declared)
        if failure is not None and not lossy:
            raise failure
        xfail_if_declared(lossy, name, problem)

    def test_both_forms_give_the_same_rows(self, tmp_path: Path) -> None:
        table = _table(1_500)
        home = self.make(table, tmp_path)

        async def by_hand() -> list[pa.Table]:
            return [batch async for batch in home.read_batches()]

        with home.open(None) as plan:
            rows = _joined(plan, [as_table(batch) for batch in asyncio.run(by_hand())])
        problem = difference(rows, table)
        assert problem is None, f"by hand: {problem}"

    # Memory and open things

    def test_the_first_batch_comes_before_all_is_read(self, tmp_path: Path) -> None:
        home, size = self._big(tmp_path)
        with ArrowMemory() as memory, home.open(None) as plan:
            reading = iter(home.read(plan.splits[0]))
            batch = next(reading)
            held, rows = memory.now(), batch.num_rows
            _close(reading)
        assert rows < self.big_rows // 2, f"the first batch has {rows} of {self.big_rows} rows"
        assert held < size // 2, f"{held:,} of {size:,} bytes are held for the first batch"

    def test_memory_is_bounded_whatever_the_size(self, tmp_path: Path) -> None:
        home, size = self._big(tmp_path)
        rows = 0
        with ArrowMemory() as memory, home.open(None) as plan:
            for split in plan.splits:
                for batch in home.read(split):
                    rows += batch.num_rows
                    memory.now()
                    del batch
        assert rows == self.big_rows
        assert memory.peak < size // 2, f"{memory.peak:,} of {size:,} bytes were held at once"

    def test_reading_closed_early_leaves_nothing_open(self, tmp_path: Path) -> None:
        home = self.make(_table(2_500), tmp_path)
        _read_one_batch(home)  # opens the pools and threads that stay open
        gc.collect()
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", ResourceWarning)
            for _ in range(4):  # a pool may grow once; what is left open grows each time
                before = open_files()
                _read_one_batch(home)
                _read_one_batch(home)
                gc.collect()
                after = open_files()
                # Somebody else's socket may close meanwhile; a file has a name, and is looked at.
                left = Counter(filter(is_file, after)) - Counter(filter(is_file, before))
                if len(after) <= len(before) and not left:
                    break
        new = sorted(left) or sorted(set(after) - set(before)) or after
        assert len(after) <= len(before), f"left open: {new}"
        assert not left, f"left open: {new}"
        lost = [str(each.message) for each in caught if issubclass(each.category, ResourceWarning)]
        assert not lost, f"never closed: {lost}"

    # Other processes, other times

    def test_a_plan_is_small_and_travels(self, tmp_path: Path) -> None:
        with self.make(_table(2_500), tmp_path).open(None) as plan:
            for split in plan.splits:
                try:
                    again = json.loads(json.dumps(split.where))
                except (TypeError, ValueError) as error:
                    raise AssertionError(f"split.where is not JSON: {error}") from error
                assert again == split.where, "split.where is not the same after JSON"
            assert pickle.loads(pickle.dumps(plan)) == plan

    def test_it_travels_to_a_worker(self, tmp_path: Path) -> None:
        table = _table(1_500)
        home = self.make(table, tmp_path)
        with home.open(None) as plan:
            tables = in_worker(_read_splits, home, plan.splits)
            problem = difference(_joined(plan, tables), table)
        assert problem is None, f"read by a worker: {problem}"

    def test_a_changed_source_is_noticed(self, tmp_path: Path) -> None:
        table = _table(1_500)
        home = self.make(table, tmp_path)
        with home.open(None) as plan:
            _skip_unless_versioned(plan)
            self.change(home)
            _planned_rows_or_source_changed(home, plan, table)

    def test_a_change_while_reading_is_noticed(self, tmp_path: Path) -> None:
        table = _table(2_500)
        home = self.make(table, tmp_path)
        with home.open(None) as plan:
            _skip_unless_versioned(plan)
            reading = iter(home.read(plan.splits[0]))
            first = next(reading)
            self.change(home)
            _planned_rows_or_source_changed(home, plan, table, [first], reading)
            _close(reading)

    def test_a_watermark_divides_the_rows(self, tmp_path: Path) -> None:
        table = _table(1_000)
        if not self.make(table.slice(0, 1), _folder(tmp_path, "declared")).traits.cursor:
            pytest.skip("traits.cursor: this Home keeps no watermark")
        home = self.make_with_cursor(table.slice(0, 600), _folder(tmp_path, "some"))
        with home.open(None) as plan:
            watermark = plan.watermark
        assert watermark is not None, "the plan of a Home with a cursor has no watermark"
        with home.open(watermark) as plan:
            again = _joined(plan, [b for split in plan.splits for b in home.read(split)])
        assert again.num_rows == 0, f"{again.num_rows} rows came again after their watermark"
        grown = self.make_with_cursor(table, _folder(tmp_path, "grown"))
        with grown.open(watermark) as plan:
            fresh = _joined(plan, [b for split in plan.splits for b in grown.read(split)])
        problem = difference(fresh, table.slice(600))
        assert problem is None, f"after the watermark: {problem}"

    def test_rows_that_tie_with_the_watermark_are_not_lost(self, tmp_path: Path) -> None:
        """A row gets the watermark's own value later: a merge reads it, an append adds it once."""
        table = _table(600)
        if not self.make(table.slice(0, 1), _folder(tmp_path, "declared")).traits.cursor:
            pytest.skip("traits.cursor: this Home keeps no watermark")
        late = table.slice(599).set_column(2, "text", pa.array(["late"]))
        first = self.make_with_cursor(table, _folder(tmp_path, "first"))
        second = self.make_with_cursor(pa.concat_tables([table, late]), _folder(tmp_path, "second"))
        for mode in ("merge", "append"):
            first.flow_mode = second.flow_mode = mode
            with first.open(None) as plan:
                watermark = plan.watermark
                tables = [batch for split in plan.splits for batch in first.read(split)]
            ties = [facts.get("ties") for table in tables if (facts := reached_of(table))]
            second.ties = ties[0] if ties else None
            if mode == "append" and second.ties is None:
                return  # it does not remember which rows came
            with second.open(watermark) as plan:
                again = _joined(plan, [b for split in plan.splits for b in second.read(split)])
            texts = again.column("text").to_pylist()
            assert "late" in texts, f"{mode}: a row at the watermark that came later is not read"
            if mode == "append":
                assert texts == ["late"], f"{mode}: rows at the watermark came again: {texts}"

    def test_secrets_are_never_printed(
        self, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        home = self.make_with_secret(SECRET, tmp_path)
        failure: Exception | None = None
        text = ""
        try:
            with home.open(None) as plan:
                text = repr(plan)
                for split in plan.splits:
                    for _ in home.read(split):
                        pass
        except Exception as error:
            failure = error
        text += all_text_of(home, failure) + caplog.text
        at = text.find(SECRET)
        assert at < 0, f"the secret is printed: …{text[max(0, at - 200) : at].strip()}***"

    def _moving(self, tmp_path: Path) -> tuple[Iterable[str], Move]:
        declared = self.make(_table(1), _folder(tmp_path, "one row")).traits.lossy
        return declared, lambda table: _read_all(self.make(table, _folder(tmp_path, "all")))

    def _big(self, tmp_path: Path) -> tuple[Home, int]:
        # The numbers look random, so that compression does not make the table small.
        n = pa.array(range(self.big_rows), pa.int64())
        spread = pc.bit_wise_and(pc.multiply(n, 2_654_435_761), 0x3FFFFFFFFFFF)
        text = pc.binary_repeat(pc.cast(spread, pa.string()), 40)
        table = pa.table({"n": n, "text": text})
        return self.make(table, tmp_path), table.nbytes


def _table(rows: int) -> pa.Table:
    n = list(range(rows))
    key = [None if at % 7 == 3 else at % 50 for at in n]
    text = [_text(at) for at in n]
    schema = pa.schema(
        [pa.field("n", pa.int64()), pa.field("k", pa.int64()), pa.field("text", pa.string())]
    )
    return pa.table({"n": n, "k": key, "text": text}, schema=schema)


def _text(at: int) -> str | None:
    if at % 5 == 1:
        return None
    return "" if at % 5 == 2 else f"row {at}"


def _folder(tmp_path: Path, name: str) -> Path:
    (tmp_path / name).mkdir(parents=True)
    return tmp_path / name


def _columns(plan: Plan) -> list[tuple[str, pa.DataType]]:
    return [(column.name, column.type) for column in plan.columns or ()]


def _joined(plan: Plan, batches: Iterable[pa.Table]) -> pa.Table:
    tables = list(batches)
    schema = pa.schema([pa.field(name, kind) for name, kind in _columns(plan)])
    if tables and plan.columns is None:
        schema = tables[0].schema
    for table in tables:
        assert table.column_names == schema.names, f"{table.column_names}, not {schema.names}"
    return pa.concat_tables([schema.empty_table(), *tables], promote_options="permissive")


def _read_all(home: Home) -> pa.Table:
    with home.open(None) as plan:
        return _joined(plan, (batch for split in plan.splits for batch in home.read(split)))


def _read_splits(home: Home, splits: tuple[Split, ...]) -> list[pa.Table]:
    return [pa.table(batch) for split in splits for batch in home.read(split)]


def _read_one_batch(home: Home) -> None:
    with home.open(None) as plan:
        reading = iter(home.read(plan.splits[0]))
        next(reading, None)
        _close(reading)


def _skip_unless_versioned(plan: Plan) -> None:
    if len(plan.splits) == 1 and not plan.splits[0].version:
        pytest.skip("one split without a version: it gives what is there when it is read")


def _planned_rows_or_source_changed(
    home: Home,
    plan: Plan,
    table: pa.Table,
    seen: Iterable[pa.Table] = (),
    reading: Iterable[pa.Table] = (),
) -> None:
    tables = list(seen)
    begun = bool(tables)
    try:
        tables += reading
        for split in plan.splits[1 if begun else 0 :]:
            tables += home.read(split)
    except SourceChanged:
        return
    problem = difference(_joined(plan, tables), table)
    assert problem is None, f"the source changed without SourceChanged: {problem}"


def _close(reading: Iterable[pa.Table]) -> None:
    close = getattr(reading, "close", None)
    if close is not None:
        close()
