"""SQLStore on PostgreSQL: one transaction a split, a resumed run, one head for all readers."""

from __future__ import annotations

import os
import signal
import threading
import time
from concurrent.futures.process import BrokenProcessPool

import pyarrow as pa
import pytest

from hygge.connectors.postgres.target import rows_table
from hygge.connectors.sql import commit as sql_commit
from hygge.connectors.sql import ledger as sql_ledger
from hygge.errors import Rejected, StoreError, Superseded, Transient
from hygge.model import Run, Ticket
from hygge.testing.probes import in_worker
from tests.servers.postgres import MORE, ROWS, moved, seen, staged

pytest_plugins = ["tests.servers.postgres"]


def tables(pg, schema):
    """Return the names of the run tables: all but the target and hygge's two tables."""
    found = pg.ask("SELECT tablename FROM pg_tables WHERE schemaname = %s", schema)
    return {name for (name,) in found} - {"t", "_hygge_heads", "_hygge_ledger"}


# A split's load and its seal are one transaction


def staged_rows(pg, schema, run="r1"):
    """Return the number of rows in a run table that other sessions see."""
    return pg.ask(f"SELECT count(*) FROM {schema}.{rows_table(run)}")[0][0]


@pytest.mark.parametrize("known", [ROWS.schema, None])
def test_a_load_that_breaks_leaves_no_row(pg, schema, store, known):
    def broken():
        yield ROWS
        raise ZeroDivisionError

    store.prepare(Run("r1", "f"), known)
    with pytest.raises(ZeroDivisionError):
        store.stage(Ticket("r1", 0), known, broken())
    assert staged_rows(pg, schema) == 0
    names = {name for (name,) in pg.ask(f"SELECT name FROM {schema}._hygge_ledger")}
    assert names == {sql_ledger.run_name("r1"), rows_table("r1")}


def stage_and_die(store, when):
    def batches():
        yield ROWS
        if when == "in mid-load":
            os.kill(os.getpid(), signal.SIGKILL)

    store.stage(Ticket("r1", 0), ROWS.schema, batches())
    os.kill(os.getpid(), signal.SIGKILL)  # nobody hears of the receipt


@pytest.mark.parametrize("when", ["in mid-load", "after the seal"])
def test_a_worker_that_is_killed_leaves_all_of_a_split_or_nothing(pg, schema, store, when):
    run = Run("r1", "f")
    store.prepare(run, ROWS.schema)
    with pytest.raises(BrokenProcessPool):
        in_worker(stage_and_die, store, when)
    assert staged_rows(pg, schema) == (0 if when == "in mid-load" else 3)
    again = store.stage(Ticket("r1", 0, n=1), MORE.schema, iter([MORE]))
    assert again.ticket.n == (1 if when == "in mid-load" else 0)
    assert store.commit(run, None, [again], None).applied == again.rows
    assert len(seen(pg, schema)) == (2 if when == "in mid-load" else 3)


def test_a_sealed_split_is_not_loaded_again_in_its_epoch(store):
    run = Run("r1", "f")
    (first,) = staged(store, run, ROWS)

    def must_not_be_taken():
        raise AssertionError("loaded again")
        yield

    again = store.stage(Ticket("r1", 0, n=1), ROWS.schema, must_not_be_taken())
    assert again == first
    assert store.stage(Ticket("r1", 0, epoch=1), MORE.schema, iter([MORE])).rows == 2
    assert store.stage(Ticket("r1", 10), MORE.schema, iter([MORE])).rows == 2
    store.prepare(Run("r2", "f"), None)
    assert store.stage(Ticket("r2", 0), None, iter([MORE])).rows == 2


def test_a_zombie_of_a_discarded_run_leaves_nothing(pg, schema, store):
    run = Run("r1", "f")
    store.prepare(run, ROWS.schema)

    def outlives_its_run():
        yield ROWS
        store.discard(run)  # ends whoever still loads
        yield ROWS

    with pytest.raises(Transient, match="terminating connection|connection is lost"):
        store.stage(Ticket("r1", 0), ROWS.schema, outlives_its_run())
    with pytest.raises(StoreError, match="was discarded"):
        store.stage(Ticket("r1", 1), ROWS.schema, iter([ROWS]))
    assert tables(pg, schema) == set()
    assert pg.ask(f"SELECT * FROM {schema}._hygge_ledger") == []


