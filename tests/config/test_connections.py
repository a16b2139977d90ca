"""Databases in flows.yml: connections, `consistency`, `on_value`, patterns of tables."""

from __future__ import annotations

import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest
from sqlalchemy.engine import make_url

from hygge import SQLHome, SQLStore
from hygge.config.flows import FlowsFile, build, read_flows
from hygge.config.selection import select
from hygge.errors import ConfigError, UsageError
from tests import ROOT

Reader = Callable[..., FlowsFile]
PG = "postgresql://u:p%40%23x@h/d?sslmode=require"
HEAD = f"connections: {{shop: '{PG}'}}\nflows:\n  a:\n"


@pytest.fixture
def read(tmp_path: Path) -> Reader:
    (tmp_path / "users.parquet").touch()

    def reading(text: str) -> FlowsFile:
        (tmp_path / "flows.yml").write_text(textwrap.dedent(text))
        return read_flows(tmp_path / "flows.yml", {})

    return reading


def refused(read: Reader, text: str) -> str:
    with pytest.raises(ConfigError) as caught:
        read(text)
    return str(caught.value)


def options(file: FlowsFile, at: int = 0) -> tuple[object, object]:
    home, store = build(file.flows[at])
    return home.settings.options, store.settings.options


def test_a_flow_decides_for_both_of_its_ends(read: Reader) -> None:
    file = read(HEAD + "    home: shop#t\n    store: shop#u\n    consistency: split\n"
                "    on_value: {day: set_null, price: as_text}\n")  # fmt: skip
    home, store = options(file)
    assert home.consistency == "split"
    assert home.on_value == store.on_value == {"day": "set_null", "price": "as_text"}


def test_an_end_without_such_an_option_takes_no_part(read: Reader) -> None:
    home, store = options(read(HEAD + "    home: shop#t\n    store: out\n    on_value: as_text\n"))
    assert home.on_value == "as_text"
    assert not hasattr(store, "on_value")
    _, store = options(read(HEAD + "    home: users.parquet\n    store: shop#t\n    on_value: "
                            "set_null\n"))  # fmt: skip
    assert store.on_value == "set_null"


def test_defaults_lie_under_the_flow_and_leave_files_alone(read: Reader) -> None:
    file = read(
        HEAD + "    home: shop#t\n    store: out\n"
        "  b:\n    home: users.parquet\n    store: out2\n"
        "  c:\n    home: shop#t\n    store: out3\n    consistency: snapshot\n"
        "  d:\n    home: {connection: shop, table: t, options: {consistency: snapshot}}\n"
        "    store: out4\n"
        "defaults: {consistency: split}\n"
    )
    build(file.flows[1])
    assert [options(file, at)[0].consistency for at in (0, 2, 3)] == [
        "split",
        "snapshot",
        "snapshot",
    ]


@pytest.mark.parametrize(
    ("text", "line", "what", "hint"),
    [
        ("    home: users.parquet\n    store: out\n    consistency: split\n", 6,
         "'consistency' is for tables of PostgreSQL and MariaDB, and no end of this flow supports",
         "take `consistency` out"),
        ("    home: users.parquet\n    store: shop#t\n    consistency: split\n", 6,
         "no end of this flow supports it", "take"),
        ("    home: 'sqlite:///x.db#t'\n    store: out\n    on_value: set_null\n", 6,
         "SQLite does not support `on_value`; PostgreSQL and MariaDB do", "take `on_value` out"),
        ("    home: shop#t\n    store: out\n    consistency: splitt\n", 6,
         "'consistency' is 'splitt'", "did you mean 'split'"),
        ("    home: shop#t\n    store: out\n    on_value: {x: null_it, y: as_text}\n", 6,
         "'on_value' is 'null_it'", "error, set_null"),
        ("    home: {connection: shop, table: t, options: {consistency: snapshot}}\n"
         "    store: out\n    consistency: split\n", 4,
         "'options.consistency' of the home is 'snapshot', and 'consistency' of the flow (line 6)",
         "keep one of them"),
        ("    home: shop#t\n    store: out\ndefaults: {consistency: maybe}\n", 6,
         "'consistency' is 'maybe'", "snapshot, split"),
    ],
)  # fmt: skip
def test_what_cannot_be_decided_so_is_said_with_its_line(
    read: Reader, text: str, line: int, what: str, hint: str
) -> None:
    message = refused(read, HEAD + text)
    assert f"flows.yml:{line}: " in message
    assert what in message
    assert hint in message.partition("hint:")[2]


def test_a_database_that_does_not_support_an_option_refuses_it(read: Reader) -> None:
    text = HEAD + "    home: 'sqlite:///x.db#t'\n    store: shop#t\n    on_value: set_null\n"
    home, store = options(read(text))
    assert (home.on_value, store.on_value) == ("error", "set_null")
    text = HEAD + "    home: 'sqlite:///x.db#t'\n    store: out\ndefaults: {consistency: split}\n"
    assert options(read(text))[0].consistency == "snapshot"
    for asked in ({"on_value": "as_text"}, {"consistency": "split"}):
        with pytest.raises(
            ConfigError, match="SQLite does not support .*; PostgreSQL and MariaDB do"
        ):
            SQLHome("t", connection="sqlite:///x.db", options=asked)


