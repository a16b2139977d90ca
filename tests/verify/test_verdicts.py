"""What `hygge verify` says of shapes, cursors, merges, sources that move on, and of samples."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from tests.verify.commands import BY_CURSOR, HOME, STORE, add, flows, run, verify
from tests.verify.ends import execute

SHAPED = f"""
  people:
    home:
      connection: 'sqlite:///home.db'
      table: t
      where: total > 3
      columns: [id, {{name: email, as: mail}}, {{name: total, type: "decimal(12,4)"}}]
    store: {STORE}
    mask: {{mail: {{keep_last: 1}}}}
    add: {{loaded_at: now, run: run_id, source: "'shop'"}}
"""


def test_it_compares_what_would_arrive_after_filters_names_casts_and_masks(here, capsys):
    flows(SHAPED)
    run()
    said = verify(capsys)
    assert "people: same; 18 rows in the source, 18 in the store, 4 columns compared" in said
    assert "'loaded_at' is of each run alone: `add: now`" in said
    execute(Path("store.db"), "update t set total = total + 1 where id = 7")
    said = verify(capsys, code=1)
    assert "these columns differ: total" in said
    assert "changed: id 7 in total" in said
    (told,) = map(json.loads, verify(capsys, "--json", code=1).splitlines())
    assert (told["changed"], told["lost"], told["first"]) == (1, 0, ["changed: id 7 in total"])


def test_rows_beyond_the_watermark_are_counted_and_not_missed(here, capsys):
    flows(f"{{f: {{home: {BY_CURSOR}, store: out, mode: append, key: id}}}}")
    run()
    add(range(21, 26))
    said = verify(capsys)
    assert "f: same; 20 rows in the source, 20 in the store" in said
    assert "5 rows of the source are beyond the watermark" in said
    execute(Path("home.db"), "delete from t where id = 3")
    assert "1 row is only in the store: mode append keeps" in verify(capsys)


def test_a_merge_keeps_what_was_deleted_and_a_lost_row_is_found_beside_it(here, capsys):
    flows(f"{{f: {{home: {BY_CURSOR}, store: {STORE}, mode: merge, key: id}}}}")
    run()
    execute(Path("home.db"), "delete from t where id = 3")
    assert "f: same" in verify(capsys)
    execute(Path("store.db"), "delete from t where id in (9, 4)")
    said = verify(capsys, code=1)
    assert "keys: 2 lost, 1 only in the store" in said
    assert {"    lost: id 4", "    lost: id 9"} <= set(said.splitlines())


def test_a_source_that_has_moved_on_is_not_called_wrong(here, capsys):
    flows(f"{{f: {{home: {HOME}, store: out}}}}")
    assert "the store holds no run of this flow" in verify(capsys, code=3)
    run()
    add(range(21, 26))
    said = verify(capsys, code=3)
    assert "f: moved" in said
    assert "the source " in said
    run()
    assert "f: same" in verify(capsys)


def test_a_run_that_writes_the_file_that_it_read_has_not_moved_its_source(here, capsys):
    home = HOME.replace("}", ", options: {splits: 3}}")
    flows(f"{{f: {{home: {home}, store: {{connection: 'sqlite:///home.db', table: there}}}}}}")
    run()
    execute(Path("home.db"), "delete from there where id = 3")
    assert "lost: id 3" in verify(capsys, code=1)


def test_files_that_were_rewritten_since_the_run_have_moved_on(here, capsys):
    pq.write_table(pa.table({"id": [1, 2, 3]}), "users.parquet")
    flows("{f: {home: users.parquet, store: out}}")
    run()
    pq.write_table(pa.table({"id": [1, 2, 4]}), "users.parquet")
    assert "the source is not in the state that the last run read" in verify(capsys, code=3)


def test_an_append_of_all_rows_in_each_run_is_compared_once(here, capsys):
    pq.write_table(pa.table({"id": [1, 2, 3]}), "users.parquet")
    flows("{f: {home: users.parquet, store: out, mode: append}}")
    run()
    assert "f: same" in verify(capsys)
    run()
    assert "each of its 2 runs added all rows again" in verify(capsys, code=3)


def test_a_sample_finds_what_is_wrong_among_its_rows(here, capsys):
    flows(f"{{f: {{home: {HOME}, store: {STORE}}}}}")
    run()
    assert "a sample of 5 rows" in verify(capsys, "--sample", "5")
    execute(Path("store.db"), "update t set email = 'x'")
    assert "changed: id " in verify(capsys, "--sample", "5", code=1)
    assert "no number of rows" in verify(capsys, "--sample", "some", code=2)


def test_rows_without_a_key_are_known_by_all_they_hold(here, capsys):
    table = pa.table({"a": [1, 1, 2, None], "b": ["x", "x", "y", None]})
    pq.write_table(table, "in.parquet")
    flows(f"{{f: {{home: in.parquet, store: {STORE}}}}}")
    run()
    assert "f: same; 4 rows" in verify(capsys)
    execute(Path("store.db"), "delete from t where rowid = 1")
    assert "lost: a 1, b 'x'" in verify(capsys, code=1)


def test_a_row_that_was_set_aside_is_not_lost(here, capsys):
    Path("in.csv").write_text("id,n\n1,5\n2,x\n3,7\n")
    flows("""
  f:
    home: {path: in.csv, options: {types: {n: int64}}}
    store: out
    on_bad_row: set_aside
    max_bad_share: 50%
""")
    run()
    assert "f: same; 2 rows in the source, 2 in the store" in verify(capsys)


def test_columns_that_one_side_alone_has_are_said(here, capsys):
    store = STORE.replace("}", ", options: {schema: evolve}}")
    flows(f"{{f: {{home: {HOME}, store: {store}, mode: merge}}}}")
    run()
    execute(Path("home.db"), "alter table t drop column email", "alter table t add column x text")
    run()
    assert "only in the store: email" in verify(capsys)
    execute(Path("home.db"), "alter table t add column y text")
    assert "only in the source, new since the run: y" in verify(capsys)


def test_an_end_that_cannot_be_read_fails_and_the_others_are_compared(here, capsys):
    flows(f"{{gone: {{home: gone.parquet, store: other}}, f: {{home: {HOME}, store: out}}}}")
    pq.write_table(pa.table({"id": [1]}), "gone.parquet")
    run()
    Path("gone.parquet").unlink()
    said = verify(capsys, code=1)
    assert "gone: failed" in said
    assert "f: same" in said
