"""Rows that the table itself refuses in the commit are set aside, and all others come.

What nobody can ask for before: triggers, keys over two splits, a key that is not that of the merge,
and all rules of a table whose rows are replaced.
"""

from __future__ import annotations

import itertools
import json
import os
import signal
from contextlib import nullcontext

import pyarrow as pa
import pytest

from hygge import Flow, Home, SQLStore
from hygge.cli.main import main
from hygge.connectors.sql import refusing
from hygge.connectors.sqlite import aborting
from hygge.errors import FlowFailed
from hygge.journal.bad_files import BadFiles
from hygge.model import Column, Limits, Plan, Split
from hygge.places.place import place_at
from hygge.refused_rows import RefusedRows
from hygge.run.replay import replay
from hygge.run.watch import Silent
from tests.bad_rows.test_flows import forked
from tests.chaos import only_in_chaos
from tests.connectors.sql.own_tables import Lite, Maria, Postgres, database

pytest_plugins = ["tests.servers.mariadb", "tests.servers.postgres"]
COUNT = 400
BASES = ["postgresql", "mariadb", "sqlite"]


class Halves(Home):
    """A table in two splits."""

    source_key = ()

    def __init__(self, table: pa.Table) -> None:
        super().__init__("halves")
        self.table = table

    def open(self, since=None):
        columns = tuple(Column(each.name, each.type) for each in self.table.schema)
        return nullcontext(Plan(columns, (Split(0, "1"), Split(1, "1")), self.source_key))

    def read(self, split):
        half = self.table.num_rows // 2
        yield self.table.slice(split.index * half, half)


@pytest.fixture(params=BASES)
def base(request, tmp_path, monkeypatch):
    monkeypatch.setattr("hygge.connectors.postgres.refusing.AT_ONCE", 50)
    monkeypatch.setattr("hygge.connectors.mariadb.refusing.AT_ONCE", 50)
    monkeypatch.setattr("hygge.connectors.sqlite.refusing.AT_ONCE", 50)
    assert refusing.AT_ONCE > 50
    return database(request, request.param, tmp_path)


def flow_of(tmp_path, store, table: pa.Table, mode: str, **limits: object) -> Flow:
    given = {"on_bad_row": "set_aside", "max_bad_share": 1.0, **limits}
    return Flow(
        Halves(table), store, name="f", engine="inline", limits=Limits(**given), mode=mode,
        key="id", state=str(tmp_path / "state"),
    )  # fmt: skip


def moved(tmp_path, store, table: pa.Table, mode: str, **limits: object):
    """The report of a flow, and the bad rows of its run by id."""
    report = flow_of(tmp_path, store, table, mode, **limits).run()
    rows = bad_rows(tmp_path, report.run) if report.set_aside else []
    assert report.rows_read == report.applied + report.superseded + report.set_aside
    return report, {json.loads(row["text"])["id"]: row for row in rows}


def bad_rows(tmp_path, run: str):
    return BadFiles(place_at(str(tmp_path / "state")), "f").read(run).to_pylist()


def refuse_negative(base, events=("INSERT", "UPDATE")) -> None:
    """Make triggers that refuse a row with a negative `n`."""
    if base.name == "postgresql":
        base.ask(
            "CREATE FUNCTION g() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN IF NEW.n < 0 THEN "
            "RAISE EXCEPTION ''n of % is negative'', NEW.id; END IF; RETURN NEW; END'"
        )
    for event in events:
        begin = f"CREATE TRIGGER g_{event} BEFORE {event} ON t FOR EACH ROW "
        if base.name == "postgresql":
            base.ask(f"{begin} EXECUTE FUNCTION g()")
        elif base.name == "mariadb":
            base.ask(
                f"{begin} IF NEW.n < 0 THEN SIGNAL SQLSTATE '45000' "
                "SET MESSAGE_TEXT = 'n is negative'; END IF"
            )
        else:
            base.ask(f"{begin} WHEN NEW.n < 0 BEGIN SELECT RAISE(ABORT, 'n is negative'); END")


