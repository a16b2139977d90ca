"""SQLStore on PostgreSQL, loading: values that do not fit, tries that die, tries that live on."""

from __future__ import annotations

import os
import signal
import threading
from concurrent.futures.process import BrokenProcessPool
from datetime import date, datetime
from decimal import Context, Decimal

import pyarrow as pa
import pytest

from hygge.connectors.databases.store import SQLStore
from hygge.connectors.postgres import ledger
from hygge.connectors.postgres import store as pg_store
from hygge.connectors.postgres.copy_in import CopyIn
from hygge.connectors.postgres.target import rows_table
from hygge.errors import HyggeError, StoreError, Transient, UnfitValue
from hygge.model import Run, Ticket
from hygge.testing.probes import in_worker
from tests.servers.postgres import MORE, ROWS, rows_of, seen, staged, store_at
from tests.waiting import LIMIT_S, join, until

pytest_plugins = ["tests.servers.postgres"]


def moved(store, run, rows):
    """Move one split, planned with its own columns; return the commit."""
    base = store.head(run.flow)
    store.prepare(run, rows.schema)
    receipt = store.stage(Ticket(run.id, 0), rows.schema, iter([rows]))
    commit = store.commit(run, base, [receipt], None)
    store.discard(run)
    return commit


BROKEN = pa.Array.from_buffers(
    pa.string(), 2, [None, pa.array([0, 2, 3], pa.int32()).buffers()[1], pa.py_buffer(b"ok\xff")]
)
"""'ok' and a byte that is no UTF-8."""


def beyond(count, precision, scale):
    """A decimal of more digits than its type says, as Arrow lets it pass."""
    plain = pa.array([Decimal(count), Decimal(1)], pa.decimal128(38, 0))
    return pa.Array.from_buffers(pa.decimal128(precision, scale), 2, plain.buffers())


def moment(count, unit):
    return pa.array([count, 0], pa.int64()).cast(pa.timestamp(unit))


UNFIT = {
    "NUL": (pa.array(["a\0b", "c"]), "the character NUL.*first such value is 'a\\\\x00b'"),
    "broken": (BROKEN.take(pa.array([1, 0])), "not UTF-8"),
    "decimal": (beyond(12345, 4, 2), "holds 123.45, which is beyond the precision"),
    "late": (moment(2**60, "s"), "outside of the years"),
    "early": (moment(-(2**63) + 946684800000000, "us"), "outside of the years"),
    "early day": (pa.array([-3_000_000, 0], pa.int32()).cast(pa.date32()), "outside of the years"),
    "sentinel": (
        pa.array([-(2**31) + 10957, 0], pa.int32()).cast(pa.date32()), "outside of the years",
    ),
}  # fmt: skip


@pytest.mark.parametrize("what", UNFIT)
def test_a_value_that_does_not_fit_is_an_error_that_names_it_or_null(pg, schema, what):
    values, words = UNFIT[what]
    rows = pa.table({"id": [1, 2], "v": values})
    store = store_at(pg.url, schema)
    store.prepare(Run("r1", "f"), rows.schema)
    with pytest.raises(UnfitValue, match=f"column 'v'.*{words}") as caught:
        store.stage(Ticket("r1", 0), rows.schema, iter([rows]))
    assert "on_value: {v: set_null}" in caught.value.hint
    for option in ("set_null", {"v": "set_null"}):
        store = store_at(pg.url, schema, options={"on_value": option})
        moved(store, Run(f"r-{option}", "f"), rows)
        assert pg.ask(f"SELECT id, v IS NULL FROM {schema}.t ORDER BY id") == [
            (1, True),
            (2, False),
        ]
    with pytest.raises(UnfitValue):
        moved(store_at(pg.url, schema, options={"on_value": {"id": "set_null"}}), Run("r3", "f"),
              rows)  # fmt: skip


def test_columns_that_are_asked_for_as_text_are_text(pg, schema):
    rows = pa.table(
        {
            "id": [1, 2],
            "at": pa.array([1, None], pa.timestamp("ns")),
            "big": pa.array([2**64 - 1, 0], pa.uint64()),
            "price": beyond(12345, 4, 2),
            "plain": ["x", None],
        }
    )
    with pytest.raises(UnfitValue, match="column 'at'"):
        store_at(pg.url, schema).prepare(Run("r0", "f"), rows.schema)
    wishes = {"at": "as_text", "big": "as_text", "price": "as_text"}
    store = store_at(pg.url, schema, options={"on_value": wishes})
    for name in ("r1", "r2"):
        moved(store, Run(name, "f", "append"), rows)
    found = pg.ask(f"SELECT DISTINCT * FROM {schema}.t ORDER BY id")
    assert found == [
        (1, "1970-01-01 00:00:00.000000001", "18446744073709551615", "123.45", "x"),
        (2, None, "0", "0.01", None),
    ]
    nested = pa.table({"id": [1], "v": [[1]]})
    with pytest.raises(UnfitValue, match="column 'v'.*does not become text"):
        moved(store_at(pg.url, schema, options={"on_value": "as_text"}), Run("r3", "g"), nested)


