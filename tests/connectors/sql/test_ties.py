"""An append with a cursor reads the rows at its watermark again, and adds each of them once."""

# ruff: noqa: F811  # `source` is a fixture of another file

from __future__ import annotations

import json
import sqlite3

import pyarrow as pa
import pyarrow.dataset as ds
import pytest

from hygge import Flow, ParquetStore, SQLHome, SQLStore
from hygge.connectors.anysql import cursor as any_cursor
from hygge.connectors.mariadb import cursor as mariadb_cursor
from hygge.connectors.postgres import home as postgres_home
from hygge.connectors.sql import ties
from hygge.connectors.sql.ask import Ask, SQLHomeOptions
from hygge.connectors.sql.lag import lowered
from hygge.connectors.sqlite import cursor as sqlite_cursor
from hygge.errors import ConfigError, FlowFailed
from tests.connectors.files.old_heads import make_old
from tests.connectors.sql.test_cursors import source  # noqa: F401  # a fixture

pytest_plugins = ["tests.servers.postgres", "tests.servers.mariadb"]


class Target:
    """A store, and a look at the ids that it holds."""

    def __init__(self, kind, request, folder):
        self.kind, self.folder = kind, folder
        if kind == "files":
            self.store = ParquetStore(folder / "lake")
            return
        table = "t"
        if kind == "sqlite":
            url = f"sqlite:///{folder}/target.db"
        elif kind == "mariadb":
            my = request.getfixturevalue("my")
            self.ask, self.schema = my.ask, my.schema()
            url = my.url(self.schema)
        else:
            pg = request.getfixturevalue("pg")
            self.ask, self.schema = pg.ask, pg.schema()
            url, table = pg.url, f"{self.schema}.t"
            if kind == "anysql":
                url = url.replace("postgresql:", "postgresql+psycopg2:")
        self.store = SQLStore("t", table=table, connection=url)

    def ids(self):
        if self.kind == "files":
            return sorted(ds.dataset(self.folder / "lake").to_table()["id"].to_pylist())
        if self.kind == "sqlite":
            connection = sqlite3.connect(self.folder / "target.db")
            found = connection.execute("SELECT id FROM t ORDER BY id").fetchall()
            connection.close()
        else:
            found = self.ask(f"SELECT id FROM {self.schema}.t ORDER BY id")
        return [int(row[0]) for row in found]


def run(source, target, folder, key=(), lanes=1, columns=None, **options):
    home = source.home("at", options=options, columns=columns)
    flow = Flow(home, target.store, name="f", mode="append", key=key, engine="inline",
                state=folder / "state")  # fmt: skip
    flow.engine = Lanes(lanes)
    return flow.run()


class Lanes:
    """The inline engine, which says that it has several lanes."""

    def __init__(self, lanes):
        from hygge.engine.inline import engine

        self.inline, self.count = engine(), lanes

    def lanes(self, limits):
        return self.count

    def __getattr__(self, name):
        return getattr(self.inline, name)


def create(source, more=""):
    source.ask(f"CREATE TABLE t (id int, at int, x float{more})")


def few(monkeypatch, most):
    for module in (ties, any_cursor, mariadb_cursor, postgres_home, sqlite_cursor):
        monkeypatch.setattr(module, "MOST_ROWS", most)


@pytest.mark.parametrize("kind", ["files", "sqlite", "postgres", "mariadb", "anysql"])
@pytest.mark.parametrize("source", ["sqlite"], indirect=True)
def test_every_store_remembers(source, kind, request, tmp_path):
    target = Target(kind, request, tmp_path)
    create(source)
    source.ask("INSERT INTO t VALUES (1, 10, 0.5), (2, 20, NULL), (2, 20, NULL)")
    for _ in range(2):
        run(source, target, tmp_path)
        assert target.ids() == [1, 2, 2]
    source.ask("INSERT INTO t VALUES (3, 20, 1), (2, 20, NULL)")
    for _ in range(2):
        run(source, target, tmp_path)
        assert target.ids() == [1, 2, 2, 2, 3]
    source.ask("INSERT INTO t VALUES (4, 20, 1), (5, 30, NULL)")
    for _ in range(2):
        run(source, target, tmp_path)
        assert target.ids() == [1, 2, 2, 2, 3, 4, 5]