def rows(**changes: dict[int, object]) -> pa.Table:
    """Rows that are all right, but for the changes, by column and id."""
    values = {"id": [*range(COUNT)], "code": [f"c{n}" for n in range(COUNT)], "n": [1] * COUNT}
    for name, column in changes.items():
        for at, value in column.items():
            values[name][at] = value
    kinds = {"id": pa.int64(), "code": pa.string(), "n": pa.int32()}
    return pa.table({name: pa.array(values[name], kind) for name, kind in kinds.items()})


def test_triggers_and_keys_in_each_mode(base, tmp_path):
    base.ask("CREATE TABLE t (id bigint PRIMARY KEY, code varchar(20) UNIQUE, n integer)")
    refuse_negative(base)
    store = base.store(adopt=True)
    # The code of 300, in the second split, is that of 3, in the first one.
    table = rows(n={7: -1, 399: -5}, code={300: "c3"})
    report, bad = moved(tmp_path, store, table, "append")
    assert {*bad} == {7, 300, 399}
    assert [bad[at]["split"] for at in (7, 300, 399)] == [0, 1, 1]
    assert "negative" in bad[7]["reason"]
    assert "c3" in bad[300]["reason"] or bad[300]["column"] == "code"
    kept = {*range(COUNT)} - {*bad}
    assert {row[0] for row in base.ask("SELECT id FROM t")} == kept
    values = pa.ipc.open_stream(bad[300]["raw"]).read_all()
    assert values.equals(table.slice(300, 1))
    # A merge by id: the code of 10 is that of 20, which keeps it; 30 and 31 exchange nothing.
    table = rows(n={8: -1}, code={10: "c20", 300: "new", 30: "c31", 31: "free"})
    report, bad = moved(tmp_path, store, table, "merge")
    assert {*bad} == {8, 10}
    codes = dict(base.ask("SELECT id, code FROM t"))
    assert [codes[at] for at in (8, 10, 20, 30, 31, 300)] == [
        "c8", "c10", "c20", "c31", "free", "new",
    ]  # fmt: skip
    table = rows(n={9: -1}, code={300: "c3", 301: "x" * 21})
    report, bad = moved(tmp_path, store, table, "replace")
    assert {*bad} == {9, 300} | ({301} if base.name != "sqlite" else set())
    assert len(base.ask("SELECT id FROM t")) == report.applied == COUNT - len(bad)


def test_above_the_limit_nothing_is_visible_and_the_next_run_begins_anew(base, tmp_path):
    base.ask("CREATE TABLE t (id bigint PRIMARY KEY, code varchar(20), n integer)")
    refuse_negative(base, ["INSERT"])
    table = rows(n=dict.fromkeys((1, 2, 399), -1))
    for limits in ({"max_bad_rows": 2}, {"max_bad_share": 0.006}):
        with pytest.raises(FlowFailed, match=f"3 rows of {COUNT} cannot be moved.*negative"):
            moved(tmp_path, base.store(), table, "append", **limits)
        assert base.ask("SELECT id FROM t") == []
    assert not [*(tmp_path / "state/bad").rglob("*.parquet")]
    report, bad = moved(tmp_path, base.store(), table, "append")
    assert {*bad} == {1, 2, 399}
    # After the mend they are moved again, once.
    base.ask("DROP TRIGGER g_INSERT" + (" ON t" if base.name == "postgresql" else ""))
    for _ in range(2):
        replay(flow_of(tmp_path, base.store(), table, "append"), report.run, Silent(), None)
    assert sorted(base.ask("SELECT id, n FROM t"))[:3] == [(0, 1), (1, -1), (2, -1)]
    assert len(base.ask("SELECT id FROM t")) == COUNT


