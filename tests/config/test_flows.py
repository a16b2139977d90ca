"""flows.yml without mistakes: ends, variables, defaults, classes of the user, order."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest

from hygge.config.flows import FlowsFile, build, read_flows
from hygge.errors import ConfigError
from hygge.model import MIB, Limits

Reader = Callable[..., FlowsFile]
SHOP = "postgresql://u:p%40#x@h/d"  # a # in a password is not the # before a table


@pytest.fixture
def read(tmp_path: Path) -> Reader:
    """Return a function that writes flows.yml beside users.parquet, and reads it."""
    (tmp_path / "users.parquet").touch()

    def reading(text: str, environ: dict[str, str] | None = None) -> FlowsFile:
        (tmp_path / "flows.yml").write_text(textwrap.dedent(text))
        return read_flows(tmp_path / "flows.yml", environ or {})

    return reading


def refused(read: Reader, text: str, environ: dict[str, str] | None = None) -> str:
    with pytest.raises(ConfigError) as caught:
        read(text, environ)
    return str(caught.value)


@pytest.fixture
def own(tmp_path: Path) -> str:
    """Write a module of the user beside flows.yml; return its name, which no other test uses."""
    name = f"own_{tmp_path.name}_{os.getpid()}"
    (tmp_path / f"{name}.py").write_text(
        textwrap.dedent(
            """
            from hygge.home import Home
            from hygge.model import StoreTraits
            from hygge.store import Store

            class Api(Home):
                def __init__(self, url, pages=3):
                    if pages == 13:
                        raise ValueError("not that many pages of " + url)
                    self.url, self.pages = url, pages

                async def read_batches(self):
                    yield None

            class Plain(Store):
                async def write(self, df):
                    pass

            class Merging(Store):
                traits = StoreTraits(modes=("append", "merge"))

                def stage(self, *given): ...
                def commit(self, *given): ...
            """
        )
    )
    return name


# What an end means.


def test_two_words_are_a_whole_flow(read: Reader, tmp_path: Path) -> None:
    file = read("flows: {users: {home: users.parquet, store: lake/users}}")
    (flow,) = file.flows
    assert (flow.name, flow.mode, flow.depends_on) == ("users", "replace", ())
    assert flow.limits == Limits()
    assert (flow.home.kind, flow.store.kind) == ("parquet", "parquet")
    assert flow.home.settings == {"path": str(tmp_path / "users.parquet")}
    assert flow.store.settings == {"path": str(tmp_path / "lake/users")}
    assert (file.max_parallel_flows, file.jobs, file.root) == (4, "auto", str(tmp_path))
    home, store = build(flow)
    assert type(home).__name__ == "ParquetHome"
    assert type(store).__name__ == "ParquetStore"


@pytest.mark.parametrize(
    ("home", "kind", "settings"),
    [
        ("sqlite:////abs/x.db#u", "sql", {"connection": "sqlite:////abs/x.db", "table": "u"}),
        ("sqlite:///x.db#users", "sql", {"connection": "sqlite:///ROOT/x.db", "table": "users"}),
        ("shop#public.users", "sql", {"connection": SHOP, "table": "public.users"}),
        ("postgresql://u:a#b@h/d#t", "sql", {"connection": "postgresql://u:a#b@h/d", "table": "t"}),
        ("{connection: shop, query: select 1}", "sql", {"connection": SHOP, "query": "select 1"}),
        (
            "{connection: 'sqlite:///a/../b.db?mode=ro', table: 7}",
            "sql",
            {"connection": "sqlite:///ROOT/b.db?mode=ro", "table": "7"},
        ),
        ("odd#name", "parquet", {"path": "ROOT/odd#name"}),
        ("not_there.parquet", "parquet", {"path": "ROOT/not_there.parquet"}),
        ("days/*", "csv", {"path": "ROOT/days/*"}),
        ("days", "csv", {"path": "ROOT/days"}),
        ("{type: parquet, path: days, name: d}", "parquet", {"path": "ROOT/days"}),
        ("{type: parquet, name: days}", "parquet", {"path": "ROOT/days"}),
        ("/elsewhere/x.parquet", "parquet", {"path": "/elsewhere/x.parquet"}),
        ("file:///elsewhere/x.parquet", "parquet", {"path": "/elsewhere/x.parquet"}),
    ],
)  # fmt: skip
def test_a_home_is_inferred_from_its_words_or_its_contents(
    read: Reader, tmp_path: Path, home: str, kind: str, settings: dict[str, str]
) -> None:
    days = tmp_path / "days"
    for name in ("1.csv", "2.csv.gz", "_skipped/x.parquet", ".hidden/y.parquet", "README.md"):
        (days / name).parent.mkdir(parents=True, exist_ok=True)
        (days / name).touch()
    (tmp_path / "odd#name").mkdir()
    (tmp_path / "odd#name" / "x.parquet").touch()
    word = home if home.startswith("{") else f"'{home}'"
    file = read(f"connections: {{shop: '{SHOP}'}}\nflows: {{a: {{home: {word}, store: out}}}}")
    end = file.flows[0].home
    assert end.kind == kind
    assert end.settings == {k: v.replace("ROOT", str(tmp_path)) for k, v in settings.items()}


def test_a_home_may_be_what_another_flow_will_write(read: Reader) -> None:
    file = read(
        """
        flows:
          second: {home: lake/users, store: lake/again, depends_on: first}
          first: {home: users.parquet, store: {type: arrow, path: lake/users}}
        """
    )
    assert [(flow.name, flow.home.kind) for flow in file.flows] == [
        ("first", "parquet"),
        ("second", "arrow"),
    ]


def test_a_store_with_an_unknown_ending_is_not_taken_for_a_directory(read: Reader) -> None:
    message = refused(read, "flows: {a: {home: users.parquet, store: out.xlsx}}")
    assert "No store ends in '.xlsx'" in message
    assert "store: {type: parquet, path: out.xlsx}" in message
    dotted = read("flows: {a: {home: users.parquet, store: lake/v1.2}}").flows[0]
    assert dotted.store.kind == "parquet"


# Values and variables.


def test_only_true_and_false_are_booleans_and_dates_stay_text(read: Reader, own: str) -> None:
    values = {
        "yes": "yes", "no": "no", "on": "on", "off": "off", "true": True, "false": False,
        "2024-01-01": "2024-01-01", "12:30": "12:30", "0123": "0123", "10_000": 10_000,
        "2024_01": "2024_01", "1.5": 1.5, "-7": -7, "1e3": 1000.0, "NULL": "NULL", "null": None,
        "'5'": "5", "0x1F": "0x1F", "1.2.3": "1.2.3",
    }  # fmt: skip
    for written, meant in values.items():
        home = f"{{type: '{own}:Api', url: {written}}}"
        end = read(f"flows:\n  a: {{home: {home}, store: out}}").flows[0].home
        assert (end.settings["url"], type(end.settings["url"])) == (meant, type(meant)), written


def test_anchors_and_merge_keys_work(read: Reader) -> None:
    file = read(
        """
        flows:
          a: &common
            home: users.parquet
            store: {path: out/a, options: &zstd {compression: zstd}}
            lanes: 2
          b:
            <<: *common
            store: {path: out/b, options: *zstd}
        """
    )
    assert [flow.limits.lanes for flow in file.flows] == [2, 2]
    assert file.flows[1].store.settings["options"] == {"compression": "zstd"}


def test_variables_come_from_the_process_then_from_dotenv_then_from_the_default(
    read: Reader, tmp_path: Path
) -> None:
    (tmp_path / "secret").write_text("from-file\n")
    (tmp_path / ".env").write_text(
        "# words\n\nexport DIR=dotenv # said why\nQUOTED=\"a # b\\n\"\nSINGLE='x y'\nBOTH=dotenv\n"
        "EMPTY=\n"
    )
    home = "${DIR}/${BOTH}/${QUOTED}/${SINGLE}/${NONE:-def}/${EMPTY:-e}/${file:secret}/$${L}"
    text = f"flows:\n  a:\n    home: '{home}.parquet'\n    store: out\n    lanes: ${{N}}\n"
    flow = read(text, {"BOTH": "process", "N": "3"}).flows[0]
    there = "dotenv/process/a # b\n/x y/def/e/from-file/${L}.parquet"
    assert flow.home.settings["path"] == f"{tmp_path}/{there}"
    assert flow.limits.lanes == 3


# Defaults.


def test_defaults_lie_under_every_flow_and_scalars_of_the_flow_win(read: Reader) -> None:
    file = read(
        """
        defaults:
          mode: append
          lanes: 2
          memory_per_lane: 1GiB
          stall_timeout: 10m
          wait_at_most: 2m
          store: {options: {compression: zstd, file_bytes: 1000}}
        flows:
          a: {home: users.parquet, store: out/a}
          b:
            home: users.parquet
            store: {path: out/b, options: {compression: snappy}}
            mode: replace
            lanes: auto
            batch_bytes: 1 MiB
            retries: 0
        """
    )
    a, b = file.flows
    assert (a.mode, b.mode) == ("append", "replace")
    assert a.limits == Limits(
        lanes=2, memory_per_lane=1024 * MIB, stall_timeout_s=600.0, wait_at_most_s=120.0
    )
    assert (b.limits.lanes, b.limits.batch_bytes, b.limits.retries) == (None, MIB, 0)
    assert a.store.settings["options"] == {"compression": "zstd", "file_bytes": 1000}
    assert b.store.settings["options"] == {"compression": "snappy", "file_bytes": 1000}


def test_a_default_goes_only_to_those_who_know_it(read: Reader, own: str) -> None:
    text = f"""
    defaults: {{store: {{options: {{compression: zstd}}}}, home: {{connection: "sqlite:///s.db"}}}}
    flows:
      a: {{home: users.parquet, store: out}}
      b: {{home: {{table: t}}, store: {{type: "{own}:Plain"}}, mode: append}}
    """
    a, b = read(text).flows
    assert "connection" not in a.home.settings
    assert b.home.settings["connection"].endswith("/s.db")
    assert a.store.settings["options"] == {"compression": "zstd"}
    assert b.store.settings == {}


# Classes of one's own.


def test_an_own_class_is_found_beside_the_file_and_gets_its_keys(read: Reader, own: str) -> None:
    home = f"{{type: '{own}:Api', url: v1/users, pages: 4}}"
    text = f"flows:\n  a: {{home: {home}, store: {{type: '{own}:Plain'}}, mode: append}}"
    made, _ = build(read(text).flows[0])
    assert (made.url, made.pages) == ("v1/users", 4)  # type: ignore[attr-defined]  # Api


@pytest.mark.parametrize(
    ("home", "what", "hint"),
    [
        ("Api', url: x, page: 4", "Api does not know 'page'", "did you mean 'pages'?"),
        ("Api', pages: 4", "Api needs 'url'", "write `url: …`"),
        ("Api', url: x, pages: 13", "Api cannot be made: ValueError: not that many", ""),
        ("Apy', url: x", "has no class Apy", "did you mean 'Api'?"),
        ("Plain', url: x", "Plain is not a Home", "hygge.Home"),
    ],
)
def test_an_own_class_that_does_not_fit_is_said_in_words(
    read: Reader, own: str, home: str, what: str, hint: str
) -> None:
    message = refused(read, f"flows:\n  a: {{home: {{type: '{own}:{home}}}, store: out}}")
    assert "flows.yml:2: flow 'a': " in message
    assert what in message
    assert hint in message


def test_a_module_that_fails_to_import_says_where(read: Reader, tmp_path: Path) -> None:
    (tmp_path / "broken_in_two.py").write_text("x = 1\ndef (:\n")
    message = refused(read, "flows: {a: {home: {type: 'broken_in_two:X'}, store: out}}")
    assert "importing broken_in_two failed: SyntaxError" in message
    assert "(broken_in_two.py, line 2)" in message
    assert "there is no module nowhere_at_all" in refused(
        read, "flows: {a: {home: {type: 'nowhere_at_all:X'}, store: out}}"
    )


# How the parts fit together.


@pytest.mark.parametrize(
    ("flow", "line", "what", "hint"),
    [
        ("home: users.parquet\n    store: users.parquet", 4, "the same place", "of its own"),
        ("home: d\n    store: d/out", 4, "inside the home", "beside the home"),
        ("home: users.parquet\n    store: {type: 'OWN:Plain'}\n    mode: replace", 5, "Plain cannot"
         " replace; its modes: append", "mode: append"),
        ("home: users.parquet\n    store: {type: 'OWN:Merging'}\n    mode: merge", 5,
         "mode merge needs 'key'", "key: [id]"),
        ("home: {connection: 'sqlite:///s.db', table: t, cursor: id}\n    store: out", 3,
         "'cursor' with mode replace", "mode: append or mode: merge"),
    ],
)  # fmt: skip
def test_parts_that_do_not_fit_each_other_are_refused(
    read: Reader, tmp_path: Path, own: str, flow: str, line: int, what: str, hint: str
) -> None:
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "x.parquet").touch()
    message = refused(read, f"flows:\n  a:\n    {flow.replace('OWN', own)}\n")
    assert f"flows.yml:{line}: flow 'a': " in message
    assert what in message
    assert hint in message.partition("hint:")[2]


def test_a_key_may_be_one_word_or_a_list(read: Reader, own: str) -> None:
    for written, key in (("id", ("id",)), ("[id, day]", ("id", "day"))):
        store = f"{{type: '{own}:Merging'}}"
        text = f"flows: {{a: {{home: users.parquet, store: {store}, mode: merge, key: {written}}}}}"
        assert read(text).flows[0].key == key


def test_two_flows_cannot_replace_one_place(read: Reader) -> None:
    end = "home: users.parquet, store:"
    text = f"flows:\n  a: {{{end} out}}\n  b: {{{end} ./out/}}"
    message = refused(read, text)
    assert "flows.yml:3: flow 'b': it replaces the same place as flow 'a' (line 2)" in message
    both = text.replace("}", ", mode: append}")
    assert len(read(both).flows) == 2


def test_flows_stand_after_those_they_depend_on_and_a_circle_is_named(read: Reader) -> None:
    one = "{name}: {{home: users.parquet, store: out/{name}, depends_on: {on}}}"

    def flows(**on: str) -> str:
        return "flows:\n" + "".join(f"  {one.format(name=k, on=v)}\n" for k, v in on.items())

    ordered = read(flows(d="[c, b]", c="a", b="a", a="[]", e="[]")).flows
    assert [flow.name for flow in ordered] == ["a", "c", "b", "d", "e"]
    message = refused(read, flows(a="[]", b="[d, a]", c="b", d="c"))
    assert "flows.yml:3: flow 'b': depends_on goes in a circle: b → d → c → b" in message


def test_a_read_file_travels_between_processes(read: Reader) -> None:
    file = read("project: shop\njobs: one\nflows: {a: {home: users.parquet, store: out}}")
    assert pickle.loads(pickle.dumps(file)) == file
    assert (file.project, file.jobs) == ("shop", "one")


def test_a_connector_refused_later_is_still_named_with_file_and_line(
    read: Reader, own: str
) -> None:
    home = f"{{type: '{own}:Api', url: x, pages: 4}}"
    flow = read(f"flows:\n  a:\n    home: {home}\n    store: out\n").flows[0]
    flow.home.settings["pages"] = 13
    with pytest.raises(ConfigError, match=r"flows\.yml:3: flow 'a': Api cannot be made"):
        build(flow)


def test_reading_loads_neither_ray_nor_a_driver(read: Reader, tmp_path: Path) -> None:
    read("flows: {a: {home: users.parquet, store: out}}")
    code = (
        "import sys; from hygge.config.flows import read_flows; read_flows('flows.yml', {});"
        "print({'ray', 'pandas', 'sqlalchemy', 'pyarrow.dataset'} & set(sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "set()"


def test_folders_that_every_node_mounts_are_named_at_the_top(read: Reader, tmp_path: Path) -> None:
    file = read(
        "shared_paths: [/mnt/nfs, lake]\nflows: {f: {home: users.parquet, store: lake/users}}"
    )
    assert file.shared_paths == ("/mnt/nfs", str(tmp_path / "lake"))
    with pytest.raises(ConfigError, match="'shared_paths' is not a list of names"):
        read("shared_paths: {a: b}\nflows: {f: {home: users.parquet, store: lake}}")
