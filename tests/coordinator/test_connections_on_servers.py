"""Timeouts of connections, and a bound on how many there are, on real servers."""

from __future__ import annotations

import socket
import threading

import pytest

from hygge import Coordinator
from hygge.config.specs import EndSpec, FlowSpec, Tables
from hygge.connectors.anysql.session import connected
from hygge.connectors.databases.connection import connection_url
from hygge.connectors.mariadb import session as my_sessions
from hygge.connectors.postgres import session as sessions
from hygge.coordinator.connections import divide
from hygge.errors import ConfigError, HomeError, HyggeError
from tests.servers.standing import psutil

pytest_plugins = ["tests.servers.postgres", "tests.servers.mariadb"]


def too_long(url, sql):
    with (
        pytest.raises(HyggeError) as caught,
        connected(connection_url(url, "t"), "t", HomeError) as it,
    ):
        it.exec_driver_sql(sql)
    return caught.value


def test_a_statement_that_takes_too_long_is_ended_by_postgres_on_either_path(pg_url):
    url = f"{pg_url}?statement_timeout=300ms&connect_timeout=600"
    error = too_long(url, "SELECT pg_sleep(3600)")
    assert "statement timeout" in error.message
    assert "statement_timeout" in error.hint
    fast = connection_url(url, "t")
    with (
        pytest.raises(HyggeError, match="statement timeout"),
        sessions.connected(fast, "t", HomeError, "n") as it,
    ):
        it.execute("SELECT pg_sleep(3600)")


def test_options_of_the_url_stay_beside_the_timeout(pg_url):
    url = f"{pg_url}?options=-c%20work_mem%3D2MB&statement_timeout=1h"
    with connected(connection_url(url, "t"), "t", HomeError) as it:
        said = [
            it.exec_driver_sql(f"SHOW {key}").scalar() for key in ("work_mem", "statement_timeout")
        ]
    assert said == ["2MB", "1h"]


def test_a_statement_that_takes_too_long_is_ended_by_mariadb(my):
    url = my.url() + "?statement_timeout=300ms&connect_timeout=600"
    assert "max_statement_time" in too_long(url, "SELECT SLEEP(3600) FROM user").message
    with (
        pytest.raises(HyggeError, match="max_statement_time"),
        my_sessions.session(connection_url(url, "t"), "t", HomeError, "f") as it,
    ):
        my_sessions.execute(it, "SELECT SLEEP(3600) FROM user")


def test_a_server_that_does_not_answer_is_given_up_after_connect_timeout():
    with socket.create_server(("127.0.0.1", 0), backlog=1) as deaf:
        url = f"postgresql://u@127.0.0.1:{deaf.getsockname()[1]}/d?connect_timeout=2"
        with (
            pytest.raises(HyggeError, match="timeout expired"),
            connected(connection_url(url, "t"), "t", HomeError),
        ):
            pass


@pytest.fixture
def pg_url(pg):
    return pg.url


# How many there are.


class Counted:
    """How many sessions a role has, looked at all the time, and which they are at the most.

    A busy server lists a session for a while after its client closed it. `listed` counts these as
    well; `most` does not, and it may miss a session that is closed in the moment of the look.
    """

    def __init__(self, server, role):
        self.server, self.role, self.most, self.listed = server, role, 0, 0
        self.seen: list[str] = []
        self.over = threading.Event()
        self.thread = threading.Thread(target=self._look)

    def _look(self):
        sql = "SELECT client_port, application_name FROM pg_stat_activity WHERE usename = %s"
        with self.server.connect() as connection:
            while not self.over.wait(0.005):
                rows = connection.execute(sql, [self.role]).fetchall()
                self.listed = max(self.listed, len(rows))
                if len(rows) > self.most:
                    open_ports = self._open_ports()
                    names = sorted(name for port, name in rows if port in open_ports)
                    if len(names) > self.most:
                        self.most, self.seen = len(names), names

    def _open_ports(self) -> set[int]:
        """Return the ports of the clients whose connections to the server are open."""
        return {
            socket.laddr.port
            for socket in psutil.net_connections("tcp")
            if socket.raddr
            and socket.raddr.port == self.server.port
            and socket.status == psutil.CONN_ESTABLISHED
        }

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *error):
        self.over.set()
        self.thread.join()


@pytest.fixture
def bounded(pg, schema):
    """A role that may have only so many connections, and flows.yml that says so."""

    def making(most: int, limit: int | None = None) -> tuple[str, str]:
        role = f"role_{schema}"
        pg.ask(f"CREATE ROLE {role} LOGIN PASSWORD 'p' CONNECTION LIMIT {limit or most}")
        pg.ask(f"GRANT ALL ON SCHEMA {schema} TO {role}")
        pg.ask(f"GRANT CREATE ON DATABASE postgres TO {role}")
        for n in range(3):
            pg.ask(f"CREATE TABLE {schema}.t{n} AS SELECT i FROM generate_series(1, 4000) i")
            pg.ask(f"GRANT SELECT ON {schema}.t{n} TO {role}")
        url = f"postgresql://{role}:p@127.0.0.1:{pg.port}/postgres"
        head = f"connections: {{shop: {{url: '{url}', max_connections: {most}}}}}\nflows:\n"
        return role, head

    return making