@pytest.mark.parametrize("consistency", ["snapshot", "split"])
def test_ranges_leave_the_rows_at_the_watermark_to_one_reader(
    source,
    consistency,
    tmp_path,
):
    if consistency == "split" and source.name in ("sqlite", "anysql"):
        pytest.skip("it has no such option")
    target = Target("sqlite", None, tmp_path)
    source.ask("CREATE TABLE t (id int PRIMARY KEY, at int, x float)")
    rows = [(n, 20 if n % 3 == 0 else 10) for n in range(60)]
    source.ask(f"INSERT INTO t VALUES {', '.join(f'({n}, {at}, 1)' for n, at in rows)}")
    options = {"splits": 4, "lanes": 2}
    if source.name in ("sqlite", "mariadb", "postgres"):
        options["consistency"] = consistency
    if source.name in ("sqlite", "anysql"):
        options.pop("consistency", None)
    expected = list(range(60))
    for more in ([], [(60, 20), (61, 20)], [(62, 20), (63, 30)], [(64, 30)], []):
        if more:
            values = ", ".join(f"({n}, {at}, 1)" for n, at in more)
            source.ask(f"INSERT INTO t VALUES {values}")
            expected += [n for n, _ in more]
        run(source, target, tmp_path, **options)
        assert target.ids() == expected


def test_a_key_tells_rows_apart_whatever_their_other_values(source, tmp_path):
    target = Target("sqlite", None, tmp_path)
    create(source)
    source.ask("INSERT INTO t VALUES (1, 20, 1), (2, 20, 1)")
    run(source, target, tmp_path, key="id")
    source.ask("UPDATE t SET x = 2")
    source.ask("INSERT INTO t VALUES (3, 20, 1)")
    report = run(source, target, tmp_path, key="id")
    assert (report.rows, target.ids()) == (1, [1, 2, 3])


def test_beyond_the_number_that_is_remembered_it_is_said_and_the_option_decides(
    source,
    tmp_path,
    monkeypatch,
):
    few(monkeypatch, 2)
    target = Target("sqlite", None, tmp_path)
    create(source)
    source.ask("INSERT INTO t VALUES (1, 20, 1), (2, 20, 1), (3, 20, 1)")
    assert "more than 2 rows have 'at' 20" in run(source, target, tmp_path).note
    source.ask("INSERT INTO t VALUES (4, 20, 1)")
    for _ in range(2):
        report = run(source, target, tmp_path)
        assert (report.rows, target.ids()) == (0, [1, 2, 3])
        assert "a row that got 'at' 20 after that run is not seen" in report.note
    report = run(source, target, tmp_path, cursor_ties="read")
    assert "all of them are added again" in report.note
    assert target.ids() == [1, 1, 2, 2, 3, 3, 4]
    source.ask("INSERT INTO t VALUES (5, 21, 1)")
    run(source, target, tmp_path)
    source.ask("INSERT INTO t VALUES (6, 21, 1)")
    run(source, target, tmp_path)
    assert target.ids()[-2:] == [5, 6]


@pytest.mark.parametrize("source", ["sqlite"], indirect=True)
def test_a_head_of_an_older_version_is_read_and_it_is_said(source, tmp_path):
    files, table = Target("files", None, tmp_path), Target("sqlite", None, tmp_path)
    create(source)
    source.ask("INSERT INTO t VALUES (1, 20, 1)")
    for target in (files, table):
        run(source, target, tmp_path / target.kind)
    digests = []
    make_old(tmp_path / "lake", lambda head: digests.extend(head.pop("ties")["digests"]))
    assert digests
    connection = sqlite3.connect(tmp_path / "target.db")
    columns = json.loads(connection.execute("SELECT columns FROM _hygge_heads").fetchone()[0])
    plain = json.dumps([pair for pair in columns if not pair[0].startswith("\0")])
    assert len(json.loads(plain)) == 3
    connection.execute("UPDATE _hygge_heads SET columns = ?", [plain])
    connection.commit()
    connection.close()
    source.ask("INSERT INTO t VALUES (2, 20, 1)")
    for target in (files, table):
        report = run(source, target, tmp_path / target.kind)
        assert "did not remember which rows have 'at' 20" in report.note
        assert target.ids() == [1]
    source.ask("INSERT INTO t VALUES (3, 21, 1)")
    for target in (files, table):
        run(source, target, tmp_path / target.kind)
    source.ask("INSERT INTO t VALUES (4, 21, 1)")
    for target in (files, table):
        assert "remember" not in run(source, target, tmp_path / target.kind).note
        assert target.ids() == [1, 3, 4]


@pytest.mark.parametrize("source", ["sqlite"], indirect=True)
def test_columns_that_changed_are_an_error_that_says_how_to_decide(source, tmp_path):
    target = Target("sqlite", None, tmp_path)
    create(source, ", y int")
    source.ask("INSERT INTO t VALUES (1, 20, 1, 7), (2, 20, 1, 7)")
    run(source, target, tmp_path, columns=["id", "at", "x"])
    source.ask("INSERT INTO t VALUES (3, 20, 1, 7), (4, 21, 1, 7)")
    with pytest.raises(FlowFailed, match="the key or the columns changed since the last run") as no:
        run(source, target, tmp_path, columns=["id", "at"])
    assert target.ids() == [1, 2]
    assert "cursor_ties: skip" in no.value.hint
    connection = sqlite3.connect(tmp_path / "target.db")
    connection.execute("ALTER TABLE t DROP COLUMN x")
    connection.close()
    run(source, target, tmp_path, columns=["id", "at"], cursor_ties="skip")
    assert target.ids() == [1, 2, 4]
    run(source, target, tmp_path, columns=["id", "at"])
    source.ask("INSERT INTO t VALUES (5, 22, 1, 7)")
    run(source, target, tmp_path, columns=["id", "at"])
    with pytest.raises(FlowFailed, match="the key or the columns changed"):
        run(source, target, tmp_path, columns=["id", "at"], key="id")


