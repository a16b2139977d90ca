"""Mistakes in flows.yml: all are reported at once, each with its line and a hint."""

from __future__ import annotations

import textwrap
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from hygge import Flow, ParquetHome, ParquetStore
from hygge.config.flows import read_flows
from hygge.errors import ConfigError, FlowFailed

EMPTY = "a whole file is"
GOOD = "flows:\n  a:\n    home: users.parquet\n    store: out\n"


def error_of(folder: Path, text: str | bytes, environ: dict[str, str] | None = None) -> str:
    """Return the error of reading `text`, without the path of the folder."""
    file = folder / "flows.yml"
    file.write_bytes(text if isinstance(text, bytes) else textwrap.dedent(text).encode())
    with pytest.raises(ConfigError) as caught:
        read_flows(file, environ or {})
    return str(caught.value).replace(f"{folder}/", "")


@pytest.mark.parametrize(
    ("text", "line", "what", "hint"),
    [
        ("", 1, "the file is empty", EMPTY),
        ("# only words\n", 1, "the file is empty", EMPTY),
        ("- a\n- b\n", 1, "does not begin with keys", EMPTY),
        ("just text\n", 1, "does not begin with keys", EMPTY),
        ("flows:\n\ta:\n", 2, "a tab", "use spaces"),
        ("flows:\n  a:\n  \thome: x\n", 3, "a tab", "use spaces"),
        ("flows:\n  a: {home: \tx}\n", 2, "a tab", "use spaces"),
        ("flows:\n  a:\n    home:data/x\n    store: y\n", 3, "no space after", "write `home: …`"),
        ("flows:\n  a:\n    home: x\n     store: y\n", 4, "another indentation", "one column"),
        ("flows:\n  a:\n    home: x\n   store: y\n", 4, "does not fit", "one column"),
        ("flows:\n  a:\n    home: {DIR}/x\n", 3, "unquoted braces", "in quotes"),
        ("flows:\n  a:\n    home: {n}.parquet\n    store: x\n", 3, "unquoted braces", "in quotes"),
        ("flows:\n  a:\n    home: {path: ${DIR}/x}\n", 3, "unquoted braces", "in quotes"),
        ("flows:\n  a:\n    home: {DIR}\n    store: x\n", 3, "{DIR} without a value", "in quotes"),
        ("flows:\n  a:\n    home: {{ D }}\n    store: x\n", 3, "a key that is itself", "in quotes"),
        ("flows:\n  a:\n    home: *.csv\n", 3, "begins an alias", '"*.csv"'),
        ("flows:\n  a:\n    home: *users\n", 3, "begins an alias", "in quotes"),
        ("flows:\n  a:\n    home: @x\n", 3, "cannot begin with @", "in quotes"),
        ("flows:\n  a:\n    home: 'x\n    store: y\n", 3, "a quote is opened", "close it"),
        ('flows:\n  a:\n    home: "c:\\x"\n', 3, "a backslash", "single quotes"),
        ("flows:\n  a: {home: x\n  b: 1\n", 2, "a { or [ is opened", "close it"),
        ("flows: {}\n---\nflows: {}\n", 2, "a second document", "delete the ---"),
        ("flows:\n  a:\n    home: !env X\n    store: y\n", 3, "the tag !env", "leave it out"),
        ("flows: &a\n  a: *a\n", 1, "an anchor", "spell it out"),
        ("flows:\n  a: b\x00\n", 2, "a control character", "delete it"),
        (b"flows:\n  a: \xff\n", 2, "not UTF-8", "save the file as UTF-8"),
        (GOOD + "    home: x\n", 5, "'home' stands twice, on lines 3 and 5", "keep one"),
        ("flows:\n", 1, "there are no flows", EMPTY),
        ("jobs: one\n", 1, "there are no flows", EMPTY),
        ("flows:\n  - name: a\n", 1, "'flows' is a list", EMPTY),
        ("flows:\n  a: users.parquet\n", 2, "it is 'users.parquet', not a mapping", "a: {home:"),
    ],
)
def test_yaml_that_cannot_be_read_is_put_into_words(
    tmp_path: Path, text: str | bytes, line: int, what: str, hint: str
) -> None:
    (tmp_path / "users.parquet").touch()
    message = error_of(tmp_path, text)
    assert message.startswith(f"flows.yml:{line}: ")
    first, _, rest = message.partition("hint:")
    assert what in first
    assert hint in rest