def test_a_driver_without_a_fast_path_refuses_an_option_in_true_words(read: Reader) -> None:
    url = "postgresql+psycopg2://u@h/d"
    for connector in (SQLHome, SQLStore):
        with pytest.raises(ConfigError) as caught:
            connector("t", connection=url, options={"on_value": "set_null"})
        assert REASON in caught.value.message
        assert "connect through the driver psycopg" in (caught.value.hint or "")


REASON = "PostgreSQL through psycopg2 does not support `on_value`; PostgreSQL and MariaDB do"


@pytest.mark.parametrize(
    "text",
    [
        "flows:\n  a: {home: '{url}#t', store: out, on_value: set_null}\n",
        "flows:\n  a: {home: users.parquet, store: '{url}#t', on_value: set_null}\n",
        "flows:\n  a: {home: shop#t, store: out, on_value: set_null}\n"
        "connections: {shop: '{url}'}\n",
        "flows:\n  a: {home: {table: t}, store: out, on_value: set_null}\n"
        "defaults: {home: {connection: '{url}'}}\n",
    ],
)
def test_check_refuses_an_option_of_such_a_driver_for_the_same_reason(
    read: Reader, text: str
) -> None:
    message = refused(read, text.replace("{url}", "postgresql+psycopg2://u@h/d"))
    line = 1 + text[: text.index("on_value")].count("\n")
    assert f"flows.yml:{line}: flow 'a': {REASON}" in message
    hint = message.partition("hint: ")[2]
    assert hint == "take `on_value` out, or connect through the driver psycopg"


# Connections.


def shop(*lines: str) -> str:
    said = "".join(f"    {line}\n" for line in lines)
    return f"connections:\n  shop:\n{said}flows:\n  a:\n    home: shop#t\n    store: out\n"


def test_timeouts_travel_in_the_url_and_the_bound_with_the_file(read: Reader) -> None:
    file = read(
        shop(f"url: {PG}", "max_connections: 7", "connect_timeout: 2500ms",
             "statement_timeout: 10m")
    )  # fmt: skip
    url = make_url(file.flows[0].home.settings["connection"])
    assert dict(url.query) == {
        "sslmode": "require", "connect_timeout": "3", "statement_timeout": "600s",
    }  # fmt: skip
    assert (url.password, url.host) == ("p@#x", "h")
    assert file.max_connections == {"shop": 7}
    assert file.flows[0].home.connection == "shop"


