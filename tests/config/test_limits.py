"""Limits of a flow: where its lanes may run, and how fast its home may be read."""

from __future__ import annotations

import textwrap
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from hygge.cli.main import main
from hygge.config.flows import read_flows
from hygge.errors import ConfigError
from hygge.model import Limits

GOOD = "flows:\n  a:\n    home: users.parquet\n    store: out\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    pq.write_table(pa.table({"n": [1]}), tmp_path / "users.parquet")
    return tmp_path


def flows(folder: Path, text: str, environ: dict[str, str] | None = None) -> list:
    (folder / "flows.yml").write_text(textwrap.dedent(text))
    return list(read_flows(folder / "flows.yml", environ or {}).flows)


def test_what_a_lane_takes_is_read_and_the_flows_own_words_lie_over_the_defaults(folder):
    a, b = flows(
        folder,
        """
        defaults:
          cpus_per_lane: 2
          resources: {fast_disk: 1, memory: 4GiB}
          label_selector: {region: "in(eu, uk)"}
          home: {max_bytes_per_second: 50MB}
        flows:
          a: {home: users.parquet, store: out/a}
          b:
            home: {path: users.parquet, max_bytes_per_second: "${RATE}"}
            store: out/b
            cpus_per_lane: 0.5
            resources: {fast_disk: 0.25}
            label_selector: {ray.io/node-type: worker, spot: "!true", year: 2026}
        """,
        {"RATE": "10 kB"},
    )
    assert a.limits == Limits(
        cpus_per_lane=2.0,
        resources={"fast_disk": 1.0, "memory": 4.0 * 2**30},
        label_selector={"region": "in(eu, uk)"},
        max_bytes_per_second=50_000_000,
    )
    assert b.limits.cpus_per_lane == 0.5
    assert b.limits.resources == {"fast_disk": 0.25, "memory": 4.0 * 2**30}
    assert b.limits.label_selector == {
        "region": "in(eu, uk)", "ray.io/node-type": "worker", "spot": "!true", "year": "2026",
    }  # fmt: skip
    assert b.limits.max_bytes_per_second == 10_000
    assert "max_bytes_per_second" not in {**a.home.settings, **b.home.settings}


def test_one_table_of_many_may_take_another_place_and_be_read_at_another_rate(folder):
    (flow,) = flows(
        folder,
        """
        connections: {shop: "sqlite:///shop.db"}
        flows:
          shop:
            home: {connection: shop, tables: ["*"], max_bytes_per_second: 5MB}
            store: lake/{table}
            tables:
              orders: {cpus_per_lane: 2, max_bytes_per_second: 1MB, resources: {disk: 1}}
              users: {lanes: 2}
        """,
    )
    assert flow.tables is not None
    orders, users = flow.tables.overrides["orders"].limits, flow.tables.overrides["users"].limits
    assert (orders.cpus_per_lane, orders.resources) == (2.0, {"disk": 1.0})
    assert orders.max_bytes_per_second == 1_000_000
    assert (users.lanes, users.max_bytes_per_second) == (2, 5_000_000)


def test_what_a_driver_takes_of_its_node_is_read_by_rays_names(folder):
    a, b = flows(
        folder,
        """
        defaults: {driver: {cpus: 1, memory: 2GiB}}
        flows:
          a: {home: users.parquet, store: out/a}
          b: {home: users.parquet, store: out/b, driver: {cpus: 0.5, resources: {off_head: 1}}}
        """,
    )
    assert a.limits.driver == {"CPU": 1.0, "memory": 2.0 * 2**30}
    assert b.limits.driver == {"CPU": 0.5, "memory": 2.0 * 2**30, "off_head": 1.0}


def test_a_class_that_knows_such_a_word_itself_keeps_it(folder):
    (folder / "own_rate.py").write_text(
        "from hygge import Home\n"
        "class Own(Home):\n"
        "    def __init__(self, max_bytes_per_second): self.rate = max_bytes_per_second\n"
        "    async def read_batches(self): yield None\n"
    )
    text = "flows: {a: {home: {type: 'own_rate:Own', max_bytes_per_second: 7}, store: out}}"
    (flow,) = flows(folder, text)
    assert flow.home.settings == {"max_bytes_per_second": 7}
    assert flow.limits.max_bytes_per_second is None