def of_tables(schema, number=3, store="shop#{schema}.copy_{n}", more="") -> str:
    return "".join(
        f"  f{n}:\n    home: {{connection: shop, table: {schema}.t{n}, options: {{splits: 6}}}}\n"
        f"    store: '{store.format(schema=schema, n=n)}'\n{more}"
        for n in range(number)
    )


@pytest.mark.parametrize(
    ("most", "limit", "store"),
    [(4, 25, "shop#{schema}.copy_{n}"), (4, 4, "shop#{schema}.copy_{n}"), (2, 25, "out/{n}")],
)
def test_a_run_never_has_more_connections_than_it_may(
    pg, schema, bounded, tmp_path, most, limit, store
):
    role, head = bounded(most, limit)
    (tmp_path / "flows.yml").write_text(head + of_tables(schema, store=store))
    with Counted(pg, role) as counted:
        summary = Coordinator(tmp_path / "flows.yml", engine="inline").run()
    assert summary.ok, [each.error for each in summary.flows]
    assert counted.listed > 1
    assert counted.most <= most, counted.seen


def test_lanes_take_no_more_connections_than_their_flow_may(
    pg, schema, bounded, tmp_path, ray_here
):
    role, head = bounded(4, limit=25)
    (tmp_path / "flows.yml").write_text(head + of_tables(schema, more="    lanes: 8\n"))
    with Counted(pg, role) as counted:
        summary = Coordinator(tmp_path / "flows.yml").run()
    assert summary.ok, [each.error for each in summary.flows]
    assert counted.listed > 2
    assert counted.most <= 4, counted.seen
    for n in range(3):
        assert pg.ask(f"SELECT count(*), sum(i) FROM {schema}.copy_{n}") == [(4000, 8002000)]


def test_many_tables_keep_to_the_share_of_their_flow(pg, schema, bounded, tmp_path):
    role, head = bounded(4, limit=25)
    home = f"home: {{connection: shop, tables: ['{schema}.t*']}}"
    flows = f"  shop:\n    {home}\n    store: 'shop#{schema}.copy_{{table}}'\n"
    (tmp_path / "flows.yml").write_text(head.replace(": 4}", ": 5}") + flows)
    with Counted(pg, role) as counted:
        for _ in range(9):  # on a busy machine the look may come too late
            summary = Coordinator(tmp_path / "flows.yml", engine="inline").run()
            assert summary.ok, [each.error for each in summary.flows]
            if counted.listed > 2:
                break
    assert counted.listed > 2
    assert counted.most <= 5, counted.seen
    (tmp_path / "flows.yml").write_text(head + flows)
    with pytest.raises(ConfigError, match="may have 4 connections, and flow 'shop' needs 5"):
        Coordinator(tmp_path / "flows.yml")


def flow(name, home=None, store=None, many=False):
    ends = (
        EndSpec("home", "sql", None, {}, 1, connection=home),
        EndSpec("store", "sql", None, {}, 1, connection=store),
    )
    return FlowSpec(name, *ends, tables=Tables(("*",)) if many else None)


def test_shares_are_equal_and_fewer_flows_run_where_they_would_be_too_small():
    flows = [flow(f"f{n}", "shop") for n in range(8)]
    shares = divide(flows, {"shop": 12}, 4)
    assert (shares.flows_at_once, shares.per_flow) == ({"shop": 4}, {"shop": 3})
    assert shares.max_lanes(flows[0]) == 2
    both = [flow("both", "shop", "shop"), *flows]
    shares = divide(both, {"shop": 12}, 4)
    assert (shares.flows_at_once, shares.per_flow) == ({"shop": 3}, {"shop": 4})
    assert (shares.max_lanes(both[0]), shares.max_lanes(both[1])) == (1, 3)
    assert shares.must_wait(both[0], both[1:4])
    assert not shares.must_wait(flow("files"), both[1:4])
    assert divide(flows, {"shop": 12, "other": 1}, 4).per_flow == {"shop": 3}


def test_each_connection_has_a_bound_of_its_own():
    flows = [flow("there", "a", "b"), flow("back", "b", "a"), flow("one", "a")]
    shares = divide(flows, {"a": 20, "b": 4}, 8)
    assert (shares.flows_at_once, shares.per_flow) == ({"a": 3, "b": 2}, {"a": 6, "b": 2})
    assert [shares.max_lanes(each) for each in flows] == [1, 1, 5]


def test_a_job_is_handed_the_share_of_its_flow_and_keeps_to_it():
    flows = [flow("many", "a", "a", many=True), flow("one", "a")]
    shares = divide(flows, {"a": 11}, 4, one_job_a_flow=True)
    assert shares.of_job(flows[0]) == {"a": 6}
    assert shares.of_job(flows[1]) == {"a": 5}
    inside = divide([flows[0]], shares.of_job(flows[0]), 4)
    assert (inside.flows_at_once, inside.per_flow) == ({"a": 1}, {"a": 5})


def test_too_few_for_one_lane_is_an_error_that_counts():
    with pytest.raises(ConfigError) as caught:
        divide([flow("f", "shop", "shop")], {"shop": 3}, 4)
    assert "may have 3 connections, and flow 'f' needs 4" in caught.value.message
    assert "max_connections: 4" in caught.value.hint