def test_a_row_that_a_trigger_leaves_out(tmp_path, pg, schema):
    for base in (Lite(tmp_path / "x.db"), Postgres(pg, schema)):
        base.ask("CREATE TABLE t (id bigint, code varchar(20), n integer)")
        if isinstance(base, Lite):
            base.ask("CREATE TRIGGER g BEFORE INSERT ON t WHEN NEW.n < 0 "
                     "BEGIN SELECT RAISE(IGNORE); END")  # fmt: skip
        else:
            base.ask("CREATE FUNCTION g() RETURNS trigger LANGUAGE plpgsql AS "
                     "'BEGIN IF NEW.n < 0 THEN RETURN NULL; END IF; RETURN NEW; END'")  # fmt: skip
            base.ask("CREATE TRIGGER g BEFORE INSERT ON t FOR EACH ROW EXECUTE FUNCTION g()")
        _, bad = moved(tmp_path / base.name, base.store(), rows(n={7: -1}), "append")
        assert {*bad} == {7}
        assert "leaves it out" in bad[7]["reason"]


def test_what_else_postgres_refuses(tmp_path, pg, schema):
    """Constraints that wait for the COMMIT, EXCLUDE, texts that their type refuses."""
    base = Postgres(pg, schema)
    base.ask(
        "CREATE TABLE t (id bigint PRIMARY KEY, code varchar(20), n integer, boss bigint, d text, "
        "UNIQUE (code) DEFERRABLE INITIALLY DEFERRED, EXCLUDE (d WITH =), "
        "FOREIGN KEY (boss) REFERENCES t (id) DEFERRABLE INITIALLY DEFERRED)"
    )
    boss, d = [None] * COUNT, [f"d{n}" for n in range(COUNT)]
    boss[5], boss[6], boss[390] = 399, 5, 9_999  # 5 waits for 399, and 6 for 5
    d[350] = "d2"
    table = rows(code={300: "c3"})
    table = table.append_column("boss", pa.array(boss, pa.int64())).append_column("d", [d])
    report, bad = moved(tmp_path, base.store(), table, "append")
    assert {*bad} == {300, 350, 390}
    assert len(base.ask("SELECT id FROM t")) == report.applied == COUNT - 3
    base.ask("CREATE TABLE child (t bigint REFERENCES t (id) DEFERRABLE)")
    base.ask("INSERT INTO child VALUES (5), (6)")  # whose key still waits for the new rows
    report, bad = moved(tmp_path, base.store(adopt=True), table, "replace")
    assert {*bad} == {300, 350, 390}
    assert len(base.ask("SELECT id FROM t")) == report.applied == COUNT - 3
    base.ask("CREATE TYPE mood AS ENUM ('good')")
    base.ask("CREATE TABLE u (id bigint, v mood, at inet)")
    texts, places = ["good"] * 100, [f"10.0.0.{n}" for n in range(100)]
    texts[7], places[60] = "odd", "nowhere"
    table = pa.table({"id": range(100), "v": texts, "at": places})
    store = SQLStore("u", connection=pg.url, table=f"{schema}.u")
    _, bad = moved(tmp_path / "u", store, table, "append")
    assert {*bad} == {7, 60}
    assert json.loads(bad[60]["text"]) == {"id": 60, "v": "good", "at": "nowhere"}


def test_rows_of_a_new_table_that_break_the_key_of_their_source(tmp_path, pg, schema, monkeypatch):
    monkeypatch.setattr(Halves, "source_key", ("id",))
    base = Postgres(pg, schema)
    table = rows(id={300: 3, 5: None}, n={3: 7})
    for at in range(2):  # a new table, and the same once more
        report, bad = moved(tmp_path, base.store(), table, "replace")
        assert sorted(bad, key=str) == [3, None]
        assert bad[3]["split"] == 1
        assert report.applied == len(base.ask("SELECT id FROM t")) == COUNT - 2, at
        assert base.ask("SELECT n FROM t WHERE id = 3") == [(7,)]
        with pytest.raises(Exception, match="t_pkey"):
            base.ask("INSERT INTO t (id) VALUES (3)")


def test_a_check_of_a_table_that_hygge_made_in_mariadb(request, tmp_path):
    base = database(request, "mariadb", tmp_path)
    moved(tmp_path, base.store(), rows(), "replace")
    base.ask("ALTER TABLE t ADD CHECK (n > 0)")
    for _ in range(2):
        report, bad = moved(tmp_path, base.store(), rows(n={7: -1, 300: 0}), "replace")
        assert {*bad} == {7, 300}
        assert report.applied == len(base.ask("SELECT id FROM t")) == COUNT - 2


