"""A network that keeps connections open and forwards nothing more ends a run, in every phase."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from hygge import ArrowStore, Flow, FlowFailed, Limits, ParquetHome, ParquetStore, SQLHome, SQLStore
from hygge.journal import FlowJournal
from hygge.places.objects import bucket_and_key
from tests.chaos import only_in_chaos
from tests.servers import s3 as s3_server
from tests.servers.freezer import Freezer
from tests.servers.postgres import Heard

pytest_plugins = ["tests.servers.postgres", "tests.servers.mariadb"]
s3 = s3_server.s3

ROWS, LONG = 20_000, 300_000
KINDS = ["postgres", "psycopg2", "maria"]


class Database:
    """An empty schema of one kind of database, reached through a Freezer or directly."""

    def __init__(self, kind, request):
        self.is_maria = kind == "maria"
        self.server = request.getfixturevalue("my" if self.is_maria else "pg")
        self.schema = request.getfixturevalue("my_schema" if self.is_maria else "schema")
        self.driver = {"postgres": "postgresql", "psycopg2": "postgresql+psycopg2"}.get(kind)

    def url(self, port):
        if self.is_maria:
            return f"mysql+pymysql://root@127.0.0.1:{port}/{self.schema}"
        return f"{self.driver}://postgres@127.0.0.1:{port}/postgres"

    def table(self, name):
        return name if self.is_maria else f"{self.schema}.{name}"

    def ask(self, sql):
        return self.server.ask(sql.replace("$s", self.schema))

    def ids(self):
        return [number for (number,) in self.ask("SELECT id FROM $s.t ORDER BY id")]


def frozen_after(size, answers):
    """Return a sign that comes with so many bytes of answers, or of what is asked."""
    passed = [0]

    def sign(data, is_answer):
        if is_answer is answers:
            passed[0] += len(data)
        return passed[0] > size

    return sign


def stalls(flow, words):
    """Run a flow that must fail for a stall, and return what was said."""
    heard = Heard()
    with pytest.raises(
        FlowFailed, match=rf"nothing moved for \d+ s: waiting for {words}"
    ) as caught:
        flow.run(heard)
    assert "stall_timeout" in caught.value.hint
    return " ".join(heard.words)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("phase", ["connect", "plan", "rows"])
def test_a_database_that_is_read(kind, phase, tmp_path, request):
    database = Database(kind, request)
    create = f"CREATE TABLE {database.table('s')} (id int PRIMARY KEY, v varchar(200))"
    if database.is_maria:
        database.ask(f"{create.replace(' s ', ' $s.s ')}")
        database.ask(f"INSERT INTO $s.s SELECT seq, repeat('x', 150) FROM seq_1_to_{ROWS}")
    else:
        database.ask(create)
        database.ask(
            f"INSERT INTO $s.s SELECT g, repeat('x', 150) FROM generate_series(1, {ROWS}) g"
        )
    limits = Limits(retries=1)
    sign = {
        "connect": lambda *_: True,
        "plan": lambda data, is_answer: not is_answer and b"FROM" in data,
        "rows": frozen_after(LONG, answers=True),
    }[phase]
    with Freezer(database.server.port, limits, sign) as freezer:
        home = SQLHome("s", table=database.table("s"), connection=database.url(freezer.port))
        store = ArrowStore(path=tmp_path / "out")
        flow = Flow(home, store, name="f", engine="inline", limits=limits)
        stalls(flow, r"the home .*\(the (rows|plan)\)")
        freezer.thaw()
        assert flow.run().rows == ROWS


@pytest.mark.parametrize(
    ("kind", "phase"),
    [
        *(("postgres", phase) for phase in ("head", "prepare", "rows", "commit", "discard")),
        *((kind, phase) for kind in KINDS for phase in ("COMMIT", "its answer")),
        ("maria", "rows"),
        ("psycopg2", "rows"),
        ("maria", "RENAME"),
        ("maria", "its answer to RENAME"),
        *(
            pytest.param(kind, phase, marks=only_in_chaos)
            for kind in ("maria", "psycopg2")
            for phase in ("head", "prepare", "commit", "discard")
        ),
    ],
)
def test_a_database_that_is_written(kind, phase, tmp_path, request):
    database = Database(kind, request)
    ids = list(range(1, ROWS + 1))
    pq.write_table(pa.table({"id": ids, "v": ["x" * 150] * ROWS}), tmp_path / "in.parquet")
    limits, committing = Limits(retries=1), []

    def is_commit(data, is_answer):
        return bool(committing) and not is_answer and b"COMMIT" in data

    def is_exchange(data, is_answer):
        return not is_answer and b"RENAME TABLE" in data

    sign = {
        "rows": frozen_after(LONG, answers=False), "COMMIT": is_commit, "its answer": is_commit,
        "RENAME": is_exchange, "its answer to RENAME": is_exchange,
    }.get(phase, lambda *_: False)  # fmt: skip
    passes = phase.startswith("its answer")
    with Freezer(database.server.port, limits, sign, passes) as freezer:
        store = SQLStore("t", table=database.table("t"), connection=database.url(freezer.port))
        home = ParquetHome(path=tmp_path / "in.parquet")
        flow = Flow(home, store, name="f", mode="append", engine="inline", limits=limits)
        with pytest.MonkeyPatch.context() as patches:
            verb = phase if hasattr(store, phase) else "commit"
            what = freezer.freeze if verb == phase else lambda: committing.append(1)
            do = getattr(store, verb)
            patches.setattr(store, verb, lambda *values: (what(), do(*values))[1])
            if phase == "discard":
                report = flow.run()
                assert "committed, and then: nothing moved" in report.note
            else:
                words = stalls(flow, r"the store .*\((the .*)\)")
                is_decided = verb == "commit" and phase != "rows"
                assert ("running it again finishes it" in words) is is_decided
        freezer.thaw()
        flow.run()
        assert database.ids() == ids


@pytest.mark.parametrize("phase", ["plan", "rows", "head", "prepare", "stage", "commit", "discard"])
def test_a_bucket(s3, tmp_path, monkeypatch, phase):
    """No request of a bucket is waited for, whatever its own time limit is."""
    table = pa.table({"id": list(range(ROWS)), "v": [f"{n:0150}" for n in range(ROWS)]})
    is_read, limits = phase in ("plan", "rows"), Limits(retries=0)
    source = f"{s3}/in/a.parquet" if is_read else tmp_path / "in.parquet"
    pq.write_table(table, tmp_path / "in.parquet", compression="none")
    port = int(s3_server.started().rpartition(":")[2])
    if is_read:
        bucket, key = bucket_and_key(source)
        bucket.upload(key, str(tmp_path / "in.parquet"))
    with Freezer(port, limits) as freezer:
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{freezer.port}")
        home = ParquetHome(path=source)
        store = ParquetStore(path=tmp_path / "out" if is_read else f"{s3}/out")
        flow = Flow(home, store, name="f", mode="append", engine="inline", limits=limits)
        with pytest.MonkeyPatch.context() as patches:
            if phase == "rows":
                end, verb = home, "read"
            else:
                end, verb = (home, "open") if phase == "plan" else (store, phase)
            do = getattr(end, verb)
            patches.setattr(end, verb, lambda *values: (freezer.freeze(), do(*values))[1])
            if phase == "discard":
                assert "committed, and then: nothing moved" in flow.run().note
            else:
                stalls(flow, r"the (home|store) s3://")
        freezer.thaw()
        flow.run()
    monkeypatch.setenv("AWS_ENDPOINT_URL", s3_server.started())
    with ParquetHome(path=tmp_path / "out" if is_read else f"{s3}/out").open() as plan:
        assert sum(split.rows for split in plan.splits) == ROWS


@only_in_chaos
@pytest.mark.parametrize("step", ["plan", "seal", "decide", "end"])
def test_a_state_in_a_bucket(s3, tmp_path, monkeypatch, step):
    """Its requests have limits of their own, which together would hold a run for a long time."""
    pq.write_table(pa.table({"id": [1, 2, 3]}), tmp_path / "in.parquet")
    limits = Limits(retries=0)
    with Freezer(int(s3_server.started().rpartition(":")[2]), limits) as freezer:
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{freezer.port}")
        home, store = ParquetHome(path=tmp_path / "in.parquet"), ParquetStore(path=tmp_path / "out")
        flow = Flow(home, store, name="f", mode="append", engine="inline", limits=limits, state=s3)
        with pytest.MonkeyPatch.context() as patches:
            do = getattr(FlowJournal, step)
            patches.setattr(
                FlowJournal, step, lambda *of, **more: (freezer.freeze(), do(*of, **more))[1]
            )
            if step == "end":
                assert "committed, and then: nothing moved" in flow.run().note
            else:
                stalls(flow, "the state s3://")
        freezer.thaw()
        flow.run()
    assert pq.read_table(tmp_path / "out")["id"].to_pylist() == [1, 2, 3]