# Going on with a run


def test_a_run_that_is_gone_on_with_keeps_what_holds_and_drops_the_rest(pg, schema, store):
    run = Run("r1", "f", "append")
    moved(store, Run("r0", "f", "append"), ROWS)
    receipts = staged(store, run, ROWS, MORE, ROWS, ROWS)
    table = f"{schema}.{rows_table('r1')}"
    sealed = f"SELECT xid FROM {schema}._hygge_ledger WHERE name LIKE '%_1_0'"
    pg.ask(f"DELETE FROM {table} WHERE xmin::text::bigint = ({sealed}) AND id = 3")
    pg.ask(f"DELETE FROM {schema}._hygge_ledger WHERE name LIKE '%_2_0'")
    never = Ticket("r1", 9)
    asked = [*receipts[:3], type(receipts[0])(never, "", 3, 9)]
    for _ in range(2):
        store.prepare(run, ROWS.schema)
        assert store.resume(run, asked) == receipts[:1]
        assert staged_rows(pg, schema) == 3
    assert len(seen(pg, schema)) == 3
    again = store.stage(Ticket("r1", 1, epoch=1), MORE.schema, iter([MORE]))
    assert store.commit(run, store.head("f"), [receipts[0], again], None).applied == 5
    assert len(seen(pg, schema)) == 8


def test_what_shows_no_sign_of_life_for_a_day_is_swept_and_nothing_else(pg, schema, store):
    for name in ("dead", "slow", "young"):
        staged(store, Run(name, name), ROWS)
    old = time.time() - 25.1 * 3600
    pg.ask(f"UPDATE {schema}._hygge_ledger SET began = {old} WHERE run IN ('dead', 'slow')")
    store.stage(Ticket("slow", 1), ROWS.schema, iter([ROWS]))  # somebody works on it
    store.prepare(Run("other", "f"), ROWS.schema)
    left = {run for (run,) in pg.ask(f"SELECT run FROM {schema}._hygge_ledger")}
    assert left == {"slow", "young", "other"}
    assert len(tables(pg, schema)) == 3


def test_a_long_load_shows_that_it_lives(pg, schema, store, monkeypatch):
    monkeypatch.setattr(sql_ledger, "BEAT_S", 0.0)
    store.prepare(Run("slow", "f"), ROWS.schema)

    def takes_a_day():
        yield ROWS
        pg.ask(f"UPDATE {schema}._hygge_ledger SET began = began - 90200")
        yield ROWS
        store.prepare(Run("other", "g"), ROWS.schema)
        yield ROWS

    assert store.stage(Ticket("slow", 0), ROWS.schema, takes_a_day()).rows == 9


def test_a_run_that_is_gone_on_with_late_is_not_swept_by_its_own_prepare(pg, schema, store):
    run = Run("r1", "f")
    receipts = staged(store, run, ROWS)
    pg.ask(f"UPDATE {schema}._hygge_ledger SET began = began - 90200")
    store.prepare(run, ROWS.schema)
    store.prepare(Run("other", "g"), ROWS.schema)
    assert store.resume(run, receipts) == receipts


# One head, compared and moved with the rows