@pytest.mark.parametrize(
    ("text", "line", "what", "hint"),
    [
        (GOOD + "    cpus_per_lane: 0\n", 5, "'cpus_per_lane' is 0, not an amount", "2, or 0.5"),
        (GOOD + "    cpus_per_lane: two\n", 5, "'cpus_per_lane' is 'two'", "2, or 0.5"),
        (GOOD + "    cpus_per_lane: .inf\n", 5, "'cpus_per_lane' is .inf", "2, or 0.5"),
        (GOOD + "    cpus_per_lane: 0.001\n", 5, "at least 0.01", ""),
        (GOOD + "    cpu_per_lane: 2\n", 5, "'cpu_per_lane' is not", "mean 'cpus_per_lane'"),
        (GOOD + "    resources: disk\n", 5, "not names with amounts", "resources: {fast_disk: 1}"),
        (GOOD + "    resources:\n      CPU: 2\n", 6, "'CPU' is no resource", "cpus_per_lane: 2"),
        (GOOD + "    resources:\n      disk: lots\n", 6, "'resources.disk' is 'lots'", ": 1"),
        (GOOD + "    resources:\n      memory: lots\n", 6, "'resources.memory' is 'lots'", "MiB"),
        (GOOD + "    label_selector: eu\n", 5, "not labels with values", "{region: eu}"),
        (GOOD + "    label_selector:\n      region: [eu]\n", 6, "a list, which selects", "in(eu,"),
        (GOOD + "    label_selector:\n      region: in()\n", 6, "'in()', which selects", "in(eu,"),
        (GOOD + "    label_selector:\n      -re: eu\n", 6, "'-re' of 'label_selector'", "region"),
        (GOOD + "    driver: head\n", 5, "'driver' is 'head', not names", "driver: {cpus: 1"),
        (GOOD + "    driver: {}\n", 5, "'driver' is empty, not names", "driver: {cpus: 1"),
        (GOOD + "    driver:\n      cpu: 1\n", 6, "'cpu' is not a key of 'driver'", "mean 'cpus'"),
        (GOOD + "    driver:\n      cpus: lots\n", 6, "'driver.cpus' is 'lots'", "2, or 0.5"),
        (GOOD + "    driver:\n      memory: lots\n", 6, "'driver.memory' is 'lots'", "MiB"),
        (
            GOOD + "    driver:\n      resources:\n        memory: 1GiB\n",
            7, "'memory' is no resource", "memory: 2GiB",
        ),
        (GOOD + "    labels: {region: eu}\n", 5, "'labels' is not a key", "mean 'lanes'"),
        (GOOD + "    max_bytes_per_second: 1MB\n", 5, "not a key of a flow", "under `home:`"),
        (
            "flows:\n  a:\n    home: users.parquet\n"
            "    store: {path: out, max_bytes_per_second: 1MB}\n",
            4, "is for homes", "under `home:`",
        ),
        (
            "flows:\n  a:\n    home: {path: users.parquet, max_bytes_per_second: fast}\n"
            "    store: out\n",
            3, "flow 'a': 'max_bytes_per_second' is 'fast', not a size", "256MiB",
        ),
        (
            "defaults: {home: {max_bytes_per_second: 0}}\n" + GOOD,
            1, "'max_bytes_per_second' is 0, not a size", "256MiB",
        ),
        (
            "flows:\n  a:\n    home: {path: users.parquet, max_bytes_per_secnd: 1MB}\n"
            "    store: out\n",
            3, "does not know 'max_bytes_per_secnd'", "max_bytes_per_second",
        ),
    ],
)  # fmt: skip
def test_a_place_that_cannot_be_is_refused_with_its_line_and_a_hint(folder, text, line, what, hint):
    with pytest.raises(ConfigError) as caught:
        flows(folder, text)
    message = str(caught.value).replace(f"{folder}/", "")
    assert f"flows.yml:{line}: " in message
    assert what in message
    assert hint in message.partition("hint:")[2]
    assert message.count("flows.yml:") == 1


def test_the_plan_shows_where_lanes_run_and_how_fast_a_home_is_read(folder, capsys, monkeypatch):
    monkeypatch.chdir(folder)
    flows(
        folder,
        """
        flows:
          a:
            home: {path: users.parquet, max_bytes_per_second: 50MB}
            store: out
            lanes: 8
            cpus_per_lane: 2
            resources: {fast_disk: 0.5, memory: 2GB}
            label_selector: {region: eu, spot: "!true"}
        """,
    )
    assert main(["plan", "flows.yml"]) == 0
    said = capsys.readouterr().out
    assert "  lanes   8\n" in said
    takes = "2 CPUs, 0.5 fast_disk and 2.00 GB of memory on nodes with region=eu, spot=!true"
    assert f"  places  a lane takes {takes}\n" in said
    assert "  rate    50 MB/s at most are read\n" in said


def test_what_is_done_with_bad_rows_is_read_and_a_share_is_a_part_or_a_percentage(folder):
    a, b, c = flows(
        folder,
        """
        defaults: {on_bad_row: set_aside, max_bad_rows: 7}
        flows:
          a: {home: users.parquet, store: out/a, max_bad_share: 0.25}
          b: {home: users.parquet, store: out/b, max_bad_share: 0.5%}
          c: {home: users.parquet, store: out/c, on_bad_row: fail}
        """,
    )
    assert (a.limits.on_bad_row, a.limits.max_bad_rows) == ("set_aside", 7)
    assert (a.limits.max_bad_share, b.limits.max_bad_share) == (0.25, 0.005)
    assert (c.limits.on_bad_row, c.limits.max_bad_share) == ("fail", 0.001)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ("on_bad_row: skip", "'on_bad_row' is 'skip'"),
        ("on_bad_row: set_aside\n    max_bad_rows: -1", "'max_bad_rows' is -1"),
        ("on_bad_row: set_aside\n    max_bad_share: 101%", "not a part of the rows"),
        ("on_bad_row: set_aside\n    max_bad_share: true", "not a part of the rows"),
        ("max_bad_rows: 5", "'max_bad_rows' is given, and a bad row fails the run"),
    ],
)
def test_what_bad_rows_cannot_be_allowed_by_is_an_error_with_its_line(folder, wrong, message):
    with pytest.raises(ConfigError, match=message) as error:
        flows(folder, GOOD + f"    {wrong}\n")
    assert "flows.yml:" in str(error.value)
