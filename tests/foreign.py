"""Readers and writers that know nothing of hygge, for the contracts of file connectors."""

from __future__ import annotations

from pathlib import Path


def dataset_rows(kind):
    """`rows` of a StoreContract: what pyarrow.dataset sees in a directory."""
    import pyarrow.dataset as ds

    def rows(self, store):
        files = ds.dataset(store.path, format=kind).files if Path(store.path).is_dir() else []
        return ds.dataset(files, format=kind).to_table() if files else None

    return rows


def plant_file(self, store):
    """`plant_foreign` of a StoreContract: a file that somebody else put there."""
    file = Path(store.path) / "theirs.txt"
    file.parent.mkdir(parents=True)
    file.write_text("theirs")
    return lambda: file.exists() and file.read_text() == "theirs"


def sqlite_rows(self, store):
    """`rows` of a StoreContract: whether sqlite3 sees the table, and what it declares is in it."""
    import sqlite3
    from contextlib import closing

    import pyarrow as pa

    from hygge import SQLHome

    path = store.settings.connection.removeprefix("sqlite:///")
    with closing(sqlite3.connect(path)) as database:
        found = "SELECT count(*) FROM sqlite_master WHERE name = ?"
        if not database.execute(found, [store.table]).fetchone()[0]:
            return None
    # SQLite's own types are too few to compare by: the declared ones are read as hygge reads them.
    with SQLHome(store.table, connection=store.settings.connection).open() as plan:
        home = SQLHome(store.table, connection=store.settings.connection)
        tables = [batch for split in plan.splits for batch in home.read(split)]
        schema = pa.schema([(column.name, column.type) for column in plan.columns])
    return pa.concat_tables([schema.empty_table(), *tables])