def at_once(*calls):
    """Run the calls side by side; their results or errors, in order."""
    together, ended = threading.Barrier(len(calls)), [None] * len(calls)

    def run(at, call):
        together.wait()
        try:
            ended[at] = call()
        except Exception as error:
            ended[at] = error

    threads = [threading.Thread(target=run, args=pair) for pair in enumerate(calls)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    return ended


@pytest.mark.parametrize("mode", ["replace", "append", "merge"])
def test_two_processes_that_commit_one_run_commit_it_once(pg, schema, store, mode):
    moved(store, Run("r0", "f", mode, ("id",)), ROWS)
    run, base = Run("r1", "f", mode, ("id",)), store.head("f")
    receipts = staged(store, run, MORE)

    def commit():
        done = store.commit(run, base, receipts, 7)
        store.discard(run)
        return done

    ended = at_once(*[commit] * 4)
    assert {(each.head.run, each.head.generation, each.applied) for each in ended} == {("r1", 2, 2)}
    count = {"replace": 2, "append": 5, "merge": 4}[mode]
    assert len(seen(pg, schema)) == count


@pytest.mark.parametrize("mode", ["replace", "append", "merge"])
def test_first_commits_of_two_flows_at_once_both_arrive(pg, schema, store, mode):
    runs = [Run(f"r-{flow}", flow, mode, ("id",)) for flow in "ab"]

    def move(run):
        return lambda: moved(store, run, ROWS)

    ended = at_once(*map(move, runs))
    assert [getattr(each, "applied", each) for each in ended] == [3, 3]
    assert len(seen(pg, schema)) == (6 if mode == "append" else 3)
    # A `replace` ends the heads of the others: their rows are gone.
    assert len([1 for flow in "ab" if store.head(flow)]) == (1 if mode == "replace" else 2)


@pytest.mark.parametrize("mode", ["replace", "append", "merge"])
@pytest.mark.parametrize("first", [True, False])
def test_of_two_runs_over_one_head_one_commits(pg, schema, store, mode, first):
    if not first:
        moved(store, Run("r0", "f", mode, ("id",)), MORE)
    base, runs = store.head("f"), [Run(f"r{at}", "f", mode, ("id",)) for at in (1, 2)]
    receipts = [staged(store, run, ROWS) for run in runs]
    ended = at_once(
        *[lambda at=at: store.commit(runs[at], base, receipts[at], at) for at in (0, 1)]
    )
    won = [at for at in (0, 1) if not isinstance(ended[at], Exception)]
    assert len(won) == 1
    assert isinstance(ended[1 - won[0]], Superseded | Transient)
    assert store.head("f").run == runs[won[0]].id
    assert len(seen(pg, schema)) == {"replace": 3, "append": 3, "merge": 3}[mode] + (
        0 if first or mode == "replace" else {"append": 2, "merge": 1}[mode]
    )
    with pytest.raises(Superseded):
        store.commit(runs[1 - won[0]], base, receipts[1 - won[0]], None)


def test_a_driver_that_stands_still_in_its_commit_holds_up_nobody_for_ever(
    pg, schema, store, monkeypatch
):
    moved(store, Run("r0", "f", "append"), ROWS)
    runs, base = [Run(name, "f", "append") for name in ("still", "quick")], store.head("f")
    receipts = [staged(store, run, MORE) for run in runs]
    monkeypatch.setattr(sql_ledger, "PAUSE", "700ms")
    real, ended = sql_commit.move_head, []

    def stands_still(connection, goal, base, row):
        if row["run"] == "still" and not ended:
            ended.append(store.commit(runs[1], base, receipts[1], None))
        real(connection, goal, base, row)

    monkeypatch.setattr(sql_commit, "move_head", stands_still)
    with pytest.raises(Transient):
        store.commit(runs[0], base, receipts[0], None)
    with pytest.raises(Superseded):
        store.commit(runs[0], base, receipts[0], None)
    assert ended[0].head == store.head("f")
    assert len(seen(pg, schema)) == 5


def test_a_table_that_others_hold_is_waited_for_no_longer_than_told(pg, schema, store, monkeypatch):
    moved(store, Run("r0", "f", "append"), ROWS)
    monkeypatch.setattr(sql_ledger, "LOCK_WAIT", "100ms")
    run, base = Run("r1", "f", "append"), store.head("f")
    receipts = staged(store, run, MORE)
    with pg.connect() as holder:
        holder.execute("BEGIN")
        holder.execute(f"LOCK TABLE {schema}.t")
        with pytest.raises(Transient, match="lock timeout") as caught:
            store.commit(run, base, receipts, None)
        assert "end its transaction" in caught.value.hint
    assert store.commit(run, base, receipts, None).applied == 2


@pytest.mark.parametrize("level", ["READ COMMITTED", "REPEATABLE READ", "SERIALIZABLE"])
@pytest.mark.parametrize("mode", ["replace", "append", "merge"])
def test_a_reader_of_any_isolation_sees_old_or_new(pg, schema, store, mode, level):
    moved(store, Run("r0", "f", mode, ("id",)), ROWS)
    old = (3, 1)
    new = ({"replace": 2, "append": 5, "merge": 4}[mode], 2)
    run, base = Run("r1", "f", mode, ("id",)), store.head("f")
    receipts = staged(store, run, MORE)
    asked = (
        f"SELECT (SELECT count(*) FROM {schema}.t), (SELECT generation FROM {schema}._hygge_heads)"
    )
    with pg.connect() as reader:
        reader.execute(f"BEGIN ISOLATION LEVEL {level}")
        assert reader.execute(asked).fetchone() == old
        store.commit(run, base, receipts, None)  # does not wait for readers
        assert reader.execute(asked).fetchone() == (new if level == "READ COMMITTED" else old)
        reader.execute("COMMIT")
        assert reader.execute(asked).fetchone() == new


@pytest.mark.parametrize("when", ["before the load", "after the load", "has touched it"])
def test_a_table_of_other_columns_waits_for_its_readers_and_shows_them_all_or_nothing(
    pg, schema, store, monkeypatch, when
):
    moved(store, Run("r0", "f"), ROWS)
    monkeypatch.setattr(sql_ledger, "LOCK_WAIT", "100ms")
    other, base = pa.table({"id": ["x", "y"]}), store.head("f")
    count = f"SELECT count(*) FROM {schema}.t"
    with pg.connect() as reader:
        store.prepare(Run("r1", "f"), other.schema)
        reader.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
        if when == "before the load":
            reader.execute("SELECT 1 FROM pg_class")
        receipt = store.stage(Ticket("r1", 0), other.schema, iter([other]))
        if when == "has touched it":
            assert reader.execute(count).fetchone() == (3,)
            with pytest.raises(Transient, match="lock timeout"):
                store.commit(Run("r1", "f"), base, [receipt], None)
            assert reader.execute(count).fetchone() == (3,)
        else:
            reader.execute("SELECT 1 FROM pg_class")
            store.commit(Run("r1", "f"), base, [receipt], None)
            expected = 0 if when == "before the load" else 2  # the former as declared
            assert reader.execute(count).fetchone() == (expected,)
        reader.execute("COMMIT")
    assert store.commit(Run("r1", "f"), base, [receipt], None).applied == 2
    assert pg.ask(f"SELECT id FROM {schema}.t ORDER BY id") == [("x",), ("y",)]


def test_a_default_isolation_of_the_server_changes_nothing(pg, schema, store):
    with pg.connect() as admin:
        admin.execute("ALTER ROLE postgres SET default_transaction_isolation = 'serializable'")
        try:
            moved(store, Run("r0", "f", "append"), ROWS)
            run, base = Run("r1", "f", "append"), store.head("f")
            receipts = staged(store, run, ROWS)
            ended = at_once(*[lambda: store.commit(run, base, receipts, None)] * 3)
        finally:
            admin.execute("ALTER ROLE postgres RESET default_transaction_isolation")
    assert [getattr(each, "applied", each) for each in ended] == [3, 3, 3]
    assert len(seen(pg, schema)) == 6


def test_a_key_that_comes_from_elsewhere_while_a_merge_commits_is_one_row(pg, schema, store):
    pg.ask(f"CREATE TABLE {schema}.t (id bigint, v text)")  # nothing keeps its keys apart
    run = Run("r1", "f", "merge", ("id",))
    receipts = staged(store, run, MORE)
    with pg.connect() as other:
        other.execute("BEGIN")
        other.execute(f"INSERT INTO {schema}.t VALUES (3, 'theirs')")
        waiting = threading.Thread(target=store.commit, args=(run, None, receipts, None))
        waiting.start()
        waits = "SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
        while waiting.is_alive() and not pg.ask(waits):
            time.sleep(0.01)
        other.execute("COMMIT")
        waiting.join()
    assert seen(pg, schema) == [(3, "c"), (4, "d")]


def test_rows_that_a_rule_swallows_fail_the_run_before_anything_is_visible(pg, schema, store):
    moved(store, Run("r0", "f", "append"), ROWS)
    pg.ask(
        f"CREATE FUNCTION {schema}.skip() RETURNS trigger LANGUAGE plpgsql AS "
        "$$BEGIN IF NEW.id = 4 THEN RETURN NULL; END IF; RETURN NEW; END$$"
    )
    pg.ask(
        f"CREATE TRIGGER x BEFORE INSERT OR UPDATE ON {schema}.t "
        f"FOR EACH ROW EXECUTE FUNCTION {schema}.skip()"
    )
    before = store.head("f")
    for name, mode, words in (("r1", "append", "1 of 2"), ("r2", "merge", "1 of 2")):
        with pytest.raises(Rejected, match=f"took {words} rows"):
            moved(store, Run(name, "f", mode, ("id",)), MORE)
    assert store.head("f") == before
    assert len(seen(pg, schema)) == 3