@pytest.mark.parametrize(
    ("lines", "line", "what", "hint"),
    [
        ((f"url: {PG}", "max_conections: 3"), 4, "does not know 'max_conections'",
         "did you mean 'max_connections'"),
        ((f"url: {PG}", "max_connections: 0"), 4, "at least 1 is needed", ""),
        ((f"url: {PG}", "statement_timeout: soon"), 4, "not a duration", "10m"),
        ((f"url: {PG}&connect_timeout=3", "connect_timeout: 3s"), 4, "in the URL as well", "keep"),
        (("url: sqlite:///x.db", "max_connections: 3"), 4, "sqlite is a file", "take"),
        (("url: mssql+pyodbc://h/d", "statement_timeout: 3s"), 4, "not built for mssql+pyodbc",
         "postgresql, mysql"),
        (("max_connections: 3",), 2, "connection 'shop' needs 'url'", "postgresql://"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_connection_is_said_with_its_line(
    read: Reader, lines: tuple[str, ...], line: int, what: str, hint: str
) -> None:
    message = refused(read, shop(*lines))
    assert f"flows.yml:{line}: " in message
    assert what in message
    assert hint in message
    assert "p%40" not in message


# Many tables.

MANY = HEAD + "    home:\n      connection: shop\n      tables: ['public.*', 'sales.order_*']\n"


def test_patterns_are_read_without_asking_the_database(read: Reader) -> None:
    file = read(MANY + "      exclude: public.tmp_*\n      views: true\n      cursor: at\n"
                "    mode: append\n    lanes: 2\n    store: lake/{schema}/{table}\n"
                "    tables:\n      public.orders: {columns: [id, at]}\n")  # fmt: skip
    flow = file.flows[0]
    assert flow.tables is not None
    assert flow.tables.include == ("public.*", "sales.order_*")
    assert flow.tables.exclude == ("public.tmp_*",)
    assert flow.tables.views
    assert flow.store.settings["path"].endswith("/lake/{schema}/{table}")


def test_what_one_table_says_lies_over_what_all_say(read: Reader) -> None:
    flow = read(
        MANY + "      cursor: at\n      options: {batch_size: 7}\n"
        "    mode: append\n    lanes: 2\n    store: 'shop#copy.{table}'\n    on_value: as_text\n"
        "    tables:\n      public.orders: {mode: merge, key: [id], lanes: 8, columns: [id, at]}\n"
        "      public.one: {on_value: set_null}\n"
    ).flows[0]
    orders, one = (flow.tables.overrides[f"public.{name}"] for name in ("orders", "one"))
    assert (orders.mode, orders.key, orders.limits.lanes) == ("merge", ("id",), 8)
    assert orders.home.settings["columns"] == ["id", "at"]
    assert orders.home.settings["cursor"] == "at"
    assert orders.home.settings["options"] == {"batch_size": 7, "on_value": "as_text"}
    assert (one.mode, one.key, one.limits.lanes) == ("append", (), 2)
    assert one.store.settings["options"] == {"on_value": "set_null"}
    assert orders.store.settings["table"] == "copy.{table}"


@pytest.mark.parametrize(
    ("text", "line", "what", "hint"),
    [
        (MANY + "    store: lake/all\n", 7, "one place for all of them", "{schema}/{table}"),
        (MANY + "    store: 'lake/{tabel}'\n", 7, "'{tabel}' of the store means nothing",
         "did you mean 'table'"),
        (MANY + "      table: x\n    store: 'lake/{table}'\n", 6, "'tables' and 'table' both",
         "keep one"),
        (MANY + "    store: 'shp#{table}'\n", 7, "there is no connection 'shp'", "mean 'shop'"),
        (HEAD + "    home: shop#public.*\n    store: lake\n", 4,
         "'table' is the pattern 'public.*'", 'tables: ["public.*"]'),
        (MANY + "      views: perhaps\n    store: 'lake/{table}'\n", 7, "'views' is 'perhaps'",
         "true"),
        (MANY + "      colums: [a]\n    store: 'lake/{table}'\n", 7, "does not know 'colums'",
         "mean 'columns'"),
        (HEAD + "    home: {connection: shop, tables: []}\n    store: 'lake/{table}'\n", 4,
         "'tables' is not a list of patterns", "public.*"),
        (HEAD + "    home: shop#t\n    store: 'lake/{table}'\n", 5, "the home has no `tables`",
         "public.*"),
        (HEAD + "    home: shop#t\n    store: lake\n    tables: {t: {key: [id]}}\n", 6,
         "its home has no patterns", "tables:"),
        (HEAD + "    home: {path: users.parquet, tables: [x]}\n    store: 'lake/{table}'\n", 4,
         "'tables' is for homes of databases and catalogs, and this", "path"),
        (MANY + "    store: 'lake/{table}'\n    tables:\n      public.t: {kee: [id]}\n", 9,
         "table 'public.t' cannot have its own 'kee'", "did you mean 'key'"),
        (MANY + "    store: 'lake/{table}'\n    tables:\n      public.t: {store: x}\n", 9,
         "cannot have its own 'store'", "set once, for all tables"),
        (MANY + "    store: 'lake/{table}'\n    tables:\n      public.t: {mode: merge}\n", 9,
         "", "mode: replace"),
        (MANY + "    store: 'lake/{table}'\n    tables:\n      public.t: {cursor: at}\n", 9,
         "'cursor' with mode replace", "mode: append"),
        (MANY + "    store: 'lake/{table}'\n    tables: [public.t]\n", 8,
         "'tables' is a list, not a mapping", "lanes: 8"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_many_tables_is_said_with_its_line(
    read: Reader, text: str, line: int, what: str, hint: str
) -> None:
    message = refused(read, text)
    assert f"flows.yml:{line}: flow 'a': " in message
    assert what in message
    assert hint in message.partition("hint:")[2]


def test_what_is_wrong_for_all_tables_is_said_once(read: Reader) -> None:
    message = refused(read, MANY + "      colums: [a]\n    store: 'lake/{table}'\n    tables:\n"
                      "      public.t: {key: [id]}\n      public.u: {lanes: 0}\n")  # fmt: skip
    assert message.count("does not know 'colums'") == 1
    assert message.count("at least 1 is needed") == 1


def test_one_table_of_many_can_be_selected(read: Reader) -> None:
    file = read(MANY + "    store: 'lake/{table}'\n  b: {home: users.parquet, store: out}\n")
    one = select(file, ["a.public.orders", "a.sales.order_1"]).flows
    assert [flow.name for flow in one] == ["a"]
    assert one[0].tables.selected == ("public.orders", "sales.order_1")
    assert select(file, ["a.public.orders", "a"]).flows[0].tables.selected == ()
    with pytest.raises(UsageError, match=r"no flow 'b\.x'"):
        select(file, ["b.x"])


def test_the_yaml_of_the_reference_is_right(tmp_path: Path) -> None:
    readme = (ROOT / "docs" / "flows.md").read_text()
    blocks = [each.partition("```")[0] for each in readme.split("```yaml\n")[1:]]
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "users.parquet").touch()
    variables = dict.fromkeys(("SHOP_PASSWORD", "LAKE_ID", "LAKE_SECRET"), "p")
    for number, block in enumerate(blocks):
        (tmp_path / f"{number}.yml").write_text(block)
        assert read_flows(tmp_path / f"{number}.yml", variables).flows
    assert len(blocks) >= 4