@pytest.mark.parametrize("option", ["error", "set_null"])
def test_decimals_of_every_length_are_exact(pg, schema, option):
    arrays, exact = {}, Context(prec=100)
    for precision, scale in ((1, 0), (4, 4), (15, 2), (38, 10), (39, 0), (76, 38), (76, 75)):
        kind = (pa.decimal128 if precision <= 38 else pa.decimal256)(precision, scale)
        most = Decimal("9" * precision).scaleb(-scale, exact)
        one = Decimal(1).scaleb(-scale, exact)
        half = Decimal("5" * (precision // 2 or 1)).scaleb(-scale, exact)
        arrays[f"d{precision}_{scale}"] = pa.array(
            [most, most.copy_negate(), one, -one, half, 0, None], kind
        )
    rows = pa.table(arrays)
    moved(store_at(pg.url, schema, options={"on_value": option}), Run("r1", "f"), rows)
    for name, column in arrays.items():
        found = pg.ask(f'SELECT "{name}"::text FROM {schema}.t')
        scale = int(name.split("_")[1])
        sent = [None if v is None else f"{v:.{scale}f}" for v in column.to_pylist()]
        assert sorted(map(str, sent)) == sorted(str(text) for (text,) in found), name


def test_years_at_both_ends_arrive(pg, schema):
    rows = pa.table(
        {
            "d": pa.array([-2_440_588, 2_145_042_905], pa.int32()).cast(pa.date32()),
            "t": pa.array([-210_866_803_200_000_000, 2**63 - 1], pa.int64()).cast(
                pa.timestamp("us")
            ),
        }
    )
    moved(store_at(pg.url, schema), Run("r1", "f"), rows)
    assert pg.ask(f"SELECT d::text, t::text FROM {schema}.t x ORDER BY x.d") == [
        ("4714-11-24 BC", "4714-11-24 00:00:00 BC"),
        ("5874897-12-31", "294247-01-10 04:00:54.775807"),
    ]


def test_appending_fits_the_types_that_are_there_or_says_so_before(pg, schema):
    pg.ask(
        f"CREATE TABLE {schema}.t (id numeric, u uuid, j jsonb, b bit(3), c varchar(3), "
        "at timestamp(0))"
    )
    store = store_at(pg.url, schema)
    uuid = "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"
    rows = pa.table(
        {"id": pa.array([Decimal("1.50")], pa.decimal128(9, 2)), "u": [uuid], "j": ['{"a": 1}'],
         "b": ["101"], "c": ["abc"], "at": pa.array([0], pa.timestamp("s"))}
    )  # fmt: skip
    for mode, key in (("append", ()), ("merge", ("u",))):
        moved(store, Run(f"r-{mode}", mode, mode, key), rows)
        assert pg.ask(f"SELECT id, u::text, j, b::text, c FROM {schema}.t") == [
            (Decimal("1.50"), uuid, {"a": 1}, "101", "abc")
        ]
    for name, value in (("u", "nonsense"), ("b", "10101"), ("c", "abcd")):
        wrong = rows.set_column(rows.schema.get_field_index(name), name, pa.array([value]))
        with pytest.raises(UnfitValue) as caught:
            moved(store, Run(f"r-{name}", "f", "append"), wrong)
        assert caught.value.hint
    fine = rows.set_column(5, "at", pa.array([1], pa.timestamp("us")))
    with pytest.raises(StoreError, match=r"'at' is TIMESTAMP.*cannot keep timestamp exactly"):
        store.prepare(Run("r9", "f", "append"), fine.schema)
    assert len(pg.ask(f"SELECT * FROM {schema}.t")) == 1


# Tries


def test_a_load_is_seen_by_its_name(pg, schema, store):
    store.flow = "shop: orders/daily"
    seen_names = []

    def batches():
        yield ROWS
        seen_names.extend(pg.ask("SELECT application_name FROM pg_stat_activity"))
        yield MORE

    store.prepare(Run("r1", "f"), ROWS.schema)
    store.stage(Ticket("r1", 7), ROWS.schema, batches())
    (name,) = [name for (name,) in seen_names if "orders" in name]
    assert name.startswith("hygge/shop: orders/daily/")
    assert name.endswith("/7")


def load_until_killed(store, marker, go_on):
    def batches():
        yield ROWS
        marker.write_text("x")
        go_on.wait(LIMIT_S)
        yield ROWS

    store.stage(Ticket("r1", 0), ROWS.schema, batches())


def test_a_try_ends_its_predecessor_that_hangs(pg, schema, store, tmp_path):
    run = Run("r1", "f")
    store.prepare(run, ROWS.schema)
    caught, marker, go_on = [], tmp_path / "loads", threading.Event()

    def zombie():
        try:
            load_until_killed(store, marker, go_on)
        except HyggeError as error:
            caught.append(error)

    thread = threading.Thread(target=zombie, daemon=True)
    thread.start()
    until(marker.exists, "the first does not load")
    receipt = store.stage(Ticket("r1", 0, n=1), MORE.schema, iter([MORE]))
    assert receipt.ticket.n == 1
    ours = "SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'hygge/%'"
    until(lambda: pg.ask(ours) == [(0,)], "the predecessor still has its session")
    assert store.commit(run, None, [receipt], None).applied == 2
    go_on.set()
    join(thread)
    assert len(caught) == 1


def test_two_tries_that_load_at_once_cannot_both_seal(pg, schema, store, monkeypatch):
    monkeypatch.setattr(pg_store.session, "end_predecessors", lambda *_: 0)  # it was not found
    run = Run("r1", "f")
    store.prepare(run, ROWS.schema)
    later = []

    def slow():
        yield ROWS
        later.append(store.stage(Ticket("r1", 0, n=1), MORE.schema, iter([MORE])))
        yield ROWS

    first = store.stage(Ticket("r1", 0), ROWS.schema, slow())
    assert first == later[0], "the slower one answers with what is sealed"
    assert pg.ask(f"SELECT count(*) FROM {schema}.{rows_table('r1')}") == [(2,)]
    assert store.commit(run, None, [first], None).applied == 2
    assert len(seen(pg, schema)) == 2


@pytest.mark.parametrize("mode", ["replace", "append", "merge"])
def test_a_zombie_of_an_older_driver_that_seals_late_is_left_out(
    pg, schema, store, mode, monkeypatch
):
    monkeypatch.setattr(ledger, "end_sessions", lambda *_: None)  # it was not found
    run = Run("r1", "f", mode, ("id",))
    kept, lost = staged(store, run, ROWS, pa.table({"id": [9], "v": ["zombie"]}))
    assert store.resume(run, [kept]) == [kept]
    again = store.stage(Ticket("r1", 1, epoch=1), MORE.schema, iter([MORE.slice(1)]))
    late = store.stage(Ticket("r1", 1, epoch=0, n=1), ROWS.schema,
                       iter([pa.table({"id": [8], "v": ["zombie"]})]))  # fmt: skip
    assert late.rows == lost.rows == 1
    with pg.connect() as reader:
        reader.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
        reader.execute("SELECT 1 FROM pg_class")  # sees the zombie's rows in the run table
        assert store.commit(run, None, [kept, again], None).applied == 4
        inside = reader.execute(
            f"SELECT count(*) FROM pg_class WHERE oid = to_regclass('{schema}.t')"
        )
        assert inside.fetchone()[0] in (0, 1)
        assert reader.execute(f"SELECT * FROM {schema}.t WHERE v = 'zombie'").fetchall() == []
    assert [n for n, _ in seen(pg, schema)] == [1, 2, 3, 4]


def test_a_zombie_that_seals_while_it_is_committed_makes_the_commit_try_again(
    pg, schema, store, monkeypatch
):
    run = Run("r1", "f")
    (first,) = staged(store, run, ROWS)
    monkeypatch.setattr(ledger, "end_sessions", lambda *_: None)
    real, zombies = ledger.tidy, []

    def and_then_a_zombie(*given):
        real(*given)
        if not zombies:
            zombies.append(store.stage(Ticket("r1", 5), MORE.schema, iter([MORE])))

    monkeypatch.setattr(ledger, "tidy", and_then_a_zombie)
    with pytest.raises(Transient, match="sealed its rows in this moment"):
        store.commit(run, None, [first], None)
    assert store.commit(run, None, [first], None).applied == 3
    assert len(seen(pg, schema)) == 3


def kill_in_copy(store):
    real = CopyIn.write

    def dies(copy, data):
        real(copy, data)
        os.kill(os.getpid(), signal.SIGKILL)

    CopyIn.write = dies
    store.stage(Ticket("r1", 1), ROWS.schema, iter([ROWS]))


def test_a_worker_that_is_killed_in_mid_copy_leaves_nothing(pg, schema, store):
    run = Run("r1", "f")
    (first,) = staged(store, run, ROWS)
    with pytest.raises(BrokenProcessPool):
        in_worker(kill_in_copy, store)
    again = store.stage(Ticket("r1", 1, n=1), MORE.schema, iter([MORE]))
    assert again.ticket.n == 1
    assert store.commit(run, None, [first, again], None).applied == 5
    assert len(seen(pg, schema)) == 5


def test_a_run_whose_transactions_are_too_long_ago_keeps_nothing(pg, schema, store):
    run = Run("r1", "f")
    receipts = staged(store, run, ROWS, MORE)
    ago = f"xid = xid - {ledger.MAX_XID_AGE + 1}"
    pg.ask(f"UPDATE {schema}._hygge_ledger SET {ago} WHERE name LIKE '%_1_0' AND sealed = 1")
    assert store.resume(run, receipts) == []
    assert pg.ask(f"SELECT count(*) FROM {schema}.{rows_table('r1')}") == [(0,)]
    again = staged(store, run, ROWS, epoch=1)
    assert store.commit(run, None, again, None).applied == 3


def test_last_by_cursor_wins_and_ties_go_to_the_later_row_of_the_later_split(pg, schema, store):
    run = Run("r1", "f", "merge", ("id",), "at")
    splits = [
        pa.table({"id": [1, 2, 3], "at": [5, 5, 9], "v": ["old", "tie 0", "last"]}),
        pa.table({"id": [1, 2, 2, 3], "at": [6, 5, 5, 8], "v": ["new", "tie 1", "tie 2", "no"]}),
    ]
    store.prepare(run, splits[0].schema)
    receipts = [
        store.stage(Ticket("r1", at), rows.schema, iter([rows.slice(0, 1), rows.slice(1)]))
        for at, rows in reversed(list(enumerate(splits)))
    ]
    commit = store.commit(run, None, receipts, 9)
    assert (commit.applied, commit.superseded) == (3, 4)
    assert pg.ask(f"SELECT id, v FROM {schema}.t ORDER BY id") == [
        (1, "new"),
        (2, "tie 2"),
        (3, "last"),
    ]


NAMES = ['quo"te', "sp ace", "CAPITAL", "select", "ü" * 31, "x" * 63, "do.t", "100%s", "co:lon",
         "it's", "%(x)s", "a", "A", "back\\slash", "?", "$1", "-- x"]  # fmt: skip


@pytest.mark.parametrize("mode", ["replace", "append", "merge"])
def test_names_of_every_kind_are_kept(pg, schema, mode):
    odd = 'T%s "q" it\'s.x:y'
    quoted = '"' + odd.replace('"', '""') + '"'
    rows = pa.table({name: [at, at + 1] for at, name in enumerate(NAMES)})
    store = SQLStore("t", table=f"{schema}.{quoted}", connection=pg.url)
    for name in ("r1", "r2"):
        moved(store, Run(name, "f", mode, (NAMES[0],) if mode == "merge" else ()), rows)
    found = rows_of(pg, f"{schema}.{quoted}")
    assert found.column_names == NAMES
    assert found.num_rows == (4 if mode == "append" else 2)
    assert found.slice(0, 2).sort_by("a").equals(rows.sort_by("a"))


def test_empty_text_null_nan_and_far_years_are_four_things(pg, schema, store):
    rows = pa.table(
        {
            "id": [1, 2, 3],
            "v": ["", None, "NULL"],
            "f": [float("nan"), None, -0.0],
            "d": [date(9999, 12, 31), None, date(1, 1, 1)],
            "at": pa.array([datetime(9999, 12, 31, 23, 59, 59, 999999), None, datetime(1, 1, 1)],
                           pa.timestamp("us", "UTC")),
        }
    )  # fmt: skip
    moved(store, Run("r1", "f"), rows)
    assert rows_of(pg, f"{schema}.t").to_pylist().__repr__() == rows.to_pylist().__repr__()