@pytest.mark.parametrize(
    ("text", "line", "what", "hint"),
    [
        ("flow:\n  a: {home: users.parquet, store: x}\n", 1, "'flow' is not", "mean 'flows'"),
        ("a:\n  home: users.parquet\n  store: x\n", 1, "'a' is not", "under `flows:`"),
        (GOOD + "lanes: 4\n", 5, "'lanes' is not", "belongs to a flow"),
        (GOOD + "    modes: append\n", 5, "'modes' is not", "mean 'mode'"),
        (GOOD + "    batch_size: 5\n", 5, "'batch_size' is not", "under `options` of `home:`"),
        (GOOD + "    columns: [a]\n", 5, "'columns' is not", "it belongs under `home:`"),
        (GOOD + "    mode: overwrite\n", 5, "'mode' is 'overwrite'", "mean 'replace'"),
        (GOOD + "    mode: apend\n", 5, "'mode' is 'apend'", "mean 'append'"),
        (GOOD + "    lanes: many\n", 5, "'lanes' is 'many'", "lanes: auto"),
        (GOOD + "    lanes: 0\n", 5, "'lanes' is 0", "lanes: auto"),
        (GOOD + "    lanes: true\n", 5, "'lanes' is true", "lanes: auto"),
        (GOOD + "    batch_bytes: 3 apples\n", 5, "not a size", "256MiB"),
        (GOOD + "    batch_bytes: 1GiB\n", 5, "more than memory_per_lane", "memory_per_lane"),
        (GOOD + "    stall_timeout: soon\n", 5, "not a duration", "10m"),
        (GOOD + "    key: {id: int}\n", 5, "'key' is not a list of names", "key: [id]"),
        (GOOD + "    key: [id, id]\n", 5, "names 'id' twice", "keep one"),
        (GOOD + "    mode: merge\n    key: [id]\n", 5, "cannot merge; its modes:", "mode: "),
        (GOOD + "    depends_on: b\n", 5, "there is no such flow", "flows: a"),
        (GOOD + "    depends_on: [a]\n", 5, "in a circle: a → a", "take one"),
        (GOOD + "max_parallel_flows: lots\n", 5, "'max_parallel_flows' is", "4"),
        (GOOD + "jobs: eech\n", 5, "'jobs' is 'eech'", "mean 'each'"),
        (GOOD + "root: 5\n", 5, "'root' is 5", "root: ."),
        (GOOD + "root: users.parquet\n", 5, "is not a folder", ""),
        (GOOD + "connections: {shop: shop.db}\n", 5, "not a database URL", "sqlite:///shop.db"),
        (GOOD + "connections: {shop: {uri: x://y}}\n", 5, "does not know 'uri'", "mean 'url'"),
        (GOOD + "connections: {s: 'postgres://u@h/d'}\n", 5, "'postgres'", "postgresql://"),
        (GOOD + "connections: {s: 'sqllite:///d'}\n", 5, "'sqllite'", "sqlite://"),
        (GOOD + "defaults: {depends_on: [x]}\n", 5, "'depends_on' is not a default", "defaults:"),
        (GOOD + "defaults: {store: x}\n", 5, "default of 'store' is 'x'", "defaults:"),
        (GOOD + "defaults: {store: {name: x}}\n", 5, "'name' cannot be a default", "each flow"),
        ("flows:\n  'a b': {home: users.parquet, store: x}\n", 2, "no name for a flow", "a_b:"),
        ("flows:\n  a:\n    home: users.parquet\n", 2, "it has no 'store'", "store: data/lake"),
        ("flows:\n  a:\n    home: [x]\n    store: x\n", 3, "'home' is a list", "home: data"),
        ("flows:\n  a:\n    home:\n    store: x\n", 3, "'home' is empty", "home: data"),
        ("flows:\n  a:\n    home: {pth: x}\n    store: x\n", 3, "'home' needs", "mean 'path'"),
    ],
)
def test_a_wrong_word_is_named_with_its_line_and_the_nearest_right_one(
    tmp_path: Path, text: str, line: int, what: str, hint: str
) -> None:
    (tmp_path / "users.parquet").touch()
    message = error_of(tmp_path, text)
    assert f"flows.yml:{line}: " in message
    assert what in message
    assert hint in message.partition("hint:")[2]