def test_rules_of_a_table_that_follows_new_columns(base, tmp_path):
    if isinstance(base, Maria):
        base.ask("CREATE TABLE t (id bigint PRIMARY KEY, n integer CHECK (n > 0)) ENGINE=InnoDB")
    else:
        base.ask("CREATE TABLE t (id bigint PRIMARY KEY, n integer CHECK (n > 0))")
    _, bad = moved(tmp_path, base.store(schema="evolve"), rows(n={7: -1}), "append")
    assert {*bad} == {7}
    assert ("c8",) in base.ask("SELECT code FROM t")


def test_a_unique_index_of_a_table_that_is_made_anew(base, tmp_path):
    length = "(20)" if base.name == "mariadb" else ""
    moved(tmp_path, base.store(), rows(), "replace")
    base.ask(f"CREATE UNIQUE INDEX one_code ON t (code{length})")
    for _ in range(2):
        _, bad = moved(tmp_path, base.store(), rows(code={300: "c3"}), "replace")
        assert {*bad} == {300}
        assert len(base.ask("SELECT id FROM t")) == COUNT - 1


def test_a_trigger_of_sqlite_that_ends_the_transaction(tmp_path):
    base = Lite(tmp_path / "x.db")
    base.ask("CREATE TABLE t (id bigint PRIMARY KEY, code varchar(20), n integer)")
    base.ask("CREATE TABLE log (said text)")
    base.ask("CREATE TRIGGER first AFTER INSERT ON t WHEN NEW.n = 5 "
             "BEGIN INSERT INTO log VALUES ('RAISE(ROLLBACK, it''s)'); END")  # fmt: skip
    base.ask("CREATE TRIGGER g BEFORE INSERT ON t WHEN NEW.n < 0 BEGIN SELECT 1; "
             "SELECT raise ( Rollback, 'all of it'); END")  # fmt: skip
    base.ask("CREATE TRIGGER deep AFTER INSERT ON log WHEN (SELECT count(*) FROM log) > 1 "
             "BEGIN SELECT RAISE(ROLLBACK, 'one line'); END")  # fmt: skip
    made = base.ask("SELECT name, sql FROM sqlite_master WHERE type = 'trigger' ORDER BY rowid")
    with pytest.raises(FlowFailed, match="all of it"):
        moved(tmp_path, base.store(), rows(n={7: -1}), "append", on_bad_row="fail")
    assert base.ask("SELECT * FROM t") == []
    for mode in ("append", "merge", "replace"):
        _, bad = moved(tmp_path, base.store(adopt=True), rows(n={7: -1, 9: 5, 300: 5}), mode)
        assert {*bad} == {7, 300} if mode == "append" else {7} < {*bad}, mode
        assert "all of it" in bad[7]["reason"]
        assert base.ask("SELECT said FROM log") == [("RAISE(ROLLBACK, it's)",)]
        now = base.ask("SELECT name, sql FROM sqlite_master WHERE type = 'trigger' ORDER BY rowid")
        assert now == made


def test_killed_while_triggers_of_sqlite_are_changed_they_are_as_they_were(tmp_path, monkeypatch):
    base = Lite(tmp_path / "x.db")
    base.ask("CREATE TABLE t (id bigint PRIMARY KEY, code varchar(20), n integer)")
    base.ask("CREATE TRIGGER g BEFORE INSERT ON t WHEN NEW.n < 0 "
             "BEGIN SELECT RAISE(ROLLBACK, 'all of it'); END")  # fmt: skip
    made = base.ask("SELECT name, sql FROM sqlite_master WHERE type = 'trigger'")
    given = tmp_path, base.store(), rows(n={7: -1}), "append"
    make_again = aborting._make_again

    def dying(*arguments):
        make_again(*arguments)
        os.kill(os.getpid(), signal.SIGKILL)

    with monkeypatch.context() as child:
        child.setattr(aborting, "_make_again", dying)
        assert forked(tmp_path, {}, lambda: flow_of(*given).run()) is None
    assert base.ask("SELECT * FROM t") == []
    assert base.ask("SELECT name, sql FROM sqlite_master WHERE type = 'trigger'") == made
    _, bad = moved(*given)
    assert {*bad} == {7}
    assert len(base.ask("SELECT id FROM t")) == COUNT - 1