@pytest.mark.parametrize("source", ["postgres"], indirect=True)
def test_rows_that_pass_through_are_remembered_by_their_texts(source, request, tmp_path):
    target = Target("postgres", request, tmp_path)
    source.ask(
        "CREATE TABLE t (id int, at timestamptz, n numeric, d date, j jsonb, f float8, b bytea)"
    )
    row = "'2024-01-01 10:00:00.5+00', 'NaN', 'infinity', '{\"a\": 1}', '-0', '\\xff00'"
    other = row.replace("'-0'", "'0'")
    source.ask(f"INSERT INTO t VALUES (1, {row}), (1, {row}), (2, {row})")
    run(source, target, tmp_path)
    source.ask(f"INSERT INTO t VALUES (1, {other}), (1, {row}), (3, {other})")
    for _ in range(2):
        run(source, target, tmp_path)
        assert target.ids() == [1, 1, 1, 1, 2, 3]
    found = target.ask(f"SELECT id, d::text, f::text FROM {target.schema}.t ORDER BY id, f::text")
    assert [row[2] for row in found] == ["-0", "-0", "-0", "0", "-0", "0"]
    kinds = target.ask(
        f"SELECT string_agg(format_type(atttypid, atttypmod), ' ' ORDER BY attnum) FROM "
        f"pg_attribute WHERE attrelid = '{target.schema}.t'::regclass AND attnum > 0"
    )
    assert kinds[0][0] == (
        "integer timestamp with time zone numeric date jsonb double precision bytea"
    )


def test_digests_tell_exact_values_apart_and_never_change():
    values = [
        (pa.float64(), [0.0, -0.0, float("nan"), None, 1.5]),
        (pa.string(), ["", "a", "-", "+", None]),
        (pa.list_(pa.string()), [[], [""], [None], ["a", "b"], ["ab"], None]),
        (pa.timestamp("us", "UTC"), [0, 1, 2**60, -(2**60), None]),
        (pa.struct([("a", pa.int64()), ("b", pa.binary())]), [{}, {"a": 1}, {"b": b"1"}, None]),
        (pa.decimal128(5, 2), [None, *pa.array([1, 2], pa.decimal128(5, 2)).to_pylist()]),
    ]
    for kind, items in values:
        array = pa.array(items, kind)
        table = pa.table({"v": array})
        whole = ties.digests(table, ["v"])
        assert len(set(whole)) == len(items)
        cut = [ties.digests(table.slice(at, 1), ["v"])[0] for at in range(len(items))]
        assert cut == whole
    pairs = pa.table({"a": ["x", "xy"], "b": ["yz", "z"]})
    assert len(set(ties.digests(pairs, ["a", "b"]))) == 2
    large = pa.table({"v": pa.array(["a"], pa.large_string())})
    assert ties.digests(large, ["v"]) == ties.digests(pa.table({"v": ["a"]}), ["v"])
    assert ties.digests(pa.table({"v": [1.5]}), ["v"])[0].hex() == "5937a82917f118c6"


@pytest.mark.parametrize("source", ["sqlite"], indirect=True)
def test_a_decided_run_that_the_next_driver_commits_remembers_too(
    source,
    tmp_path,
    monkeypatch,
):
    target = Target("files", None, tmp_path)
    create(source)
    source.ask("INSERT INTO t VALUES (1, 20, 1)")
    with monkeypatch.context() as dying:
        dying.setattr(ParquetStore, "commit", lambda *_: 1 / 0)
        with pytest.raises(FlowFailed):
            run(source, target, tmp_path)
    source.ask("INSERT INTO t VALUES (2, 20, 1)")
    run(source, target, tmp_path)
    assert target.ids() == [1, 2]
    assert target.store.head("f").ties["digests"]
    run(source, target, tmp_path)
    assert target.ids() == [1, 2]


LAGS = [
    ("int", ["100", "95", "101", "89"], 10, "merge"),
    ("timestamp", ["'2024-01-01 10:00:00'", "'2024-01-01 09:55:00'",
                            "'2024-01-01 10:00:01'", "'2024-01-01 09:49:00'"], "10m", "append"),
    ("date", ["'2024-01-31'", "'2024-01-30'", "'2024-02-01'", "'2024-01-20'"], "2d", "append"),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "values", "lag", "mode"), LAGS, ids=["int", "time", "date"])