@pytest.mark.parametrize(
    ("text", "line", "what", "example"),
    [
        ("flows:\n  home: a.csv\n  store: out\n", 2,
         "'home', 'store' are keys of a flow", "users:"),
        ("flows:\n  a:\n  home: a.csv\n  store: out\n  mode: append\n", 3,
         "'home', 'store', 'mode' are keys of a flow", "a:"),
        ("flows:\n  a:\n    home: a.csv\n  store: {path: out}\n", 4,
         "'store' is a key of a flow", "users:"),
    ],
)  # fmt: skip
def test_keys_of_a_flow_that_are_not_indented_are_one_mistake(
    tmp_path: Path, text: str, line: int, what: str, example: str
) -> None:
    (tmp_path / "a.csv").touch()
    message = error_of(tmp_path, text)
    assert f"flows.yml:{line}: {what}" in message
    assert f"the keys of a flow stand indented under its name:  {example} {{home: …" in message
    assert "not a mapping" not in message


def test_a_flow_may_have_the_name_of_a_key(tmp_path: Path) -> None:
    (tmp_path / "users.parquet").touch()
    text = "flows:\n  home: {home: users.parquet, store: out}\n  tags: {home: out, store: out2}\n"
    (tmp_path / "flows.yml").write_text(text)
    assert [flow.name for flow in read_flows(tmp_path / "flows.yml", {}).flows] == ["home", "tags"]


@pytest.mark.parametrize(
    ("text", "word"),
    [
        *(
            (f"flows:\n  a:\n    home: users.parquet\n    store: {scheme}://b/x\n", scheme)
            for scheme in ("hdfs", "http", "https")
        ),
        ("flows:\n  a:\n    home: {path: 'hdfs://b/x.parquet'}\n    store: out\n", "hdfs://"),
    ],
)
def test_what_is_not_built_yet_is_refused_as_that(tmp_path: Path, text: str, word: str) -> None:
    (tmp_path / "users.parquet").touch()
    message = error_of(tmp_path, text)
    assert "not built yet" in message
    assert word in message
    assert "not a key" not in message


def test_every_mistake_of_a_file_is_listed_once_and_in_its_order(tmp_path: Path) -> None:
    (tmp_path / "users.parquet").touch()
    message = error_of(
        tmp_path,
        "flows:\n"
        "  users:\n"
        "    home: users.parquet\n"
        "    stor: lake/users\n"
        "  orders:\n"
        "    home: ordrs\n"
        "    store: {path: lake/orders, options: {compresion: zstd, file_bytes: lots}}\n"
        "    mode: upsert\n",
    )
    lines = [line for line in message.splitlines() if line.startswith("flows.yml:")]
    assert lines == [
        "flows.yml:4: flow 'users': 'stor' is not a key of a flow",
        "flows.yml:6: flow 'orders': there is no 'ordrs'",
        "flows.yml:7: flow 'orders': ParquetStore does not know 'options.compresion'",
        "flows.yml:7: flow 'orders': ParquetStore: 'options.file_bytes' is 'lots': "
        "input should be a valid integer, unable to parse string as an integer",
        "flows.yml:8: flow 'orders': 'mode' is 'upsert'",
    ]
    for near in ("'store'", "'compression'", "'merge'"):
        assert f"did you mean {near}?" in message


@pytest.mark.parametrize(
    ("store", "hint"),
    [
        ("{type: delta, path: d, partition_by: day}", "a list of one: partition_by: ['day']"),
        ("'o.duckdb#'", "store: o.duckdb#table"),
    ],
)
def test_a_hint_has_the_form_that_is_right(tmp_path: Path, store: str, hint: str) -> None:
    (tmp_path / "in.csv").write_text("day\n1\n")
    text = f"flows: {{f: {{home: in.csv, store: {store}}}}}\n"
    assert hint in error_of(tmp_path, text)


