"""Foreign keys that only show when rows are published: the error says whose rows are in the way."""

from __future__ import annotations

import os
import re
import signal

import pytest

from hygge import SQLStore
from hygge.connectors.mariadb import kept, publish
from hygge.connectors.mariadb import session as my_session
from hygge.errors import FlowFailed, StoreError
from hygge.model import Run
from tests.crash.postgres_points import forked
from tests.fitting import ROWS, flow

pytest_plugins = ["tests.servers.postgres", "tests.servers.mariadb"]

REFERRED = "rows of another table refer to rows that would be removed"
HIDDEN = "a foreign key of a table that this user cannot see"
LACKING = "the rows refer to rows that another table lacks"


def refusal(store, mode, state):
    with pytest.raises(FlowFailed) as caught:
        flow(store, mode, state).run()
    error = caught.value.__cause__
    assert isinstance(error, StoreError), repr(error)
    return error


@pytest.fixture(params=["MariaDB", "MySQL"])
def server(request, monkeypatch):
    """The server is MariaDB, and then one that is taken for MySQL."""
    if request.param == "MySQL":
        monkeypatch.setattr(my_session, "is_mariadb", lambda url, who, side: False)
    return request.param


@pytest.fixture
def narrow(my, my_schema):
    """The Store of a user who sees one database alone."""
    user = f"w{my_schema}@'127.0.0.1'"
    my.ask(f"CREATE USER {user}")
    my.ask(f"GRANT ALL ON {my_schema}.* TO {user}")
    return SQLStore("t", connection=my.url(my_schema, f"w{my_schema}"))


# Of MySQL, nothing shows this user a key with CASCADE.
@pytest.mark.parametrize(
    ("server", "how"),
    [("MariaDB", "RESTRICT"), ("MariaDB", "CASCADE"), ("MySQL", "RESTRICT")],
    indirect=["server"],
)
def test_a_foreign_key_from_a_database_that_the_user_does_not_see_forbids_a_replace(
    my, my_schema, narrow, server, tmp_path, how
):
    other, parent = my.schema(), f"{my_schema}.t"
    flow(narrow, "replace", tmp_path).run()
    my.ask(f"ALTER TABLE {parent} ADD PRIMARY KEY (id)")
    refers = f"FOREIGN KEY (id) REFERENCES {parent} (id) ON DELETE {how}"
    my.ask(f"CREATE TABLE {other}.c (id bigint, {refers})")
    my.ask(f"INSERT INTO {other}.c VALUES (1)")
    my.ask(f"UPDATE {parent} SET v = 'old'")
    before = my.ask(f"SELECT run FROM {my_schema}._hygge_heads")
    if server == "MariaDB":  # before rows move
        with pytest.raises(StoreError, match=HIDDEN):
            narrow.examine(Run("r", "f", "replace"), None)
    error = refusal(narrow, "replace", tmp_path)
    assert (REFERRED if server == "MySQL" else HIDDEN) in error.message
    assert "drop that key" in error.hint
    assert my.ask(f"SELECT DISTINCT v FROM {parent}") == [("old",)]
    assert my.ask(f"SELECT run FROM {my_schema}._hygge_heads") == before
    assert my.ask(f"SELECT * FROM {other}.c") == [(1,)]
    assert len(my.ask(f"SHOW TABLES FROM {my_schema}")) == 3
    my.ask(f"DROP TABLE {other}.c")
    assert flow(narrow, "replace", tmp_path).run().rows == len(ROWS)
    assert my.ask(f"SELECT v FROM {parent} WHERE id = 1") == [("a",)]


@pytest.mark.parametrize(
    "hangs_on_it",
    [
        "CREATE TRIGGER {0}.g AFTER DELETE ON {0}.t FOR EACH ROW INSERT INTO {0}.log VALUES (1)",
        "ALTER TABLE {0}.t ADD COLUMN filled int DEFAULT 7",
        "ALTER TABLE {0}.t ADD FOREIGN KEY (id) REFERENCES {0}.p (id)",
        "ALTER TABLE {0}.t ADD FOREIGN KEY (id) REFERENCES {0}.t (id) ON DELETE CASCADE",
        "CREATE TABLE {0}.seen (id bigint REFERENCES {0}.t (id))",
    ],
    ids=["a trigger", "a column", "its own key", "a key to itself", "a key that is seen"],
)
def test_a_table_that_stays_is_not_emptied_where_a_hidden_key_would_take_other_rows_along(
    my, my_schema, narrow, tmp_path, hangs_on_it
):
    other = my.schema()
    flow(narrow, "replace", tmp_path).run()
    my.ask(f"ALTER TABLE {my_schema}.t ADD PRIMARY KEY (id)")
    my.ask(f"CREATE TABLE {my_schema}.p (id bigint PRIMARY KEY) SELECT id FROM {my_schema}.t")
    my.ask(f"CREATE TABLE {my_schema}.log (id bigint)")
    my.ask(hangs_on_it.format(my_schema))
    narrow.examine(Run("r", "f", "replace"), None)  # nothing is hidden yet
    refers = f"FOREIGN KEY (id) REFERENCES {my_schema}.t (id) ON DELETE CASCADE"
    my.ask(f"CREATE TABLE {other}.c (id bigint, {refers})")
    my.ask(f"INSERT INTO {other}.c VALUES (1)")
    assert HIDDEN in refusal(narrow, "replace", tmp_path).message
    assert my.ask(f"SELECT * FROM {other}.c") == [(1,)]