@pytest.mark.parametrize("moment", ["before the COMMIT", "after the COMMIT"])
def test_killed_at_the_commit_the_head_tells_which_rows_were_set_aside(
    base, tmp_path, monkeypatch, moment
):
    base.ask("CREATE TABLE t (id bigint PRIMARY KEY, code varchar(20), n integer)")
    refuse_negative(base, ["INSERT"])
    given = tmp_path, base.store(), rows(n={7: -1}), "append"
    keep = RefusedRows.keep

    def dying(*arguments, **named):
        if moment.startswith("before"):
            keep(*arguments)
        os.kill(os.getpid(), signal.SIGKILL)

    with monkeypatch.context() as child:
        owner = (RefusedRows, "keep") if moment.startswith("before") else (BadFiles, "show")
        child.setattr(*owner, dying)
        assert forked(tmp_path, {}, lambda: flow_of(*given).run()) is None
    is_there = moment.startswith("after")
    assert len(base.ask("SELECT id FROM t")) == (COUNT - 1 if is_there else 0)
    tries = [*(tmp_path / "state/bad/f").rglob("refused-*")]
    assert len(tries) == 1
    report = flow_of(*given).run()
    assert (report.applied, report.set_aside) == (COUNT - 1, 1)
    assert len(base.ask("SELECT id FROM t")) == COUNT - 1
    (bad,) = bad_rows(tmp_path, report.run)
    assert json.loads(bad["text"])["id"] == 7
    assert [path.name for path in (tmp_path / "state/bad/f").iterdir()] == [f"{report.run}.parquet"]


@only_in_chaos
def test_killed_anywhere_a_refused_row_is_set_aside_once_or_the_run_is_not_there(tmp_path):
    base = Lite(tmp_path / "x.db")
    base.ask("CREATE TABLE t (id bigint PRIMARY KEY, code varchar(20), n integer)")
    refuse_negative(base, ["INSERT"])
    given = tmp_path, base.store(adopt=True), rows(n={7: -1}), "replace"
    assert forked(tmp_path, {}, flow_of(*given).run) > 20
    step = 1 if os.environ.get("HYGGE_CRASH") == "all" else 5
    for point in itertools.count(3, step):
        ended = forked(tmp_path, {str(point): "kill"}, lambda: flow_of(*given).run())
        if ended is not None:
            break
        report = flow_of(*given).run()
        assert (report.applied, report.set_aside) == (COUNT - 1, 1), point
        assert len(base.ask("SELECT id FROM t")) == COUNT - 1, point
        (bad,) = bad_rows(tmp_path, report.run)
        assert json.loads(bad["text"])["id"] == 7, point
    assert point > 20
    left = [*(tmp_path / "state/bad/f").iterdir()]
    assert all(path.is_file() for path in left)  # what tries have left is gone


def test_hygge_bad_and_verify_know_of_them(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("HYGGE_STATE", raising=False)
    base = Lite(tmp_path / "x.db")
    base.ask("CREATE TABLE t (id bigint PRIMARY KEY, n bigint)")
    refuse_negative(base, ["INSERT"])
    (tmp_path / "in.csv").write_text("id,n\n1,5\n2,-5\n3,5\n")
    (tmp_path / "flows.yml").write_text(
        "flows:\n  f:\n    home: in.csv\n    store: {connection: 'sqlite:///x.db', table: t}\n"
        "    mode: append\n    on_bad_row: set_aside\n    max_bad_share: 50%\n"
    )
    assert main(["flows.yml", "--inline"]) == 0
    assert "3 rows read = staged = 2 applied + 1 set aside" in capsys.readouterr().out
    assert main(["bad", "flows.yml"]) == 0
    said = capsys.readouterr().out
    assert "n is negative" in said
    assert '{"id": 2, "n": -5}' in said  # neither a line nor a value tells which row it is
    assert main(["verify", "flows.yml"]) == 0
    assert "1 row that the store lacks was set aside" in capsys.readouterr().out
