"""What becomes of each type of a database, and the page that says so: docs/types.md.

Every value of `type_cases` goes to Parquet and back, and straight into another database of the
same kind; the databases themselves write down what they hold, and the texts must be the same. The
page is printed from what was seen; it is compared with the one in docs/, and HYGGE_WRITE_DOCS=1
writes it.
"""

from __future__ import annotations

import os

import pyarrow.parquet as pq
import pytest

from hygge import Flow, ParquetHome, ParquetStore, SQLHome, SQLStore
from hygge.errors import FlowFailed, UnfitValue
from tests import ROOT
from tests.connectors.sql.type_cases import POSTGRES, POSTGRES_MISFITS

pytest_plugins = ["tests.servers.postgres"]
PAGE = ROOT / "docs" / "types.md"


def moved(home, store, folder, **more):
    return Flow(home, store, name="f", engine="inline", state=folder / "state", **more).run()


def url_of(pg, database):
    return pg.url.rpartition("/")[0] + f"/{database}"


def asked(url, sql, *values):
    import psycopg

    with psycopg.connect(url.replace("+psycopg", ""), autocommit=True) as connection:
        connection.execute("SET timezone = 'UTC'")
        cursor = connection.execute(sql, values or None)
        return cursor.fetchall() if cursor.description else []


def quoted(name):
    return '"' + name.replace('"', '""') + '"'


@pytest.fixture(scope="module")
def databases(pg):
    """Two databases in which the same types have other numbers, and the cases that exist here."""
    import psycopg

    cases = []
    for name in ("one", "two"):
        pg.ask(f"CREATE DATABASE types_{name}")
    for at, url in enumerate((url_of(pg, "types_one"), url_of(pg, "types_two"))):
        if at:
            asked(url, "CREATE TYPE in_between AS ENUM ('so that numbers differ')")
        found = []
        for case in POSTGRES:
            try:
                for statement in case.setup:
                    asked(url, statement)
                asked(url, f"SELECT %s::text::{case.type}::text", case.values[0])
            except (psycopg.errors.FeatureNotSupported, psycopg.errors.UndefinedObject):
                continue  # not in this build of the server
            found.append(case)
        cases = cases or found
        assert found == cases
    assert len(cases) > 50
    return url_of(pg, "types_one"), url_of(pg, "types_two"), cases


def filled(url, table, cases):
    """A table of one column a case, named by its type; a first row of NULLs."""
    columns = ", ".join(f"{quoted(case.type)} {case.type}" for case in cases)
    asked(url, f"CREATE TABLE {table} (n integer PRIMARY KEY, {columns})")
    for row in range(-1, max(len(case.values) for case in cases)):
        values = [case.values[row] if 0 <= row < len(case.values) else None for case in cases]
        places = ", ".join(f"%s::text::{case.type}" for case in cases)
        asked(url, f"INSERT INTO {table} VALUES ({row}, {places})", *values)


def shown(url, table, case):
    text = case.show.format(c=quoted(case.type))
    return asked(url, f"SELECT n, {text} FROM {table} ORDER BY n")


def types_of(url, table):
    return dict(
        asked(
            url,
            "SELECT attname, format_type(atttypid, atttypmod) FROM pg_attribute "
            f"WHERE attrelid = '{table}'::regclass AND attnum > 0 AND NOT attisdropped",
        )
    )


def test_every_type_of_postgresql_goes_to_parquet_and_back_and_the_page_says_so(
    databases, tmp_path
):
    one, _, cases = databases
    filled(one, "every", cases)
    lake = tmp_path / "lake"
    moved(SQLHome("every", connection=one), ParquetStore("lake", path=str(lake)), tmp_path)
    moved(ParquetHome(path=str(lake)), SQLStore("back", connection=one), tmp_path / "b")
    arrow = {field.name: str(field.type) for field in pq.read_table(lake).schema}
    back = types_of(one, "back")
    wrong = [case.type for case in cases if shown(one, "back", case) != shown(one, "every", case)]
    assert wrong == []
    lines = [
        "| PostgreSQL | Arrow and Parquet | back in PostgreSQL | values tried |",
        "|---|---|---|---|",
        *(f"| {c.type} | {arrow[c.type]} | {back[c.type]} | {told(c.values)} |" for c in cases),
    ]  # fmt: skip
    page("postgres", lines)


def told(values):
    """Some of the values for people: short, printable, and no bars, which end a column."""
    plain = [v for v in values if 0 < len(v) < 40 and v.isprintable() and not set("|`") & set(v)]
    return ", ".join(f"`{value}`" for value in plain[:4]) or f"{len(values)} of them"


def page(part, lines):
    """Compare a part of the page, between its two marks, with what was seen; or write it."""
    begin, end = f"<!-- {part}: printed by a test -->\n", f"<!-- {part} ends -->"
    text = PAGE.read_text()
    head, _, rest = text.partition(begin)
    was, _, tail = rest.partition(end)
    now = "\n".join(lines) + "\n"
    if os.environ.get("HYGGE_WRITE_DOCS"):
        PAGE.write_text(head + begin + now + end + tail)
        return
    assert was == now, "docs/types.md says otherwise: HYGGE_WRITE_DOCS=1 writes it anew"


def test_every_type_arrives_identical_in_another_database(databases, tmp_path):
    one, two, cases = databases
    filled(one, "straight", cases)
    home = SQLHome("straight", connection=one)
    moved(home, SQLStore("straight", connection=two), tmp_path)
    for case in cases:
        assert shown(two, "straight", case) == shown(one, "straight", case), case.type
    assert types_of(two, "straight") == types_of(one, "straight")
    rows = asked(one, "SELECT md5(string_agg(t::text, '|' ORDER BY n)) FROM straight t")
    assert rows == asked(two, "SELECT md5(string_agg(t::text, '|' ORDER BY n)) FROM straight t")


@pytest.mark.parametrize("misfit", POSTGRES_MISFITS, ids=lambda each: f"{each.type} {each.value}")
def test_what_arrow_cannot_hold_is_an_error_or_what_the_flow_says(pg, schema, misfit, tmp_path):
    pg.ask(f"CREATE TABLE {schema}.m (n integer, v {misfit.type})")
    values = (misfit.beside, misfit.value, misfit.beside)
    pg.ask(f"INSERT INTO {schema}.m SELECT n, v::{misfit.type} FROM "
           "unnest(%s::int[], %s::text[]) AS t(n, v)", [1, 2, 3], list(values))  # fmt: skip

    def home(**options):
        return SQLHome("m", table=f"{schema}.m", connection=pg.url, options=options)

    decides(home, misfit, tmp_path)


def decides(home, misfit, tmp_path):
    """An error by itself; else what the flow says. `home(**options)` has `n`, and `v` to decide."""

    def read(at, **options):
        moved(home(**options), ParquetStore("out", path=str(tmp_path / at)), tmp_path / f"s{at}")
        return pq.read_table(tmp_path / at).sort_by("n")

    with pytest.raises(FlowFailed) as failed:
        read("error")
    assert isinstance(failed.value.__cause__, UnfitValue)
    said = f"{failed.value.message} {failed.value.hint}"
    for word in ("column 'v'", misfit.value, "set_null", "as_text"):
        assert word in said, said
    nulled = read("null", on_value="set_null").column("v").to_pylist()
    assert nulled[1] is None
    assert nulled[0] is not None
    assert nulled[0] == nulled[2]
    texts = read("text", on_value={"v": "as_text"}).column("v").to_pylist()
    assert texts[1] == misfit.value
    assert texts[0] == misfit.beside