def test_a_lag_reads_back_by_that_much(source, kind, values, lag, mode, tmp_path):
    target = Target("sqlite", None, tmp_path)
    kind = "datetime" if kind == "timestamp" and source.name == "mariadb" else kind
    source.ask(f"CREATE TABLE t (id int PRIMARY KEY, at {kind}, x float)")

    def moved():
        home = source.home("at", lag=lag)
        Flow(home, target.store, name="f", mode=mode, key="id", engine="inline",
             state=tmp_path / "state").run()  # fmt: skip
        return target.ids()

    now, late, newer, too_late = values
    source.ask(f"INSERT INTO t VALUES (1, {now}, 1), (2, {late}, 1)")
    assert moved() == [1, 2]
    source.ask(f"INSERT INTO t VALUES (3, {late}, 1), (4, {now}, 1), (5, {too_late}, 1)")
    assert moved() == [1, 2, 3, 4]
    assert moved() == [1, 2, 3, 4]
    source.ask(f"INSERT INTO t VALUES (6, {newer}, 1), (7, {late}, 1)")
    assert moved() == [1, 2, 3, 4, 6, 7]
    source.ask(f"INSERT INTO t VALUES (8, {newer}, 1), (9, {now}, 1)")
    assert moved() == moved() == [1, 2, 3, 4, 6, 7, 8, 9]


def test_a_lag_of_ranges(source, tmp_path):
    target = Target("sqlite", None, tmp_path)
    source.ask("CREATE TABLE t (id int PRIMARY KEY, at int, x float)")
    source.ask(f"INSERT INTO t VALUES {', '.join(f'({n}, {n}, 1)' for n in range(60))}")

    def moved():
        home = source.home("at", lag=7, options={"splits": 4})
        flow = Flow(home, target.store, name="f", mode="append", key="id", state=tmp_path / "state")
        flow.engine = Lanes(2)
        return flow.run()

    moved()
    expected = list(range(60))
    for more in ([(100, 55)], [(101, 52), (102, 62)], [(103, 55)], [(104, 90), (105, 57)], []):
        for n, at in more:
            source.ask(f"INSERT INTO t VALUES ({n}, {at}, 1)")
            expected.append(n)
        moved()
        assert target.ids() == expected


def test_a_lag_that_means_nothing_is_refused(tmp_path):
    url = f"sqlite:///{tmp_path}/source.db"
    store = ParquetStore(tmp_path / "lake")
    for settings, reason in (
        ({"lag": "10m"}, "lag needs a cursor"),
        ({"lag": "ten", "cursor": "at"}, "lag is 'ten'"),
        ({"lag": -1, "cursor": "at"}, "lag is -1"),
        ({"lag": 1, "cursor": "at", "options": {"cursor_ties": "skip"}}, "leaves them out"),
    ):
        with pytest.raises(ConfigError, match=reason):
            SQLHome("t", connection=url, **settings)
    home = SQLHome("t", connection=url, cursor="at", lag=1)
    with pytest.raises(ConfigError, match="`append` without a key") as no:
        Flow(home, store, name="f", mode="append")
    assert "key: [id]" in no.value.hint
    connection = sqlite3.connect(tmp_path / "source.db")
    connection.executescript("CREATE TABLE t (id int, at int); INSERT INTO t VALUES (1, 1)")
    connection.close()
    home = SQLHome("t", connection=url, cursor="at", lag="10m")
    with pytest.raises(FlowFailed, match="lag is '10m', and the cursor 'at' is at 1"):
        Flow(home, store, name="f", mode="append", key="id", engine="inline",
             state=tmp_path / "state").run()  # fmt: skip


@pytest.mark.parametrize(
    ("value", "lag", "low"),
    [
        ("2024-03-01T00:00:00+00:00", "1s", "2024-02-29T23:59:59+00:00"),
        ("2024-03-01 00:00:00.250", "500ms", "2024-02-29 23:59:59.750"),
        ("2024-03-01 00:05", "10m", "2024-02-29 23:55"),
        ("2024-03-01T00:00:00.123456789Z", "1h", "2024-02-29T23:00:00.123456789Z"),
        ("2024-03-01", "10m", "2024-02-29"),
        ("0001-01-01", "9w", "0001-01-01"),
        ("12.50", 0.5, "12.00"),
        (5, 7, -2),
        (None, "1d", None),
    ],
)
def test_a_watermark_is_lowered_in_its_own_form(value, lag, low):
    ask = Ask("sqlite://", "t", "t", None, None, None, None, "at", SQLHomeOptions(), lag=lag)
    assert lowered(ask, value) == low