def test_the_question_for_a_hidden_key_changes_no_table_that_is_altered_meanwhile(
    my, my_schema, narrow, monkeypatch
):
    my.ask(f"CREATE TABLE {my_schema}.t (id bigint, v longtext)")
    real = kept.execute

    def execute(connection, sql):
        my.ask(f"ALTER TABLE {my_schema}.t DROP COLUMN id, ADD COLUMN w int")
        return real(connection, sql)

    monkeypatch.setattr(kept, "execute", execute)
    store = SQLStore("t", connection=narrow.settings.connection, options={"adopt": True})
    store.examine(Run("r", "f", "replace"), None)
    assert [row[0] for row in my.ask(f"SHOW COLUMNS FROM {my_schema}.t")] == ["v", "w"]
    assert "ENGINE=InnoDB" in my.ask(f"SHOW CREATE TABLE {my_schema}.t")[0][1]


def made_in_the_moment_of_the_exchange(my, child, parent, monkeypatch, dies):
    """Make a hidden key right before the RENAME; `dies`: the driver is killed right after it."""
    real = publish.execute

    def execute(connection, sql):
        if not re.match(r"RENAME TABLE `t` TO `\w+_old`", sql):
            return real(connection, sql)
        my.ask(f"CREATE TABLE {child} (id bigint REFERENCES {parent} (id) ON DELETE CASCADE)")
        my.ask(f"INSERT INTO {child} VALUES (1)")
        changed = real(connection, sql)
        if dies:
            os.kill(os.getpid(), signal.SIGKILL)
        return changed

    monkeypatch.setattr(publish, "execute", execute)


@pytest.mark.parametrize("dies", [False, True], ids=["lives", "dies"])
def test_a_hidden_key_that_is_made_in_the_moment_of_the_exchange_is_said(
    my, my_schema, narrow, tmp_path, monkeypatch, dies
):
    """A driver that lives undoes the exchange; of one that dies, the next run says what it left."""
    other, parent = my.schema(), f"{my_schema}.t"
    flow(narrow, "replace", tmp_path).run()
    my.ask(f"ALTER TABLE {parent} ADD PRIMARY KEY (id)")
    my.ask(f"UPDATE {parent} SET v = 'old'")
    with monkeypatch.context() as patched:
        made_in_the_moment_of_the_exchange(my, f"{other}.c", parent, patched, dies)
        if not dies:
            assert HIDDEN in refusal(narrow, "replace", tmp_path).message
            assert my.ask(f"SELECT DISTINCT v FROM {parent}") == [("old",)]
        else:
            assert forked(flow(narrow, "replace", tmp_path).run) == -signal.SIGKILL
    if dies:
        error = refusal(narrow, "replace", tmp_path)
        assert f"{HIDDEN} was made in that moment" in error.message
        (old,) = re.findall("'(_hygge_.*_old)'", error.message)
        assert my.ask(f"SELECT DISTINCT v FROM {my_schema}.{old}") == [("old",)]
        assert my.ask(f"SELECT v FROM {parent} WHERE id = 1") == [("a",)]
        assert "drop that key, and make it anew" in error.hint
    assert my.ask(f"SELECT * FROM {other}.c") == [(1,)]
    my.ask(f"DROP TABLE {other}.c")
    assert flow(narrow, "replace", tmp_path).run().rows == len(ROWS)
    assert my.ask(f"SELECT v FROM {parent} WHERE id = 1") == [("a",)]
    assert len(my.ask(f"SHOW TABLES FROM {my_schema}")) == 3


def test_rows_that_refer_to_none_of_another_table_are_said_in_mariadb(
    my, my_schema, server, tmp_path
):
    my.ask(f"CREATE TABLE {my_schema}.p (id bigint PRIMARY KEY)")
    refers = f"FOREIGN KEY (id) REFERENCES {my_schema}.p (id)"
    my.ask(f"CREATE TABLE {my_schema}.t (id bigint, v longtext, {refers})")
    error = refusal(SQLStore("t", connection=my.url(my_schema)), "append", tmp_path)
    assert LACKING in error.message
    assert "that table before" in error.hint


@pytest.mark.parametrize("driver", ["postgresql", "postgresql+psycopg2"])
@pytest.mark.parametrize("when", ["", "DEFERRABLE INITIALLY DEFERRED"])
def test_a_foreign_key_of_postgresql_is_said(pg, schema, tmp_path, driver, when):
    store = SQLStore(f"{schema}.t", connection=pg.url.replace("postgresql:", f"{driver}:"))
    pg.ask(f"CREATE TABLE {schema}.p (id bigint PRIMARY KEY)")
    pg.ask(f"CREATE TABLE {schema}.t (id bigint REFERENCES {schema}.p {when}, v text)")
    error = refusal(store, "append", tmp_path)
    assert LACKING in error.message
    pg.ask(f"DROP TABLE {schema}.t")
    flow(store, "replace", tmp_path / "2").run()
    pg.ask(f"ALTER TABLE {schema}.t ADD UNIQUE (id)")
    pg.ask(f"CREATE TABLE {schema}.c (id bigint REFERENCES {schema}.t (id) {when})")
    pg.ask(f"INSERT INTO {schema}.t VALUES (9)")
    pg.ask(f"INSERT INTO {schema}.c VALUES (9)")
    error = refusal(store, "replace", tmp_path / "2")
    assert (REFERRED in error.message) or ("refer to it" in error.message)
    assert "drop" in error.hint or "DEFERRABLE" in error.hint