def test_a_file_that_is_not_there_is_named_with_the_one_that_is(tmp_path: Path) -> None:
    (tmp_path / "flows.yml").touch()
    with pytest.raises(ConfigError, match=r"there is no file .*flow\.yml") as caught:
        read_flows(tmp_path / "flow.yml", {})
    assert "did you mean" in str(caught.value)
    with pytest.raises(ConfigError, match="no file") as caught:
        read_flows(tmp_path / "none" / "flow.yml", {"RAY_JOB_ID": "01"})
    assert "ray job submit --working-dir . -- hygge flow.yml" in str(caught.value)


@pytest.mark.parametrize(
    ("home", "what", "hint"),
    [
        ("mixed", "more than one type: csv (a.csv) and parquet (deep/b.parquet)", "type: csv"),
        ("user", "there is no 'user'", "users.parquet"),
        ("bare", "holds no file of a known type", "type: csv"),
        ("notes.txt", "what type is 'notes.txt'? No home ends in '.txt'", "type: csv"),
        ("nothing/*", "no file matches 'nothing/*'", "**"),
        ("shp#users", "there is no connection 'shp'", "did you mean 'shop'?"),
        ("shop", "'shop' is a connection, and 'home' needs a table", "shop#table"),
        ("sqlite:///x.db", "a database URL without a table", "url#table"),
        ("postgresql://u:hushhush@h/d", "without a table: postgresql://u:***@h/d", "url#table"),
        ("md:shop#users", "MotherDuck is not built", "duckdb:///path"),
        ("duckdb:///md:shop#users", "MotherDuck is not built", "duckdb:///path"),
        ("{connection: shp, table: t}", "there is no connection 'shp'", "did you mean 'shop'?"),
        ("{connection: 'shop#t'}", "which names a table as well", "connection: shop"),
        ("{path: 'sqlite:///x.db', table: t}", "SQLHome does not know 'path'", "it knows"),
        ("{path: 'sqlite:///x.db'}", "'path' is a database URL", "connection"),
        ("{type: parqet, path: x}", "no home of type 'parqet'", "did you mean 'parquet'?"),
    ],
)  # fmt: skip
def test_a_home_that_cannot_be_told_is_an_error_with_the_way_out(
    tmp_path: Path, home: str, what: str, hint: str
) -> None:
    for name in ("mixed/a.csv", "mixed/deep/b.parquet", "bare/.x", "notes.txt", "users.parquet"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    home = home if home.startswith("{") else f"'{home}'"
    message = error_of(
        tmp_path,
        f"connections: {{shop: 'sqlite:///shop.db'}}\nflows:\n  a:\n"
        f"    home: {home}\n    store: out\n",
    )
    assert "flows.yml:4: flow 'a': " in message
    assert what in message
    assert hint in message.partition("hint:")[2]


def test_in_a_ray_job_a_missing_file_gets_the_full_command(tmp_path: Path) -> None:
    message = error_of(tmp_path, "flows: {a: {home: nope, store: out}}", {"RAY_JOB_ID": "01000000"})
    assert "ray job submit --working-dir . -- hygge flows.yml" in message


def test_a_store_inside_the_shipped_working_directory_is_refused(tmp_path: Path) -> None:
    root = "/tmp/ray/session_1/runtime_resources/working_dir_files/_ray_pkg_1"
    home = "home: /x.parquet"
    text = f"root: {root}\nflows: {{a: {{{home}, store: out}}, b: {{{home}, store: /keep/out}}}}"
    message = error_of(tmp_path, text)
    assert "flow 'a': the store lies in the working directory that was shipped" in message
    assert "flow 'b'" not in message
    assert "flows.yml:1: the state, .hygge, lies in the working directory" in message


def test_a_path_that_the_shipped_working_directory_holds_is_refused_from_python_too(tmp_path):
    shipped = tmp_path / "runtime_resources/working_dir_files/_ray_pkg_1"
    pq.write_table(pa.table({"id": [1]}), tmp_path / "users.parquet")
    home = ParquetHome("users", path=tmp_path / "users.parquet")
    for out, state in ((shipped / "out", tmp_path / "s"), (tmp_path / "out", shipped / "s")):
        store = ParquetStore("users", path=out)
        with pytest.raises(FlowFailed, match=f"the (store|state), {shipped}"):
            Flow(home=home, store=store, state=state, engine="inline").run()


def test_a_variable_that_the_cluster_lacks_is_not_looked_for_in_a_file_that_is_not_shipped(
    tmp_path: Path,
) -> None:
    shipped = tmp_path / "runtime_resources/working_dir_files/_ray_pkg_1"
    shipped.mkdir(parents=True)
    message = error_of(shipped, "flows: {a: {home: '${SHOP}', store: /keep/out}}")
    assert "set SHOP on the cluster's nodes" in message
    assert ".env" not in message


@pytest.mark.parametrize(
    ("state", "what", "hint"),
    [
        ("/tmp/x/runtime_resources/working_dir_files/_ray_pkg_1/s", "would be deleted", "s3://"),
        ("ftp://host/state", "'state' is", "s3://"),
        ("true", "true where text is needed", ""),
        ("{path: x}", "where text is needed", ""),
    ],
)
def test_a_state_that_cannot_be_one_is_refused(tmp_path: Path, state: str, what: str, hint: str):
    (tmp_path / "users.parquet").touch()
    message = error_of(tmp_path, GOOD + f"state: {state}\n")
    assert f"flows.yml:{GOOD.count(chr(10)) + 1}: " in message
    assert what in message
    assert hint in message


def test_a_missing_variable_is_named_with_its_line_and_nothing_follows_from_it(
    tmp_path: Path,
) -> None:
    message = error_of(
        tmp_path,
        "flows:\n  a:\n    home: ${DATA_DIR}/x\n    store: ${file:/no/such}\n",
        {"DATA_DIRS": "/x"},
    )
    assert "flows.yml:3: flow 'a': the variable DATA_DIR is not set" in message
    assert "did you mean DATA_DIRS?" in message
    assert "${DATA_DIR:-default}" in message
    assert "flows.yml:4: flow 'a': ${file:/no/such} cannot be read" in message
    assert message.count("flows.yml:") == 2


def test_a_wrong_line_of_dotenv_is_named_without_its_text(tmp_path: Path) -> None:
    (tmp_path / "users.parquet").touch()
    (tmp_path / ".env").write_text("A=1\nhunter2 is it\nB='open\n")
    message = error_of(tmp_path, "flows: {a: {home: users.parquet, store: out}}")
    assert ".env:2: not KEY=value" in message
    assert ".env:3: a quote is not closed" in message
    assert "hunter2" not in message


def test_a_default_that_nobody_knows_is_refused_once_with_the_nearest(tmp_path: Path) -> None:
    (tmp_path / "users.parquet").touch()
    message = error_of(
        tmp_path,
        """
        defaults: {store: {options: {compresion: zstd, file_bytes: lots}}}
        flows:
          a: {home: users.parquet, store: out/a}
          b: {home: users.parquet, store: out/b}
        """,
    )
    assert message.count("no store of this file knows the default option 'compresion'") == 1
    assert "did you mean 'compression'?" in message
    assert message.count("'options.file_bytes' is 'lots'") == 1


def test_secrets_are_in_no_message_and_no_repr(tmp_path: Path) -> None:
    secrets = {"PW": "hunter2-secret", "LONG": "abcdefgh" * 20, "SHORT": "pw1", "ODD": "it's\\odd"}
    message = error_of(
        tmp_path,
        """
        connections: {shop: "postgresql://u:${PW}@h/d"}
        flows:
          a:
            home: {connection: shop, table: t, options: {batch_size: "${LONG}"}}
            store: {path: out, options: {compression: "${SHORT}", file_bytes: "${ODD}"}}
            lanes: ${PW}
          b: {home: {connection: "shop://u:literal@h/d ${PW}", tabel: t}, store: "s.${SHORT}"}
        """,
        secrets,
    )
    for secret in (*secrets.values(), "abcdefgh", "literal", "odd"):
        assert secret not in message
    assert "'options.compression' is '${SHORT}'" in message
    text = """
    flows: {a: {home: {connection: "postgresql://u:${PW}@h/d", table: t}, store: out}}
    """
    (tmp_path / "flows.yml").write_text(textwrap.dedent(text))
    file = read_flows(tmp_path / "flows.yml", secrets)
    assert "hunter2" not in repr(file)
    assert "hunter2-secret" in file.flows[0].home.settings["connection"]
