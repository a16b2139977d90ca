"""An encrypted connection is read through libpq, and keeps the same promises as a plain socket."""

from __future__ import annotations

import functools

import pytest

from hygge.connectors.postgres import home as pg_home
from tests.connectors.postgres import test_home as home
from tests.connectors.postgres import test_snapshot as snapshot
from tests.connectors.postgres import test_splits as splits
from tests.connectors.postgres import test_types as types

pytest_plugins = ["tests.servers.postgres"]

PROMISES = {
    "batches": home.test_batches_keep_to_rows_and_bytes_and_a_huge_row_passes_alone,
    "errors": home.test_a_query_that_fails_half_way_says_what_the_database_says,
    "partitions": home.test_a_partitioned_table_is_read_by_its_partitions,
    "binary": functools.partial(
        splits.test_passing_through_gives_just_the_stream_of_one_copy, form="binary"
    ),
    "text": functools.partial(
        splits.test_passing_through_gives_just_the_stream_of_one_copy, form="text"
    ),
    "values": functools.partial(
        types.test_what_arrow_has_no_word_for_is_the_databases_own_text, declared="text"
    ),
    "nulls": types.test_one_column_of_nulls_has_as_many_rows,
    "given up": snapshot.test_reading_that_is_given_up_stops_at_the_server,
    "restart": snapshot.test_a_restart_of_the_server_ends_the_run_and_says_so,
}


@pytest.mark.parametrize("promise", PROMISES)
def test_a_promise_of_the_home_is_kept_through_libpq(pg, schema, promise, monkeypatch):
    asked = []
    monkeypatch.setattr(pg_home, "has_plain_socket", lambda connection: asked.append(1) and False)
    PROMISES[promise](pg, schema)
    assert asked
