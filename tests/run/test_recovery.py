"""Running again after a run that did not end: the run is resumed, finished or given up, and why."""

from __future__ import annotations

import json
import os
import re
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from hygge import Flow, FlowFailed, ParquetHome, ParquetStore
from hygge import Store as SimpleStore
from hygge.connectors.files.head_files import head_in
from hygge.errors import Rejected, Transient
from hygge.journal import runs
from hygge.model import Limits
from hygge.run.watch import Silent


class Heard(Silent):
    def __init__(self):
        self.words = []

    def said(self, flow, text):
        self.words.append(text)


class Files(ParquetHome):
    """Parquet files, a split each; notes which it reads, and breaks at one of them."""

    breaks: str | None = None
    read_of: list[str]

    def read(self, split):
        names = [Path(path).stem for path, *_ in split.where["files"]]
        self.read_of += names
        if self.breaks in names:
            raise ValueError(f"{self.breaks} is broken")
        return super().read(split)


class Source:
    """A folder of five files, and the flow that moves it."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.out = folder / "source", folder / "out"
        self.state = os.environ["HYGGE_STATE"]
        self.folder.mkdir()
        for at in range(5):
            self.write(f"f{at}", at * 10)

    def write(self, name: str, start: int, **more) -> None:
        table = pa.table({"n": list(range(start, start + 10)), **more})
        pq.write_table(table, self.folder / f"{name}.parquet")

    def flow(self, breaks=None, store=None, home=None, **more) -> Flow:
        options = {"split_bytes": 1, **(home or {}).pop("options", {})}
        source = Files(path=self.folder, options=options, **(home or {}))
        source.breaks, source.read_of = breaks, []
        more.setdefault("limits", Limits(retries=0))
        target = store or ParquetStore(path=self.out)
        return Flow(source, target, name="f", engine="inline", **more)

    def fail(self, breaks="f3", **more) -> None:
        with pytest.raises(FlowFailed, match="is broken"):
            self.flow(breaks, **more).run()

    def rows(self) -> list[int]:
        return sorted(
            n for path in self.out.rglob("*.parquet") for n in pq.read_table(path)["n"].to_pylist()
        )

    def entries(self, name: str) -> list[Path]:
        return sorted(Path(self.state).rglob(name))

    def outcomes(self) -> list[str]:
        entries = sorted(self.entries("outcome.json"), key=lambda path: path.stat().st_mtime_ns)
        return [json.loads(path.read_text())["how"] for path in entries]


@pytest.fixture
def source(tmp_path):
    return Source(tmp_path)


ALL = list(range(50))


def test_what_was_sealed_is_not_read_again(source):
    source.fail()
    assert source.rows() == []
    flow, heard = source.flow(), Heard()
    report = flow.run(heard)
    assert flow.home.read_of == ["f3", "f4"]
    assert source.rows() == ALL
    assert (report.resumed, report.splits, report.rows_read, report.applied) == (3, 5, 50, 50)
    assert "3 of 5 splits were already staged" in heard.words
    assert len(source.entries("plan.json")) == 1


def test_a_failure_says_what_is_kept_for_the_next_run(source):
    heard = Heard()
    with pytest.raises(FlowFailed):
        source.flow("f3").run(heard)
    assert "3 of 5 splits are staged; running it again goes on from there" in heard.words
    (stopped,) = source.entries("stopped-1.json")
    assert "f3 is broken" in json.loads(stopped.read_text())["why"]


def test_the_plan_tells_what_earlier_runs_left(source):
    assert source.flow().left_open() == []
    source.fail()
    (told,) = source.flow().left_open()
    assert told.endswith("did not end; 3 splits are staged")
    prepared(source, mode="append")
    assert source.flow().left_open()[0].endswith("it is decided, and is finished first")


def test_a_run_that_sealed_nothing_leaves_nothing(source):
    source.fail("f0")
    assert os.listdir(source.out.parent) == ["source"]
    assert source.outcomes()[0].startswith("abandoned: ")


def test_a_changed_file_is_read_again_and_only_that_one(source):
    source.fail()
    source.write("f1", 1000)
    flow = source.flow()
    flow.run()
    assert flow.home.read_of == ["f1", "f3", "f4"]
    assert source.rows() == sorted([*range(10), *range(20, 50), *range(1000, 1010)])


def test_a_removed_file_is_not_moved(source):
    source.fail()
    (source.folder / "f0.parquet").unlink()
    source.flow().run()
    assert source.rows() == ALL[10:]


def test_parts_that_are_gone_are_staged_again(source):
    source.fail()
    (part,) = source.out.parent.glob(".out.hygge/*/00001-*/*.parquet")
    part.unlink()
    flow = source.flow()
    flow.run()
    assert flow.home.read_of == ["f1", "f3", "f4"]
    assert source.rows() == ALL


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"home": {"columns": ["n"]}}, "home.columns was not given"),
        ({"mode": "append"}, "mode was replace"),
        ({"store": "other"}, "store.path was|store.place was"),
    ],
)
def test_a_changed_flow_gives_up_what_the_old_one_staged_and_says_why(source, change, what):
    source.fail()
    if "store" in change:
        change = {"store": ParquetStore(path=source.out.parent / "other")}
        source.out = source.out.parent / "other"
    flow, heard = source.flow(**change), Heard()
    flow.run(heard)
    said = " ".join(heard.words)
    assert re.search(f"is given up: the flow changed: ({what})", said), said
    assert flow.home.read_of == ["f0", "f1", "f2", "f3", "f4"]
    assert source.rows() == ALL


def test_lanes_memory_and_batches_change_nothing(source):
    source.fail()
    limits = Limits(lanes=2, memory_per_lane=64 << 20, batch_bytes=1 << 20, retries=1)
    flow = source.flow(limits=limits, home={"options": {"batch_size": 3, "batch_bytes": 1 << 20}})
    flow.run()
    assert flow.home.read_of == ["f3", "f4"]


def test_other_columns_in_the_source_start_anew(source):
    source.fail()
    for at in range(5):
        source.write(f"f{at}", at * 10, extra=["x"] * 10)
    flow, heard = source.flow(), Heard()
    flow.run(heard)
    assert len(flow.home.read_of) == 5
    assert source.rows() == ALL


def test_an_old_run_is_given_up_and_the_message_says_so(source):
    source.fail()
    time.sleep(0.02)
    flow, heard = source.flow(limits=Limits(resume_within_s=0.01)), Heard()
    flow.run(heard)
    assert "it is older than resume_within" in " ".join(heard.words)
    assert len(flow.home.read_of) == 5


def test_fresh_starts_anew_on_purpose(source):
    source.fail()
    flow, heard = source.flow(fresh=True), Heard()
    flow.run(heard)
    assert "is given up, as --fresh asks" in " ".join(heard.words)
    assert len(flow.home.read_of) == 5
    assert source.rows() == ALL
    assert source.outcomes() == ["given up by --fresh", "committed"]


def test_after_a_commit_of_somebody_else_a_run_starts_anew(source, tmp_path):
    source.fail()
    source.flow(state=tmp_path / "elsewhere").run()
    flow, heard = source.flow(), Heard()
    flow.run(heard)
    assert "something was committed since it began" in " ".join(heard.words)
    assert len(flow.home.read_of) == 5
    assert source.rows() == ALL


def test_without_its_state_a_run_starts_anew_and_loses_nothing(source, tmp_path):
    source.fail()
    flow = source.flow(state=tmp_path / "new")
    flow.run()
    assert len(flow.home.read_of) == 5
    assert source.rows() == ALL


class Stubborn(ParquetStore):
    """Its first commit fails as told."""

    error: type | None = None

    def commit(self, run, base, receipts, watermark):
        error, self.error = self.error, None
        if error is not None:
            raise error("the commit fails")
        return super().commit(run, base, receipts, watermark)


def stubborn(source, error=None):
    store = Stubborn(path=source.out)
    store.error = error
    return store


def prepared(source, **more):
    """A run whose driver got no further than its decision."""
    with pytest.raises(FlowFailed, match="the commit fails"):
        source.flow(store=stubborn(source, Transient), **more).run()
    assert source.rows() == []
    return stubborn(source)


def test_a_decided_run_is_finished_and_not_moved_again(source):
    store = prepared(source)
    flow = source.flow(store=store)
    report = flow.run()
    assert flow.home.read_of == []
    assert source.rows() == ALL
    assert "the source has not changed since" in report.note
    assert len(source.entries("plan.json")) == 1


def test_a_source_that_grew_since_the_decision_is_moved_after_it(source):
    store = prepared(source)
    source.write("f5", 50)
    source.flow(store=store).run()
    assert source.rows() == list(range(60))
    assert source.outcomes() == ["committed", "committed"]


def test_an_append_that_was_decided_is_appended_once(source):
    store = prepared(source, mode="append")
    flow = source.flow(store=store, mode="append")
    report = flow.run()
    assert (source.rows(), flow.home.read_of) == (ALL, [])
    assert "run again to append once more" in report.note
    source.flow(store=store, mode="append").run()
    assert source.rows() == sorted(ALL * 2)


class SaysNothing(ParquetStore):
    """Commits, and then nobody hears of it."""

    def commit(self, run, base, receipts, watermark):
        super().commit(run, base, receipts, watermark)
        raise Transient("the answer is lost")


def test_fresh_does_not_append_again_what_a_dead_run_had_committed(source):
    with pytest.raises(FlowFailed, match="the answer is lost"):
        source.flow(store=SaysNothing(path=source.out), mode="append").run()
    assert source.rows() == ALL
    store = ParquetStore(path=source.out)
    with pytest.raises(FlowFailed, match="is committed: its 50 rows are in the store") as caught:
        source.flow(store=store, mode="append", fresh=True).run()
    assert "append once more" in caught.value.hint
    assert source.rows() == ALL
    source.flow(store=store, mode="append", fresh=True).run()
    assert source.rows() == sorted(ALL * 2)


def test_a_decided_run_of_a_changed_flow_is_refused_until_somebody_decides(source):
    store = prepared(source)
    changed = {"store": store, "home": {"columns": ["n"]}}
    with pytest.raises(FlowFailed, match="about to commit when its driver ended") as caught:
        source.flow(**changed).run()
    assert "--fresh" in caught.value.hint
    assert source.rows() == []
    source.flow(**changed, fresh=True).run()
    assert source.rows() == ALL


def test_a_commit_that_the_store_refuses_does_not_stop_the_next_run(source):
    with pytest.raises(FlowFailed, match="the commit fails"):
        source.flow(store=stubborn(source, Rejected)).run()
    assert source.outcomes() == ["refused: the commit fails"]
    assert os.listdir(source.out.parent) == ["source"]
    source.flow(store=stubborn(source)).run()
    assert source.rows() == ALL


def test_a_decided_run_that_the_store_refuses_is_given_up_and_moved_anew(source):
    prepared(source)
    heard = Heard()
    source.flow(store=stubborn(source, Rejected)).run(heard)
    assert "is given up: the commit fails" in " ".join(heard.words)
    assert source.rows() == ALL


def test_old_runs_are_forgotten_but_not_the_one_that_is_the_head(source, monkeypatch):
    monkeypatch.setattr(runs, "KEPT_RUNS", 3)
    for _ in range(6):
        source.flow().run()
    kept = {path.parent.name for path in source.entries("plan.json")}
    # All are of one second, so the head need not be the newest by its name.
    assert len(kept) in (3, 4)
    assert json.loads(head_in(str(source.out / "_hygge.parquet")))["run"] in kept
    of_runs = list(Path(source.state, "flows").rglob("*.json"))
    assert len(of_runs) == 3 * len(kept) + 1  # three entries a run, and the lease


class Sink(SimpleStore):
    """Writes to a file; fails at one batch, once."""

    def __init__(self, path, fails_at=-1):
        self.name, self.path, self.fails_at = "sink", path, fails_at

    async def write(self, df):
        if self.fails_at == df["n"].iloc[0]:
            raise ConnectionError("the sink is gone")
        with open(self.path, "a") as file:
            file.writelines(f"{n}\n" for n in df["n"])


def test_a_store_that_delivers_at_least_once_says_so_after_a_failure(source, tmp_path):
    path = tmp_path / "sink.txt"
    with pytest.raises(FlowFailed) as caught:
        source.flow(store=Sink(path, fails_at=30)).run()
    assert "running it again may write it twice" in caught.value.report.note
    report = source.flow(store=Sink(path)).run()
    assert sorted(map(int, path.read_text().split())) == ALL
    assert (report.resumed, report.guarantee) == (3, "at least once")
    assert "may have been written twice" in report.note
