"""Each test of the suites fails for a twin that breaks its promise; the references pass all."""

from __future__ import annotations

import inspect
import os

import pyarrow as pa
import pytest

from hygge.errors import Rejected
from hygge.testing import EngineContract, HomeContract, StoreContract
from tests.testing import broken_stores as broken
from tests.testing import broken_twins as twins
from tests.testing.reference import (
    FolderHome,
    FolderStore,
    PlainEngine,
    ProcessEngine,
    read_arrow,
    write_arrow,
)

DECIMAL = {"name": "decimal128(38, 10)"}
INT64 = {"name": "int64"}


class HomeSuite(HomeContract):
    kind = FolderHome

    def make(self, table, tmp_path, files=1, **settings):
        folder = tmp_path / "home"
        folder.mkdir()
        size = -(-table.num_rows // files)
        for at in range(files):
            write_arrow(table.slice(at * size, size), folder / f"{at}.arrow", self.batch_rows)
        return self.kind(path=str(folder), **settings)

    def make_by_key(self, table, tmp_path):
        return self.make(table, tmp_path, files=3)

    def make_with_cursor(self, table, tmp_path):
        return self.make(table, tmp_path, files=2, cursor="n")

    def make_with_secret(self, secret, tmp_path):
        return self.kind(path=str(tmp_path), password=secret)

    def change(self, home):
        for path in home.files():
            table = read_arrow(path)
            n = pa.array(range(-table.num_rows, 0), pa.int64())
            write_arrow(table.set_column(0, "n", n), path, self.batch_rows)


class StoreSuite(StoreContract):
    kind = FolderStore

    def make(self, tmp_path):
        return self.kind(path=str(tmp_path))

    def rows(self, store):
        return read_arrow(store.target) if os.path.exists(store.target) else None

    def plant_foreign(self, store):
        write_arrow(pa.table({"n": [1], "text": ["foreign"]}), store.target)
        return lambda: "foreign" in self.rows(store).column("text").to_pylist()

    def make_with_secret(self, secret, tmp_path):
        return self.kind(path=str(tmp_path), password=secret)


class EngineSuite(EngineContract):
    kind = PlainEngine
    stop_s = 0.5

    def engine(self):
        return self.kind()


class TestReferenceHome(HomeSuite):
    pass


class TestReferenceStore(StoreSuite):
    pass


class TestReferenceEngine(EngineSuite):
    pass


def test_the_reference_engine_survives_a_killed_worker(tmp_path):
    _run(
        EngineSuite, "test_a_killed_worker_costs_no_row", ProcessEngine, {"side": "store"}, tmp_path
    )


HOMES = [
    ("there_is_at_least_one_split", twins.NoSplitWhenEmpty, {}),
    ("splits_cover_every_row_once", twins.DropsNullKeys, {}),
    ("splits_cover_every_row_once", twins.Overlaps, {"files": 2}),
    ("every_split_has_its_own_index", twins.AllSplitsAreFirst, {}),
    ("a_split_reads_the_same_twice", twins.OtherRowsTheSecondTime, {}),
    ("splits_can_be_read_in_any_order", twins.OnlyOnwards, {}),
    ("splits_can_be_read_in_any_order", twins.Overlaps, {}),
    ("a_null_key_loses_no_row", twins.DropsNullKeys, {}),
    ("batches_have_the_schema_of_the_plan", twins.OtherTypesThanPlanned, {}),
    ("an_empty_home_gives_no_rows_and_its_schema", twins.NoSchemaWhenEmpty, {}),
    ("every_type_returns_exactly", twins.RoundsDecimals, DECIMAL),
    ("every_type_returns_exactly", twins.DeclaresWhatItKeeps, INT64),
    ("both_forms_give_the_same_rows", twins.HalfByHand, {"files": 2}),
    ("the_first_batch_comes_before_all_is_read", twins.ReadsAllFirst, {}),
    ("memory_is_bounded_whatever_the_size", twins.ReadsAllFirst, {}),
    ("memory_is_bounded_whatever_the_size", twins.KeepsWhatItRead, {}),
    ("reading_closed_early_leaves_nothing_open", twins.LeavesFilesOpen, {}),
    ("a_plan_is_small_and_travels", twins.PlansWithObjects, {}),
    ("it_travels_to_a_worker", twins.HoldsALock, {}),
    ("a_changed_source_is_noticed", twins.NeverLooksAgain, {}),
    ("a_change_while_reading_is_noticed", twins.NeverLooksAgain, {}),
    ("a_watermark_divides_the_rows", twins.IgnoresTheWatermark, {}),
    ("a_watermark_divides_the_rows", twins.TakesTheWatermarkAgain, {}),
    ("rows_that_tie_with_the_watermark_are_not_lost", twins.LosesTies, {}),
    ("secrets_are_never_printed", twins.PrintsItsPassword, {}),
]
STORES = [
    ("committed_rows_are_visible", broken.LosesTheLastSplit, {}),
    ("staged_rows_are_invisible_before_the_commit", broken.ShowsInStage, {}),
    ("committing_twice_is_committing_once", broken.CommitsTwice, {}),
    ("the_head_moves_with_the_rows", broken.AlwaysTheFirstGeneration, {}),
    ("the_head_keeps_what_a_run_remembers", broken.ForgetsTies, {}),
    ("a_reader_sees_the_old_rows_or_the_new", broken.SplitBySplit, {}),
    ("a_reader_sees_the_old_rows_or_the_new", broken.HeadBeforeRows, {}),
    ("an_attempt_that_lost_changes_nothing", broken.SharesAPath, {"winner": "first"}),
    ("an_attempt_that_lost_changes_nothing", broken.TakesTheLastAttempt, {"winner": "first"}),
    ("a_zombie_that_goes_on_after_the_commit_changes_nothing", broken.LetsZombiesIn, {}),
    ("a_zombie_of_an_older_run_changes_nothing", broken.UndoesNewerRuns, {}),
    ("a_superseded_run_cannot_commit", broken.NeverCompares, {}),
    ("a_run_of_the_past_cannot_commit_again", broken.NeverCompares, {}),
    ("of_two_commits_at_once_one_wins", broken.ComparesTooEarly, {}),
    ("a_run_that_died_is_gone_on_with", broken.ForgetsWhatWasStaged, {"raises": Rejected}),
    ("a_run_that_died_is_gone_on_with", broken.TakesTriesOfTheDead, {}),
    ("preparing_twice_is_preparing_once", broken.PrepareWipes, {"raises": Rejected}),
    ("discarding_twice_is_discarding_once", broken.DiscardsNothing, {}),
    ("discarding_twice_is_discarding_once", broken.DiscardsOnce, {"raises": FileNotFoundError}),
    ("discard_never_touches_visible_rows", broken.DiscardsWhatIsVisible, {}),
    ("batches_that_break_midway_leave_nothing", broken.SealsWhatBroke, {}),
    ("a_receipt_without_its_rows_is_rejected", broken.TrustsReceipts, {}),
    ("a_receipt_without_its_rows_is_rejected", broken.HeadBeforeRows, {}),
    ("an_empty_split_adds_nothing", broken.AnEmptySplitEndsIt, {}),
    ("no_rows_with_a_schema_give_an_empty_table", broken.NothingForNothing, {}),
    ("no_rows_without_a_schema_create_nothing", broken.SomethingForNothing, {"receipts": "none"}),
    ("no_rows_without_a_schema_create_nothing", broken.SomethingForNothing, {"receipts": "one"}),
    ("no_rows_without_a_schema_empty_what_was_there", broken.NothingForNothing, {}),
    ("memory_is_bounded_while_staging", broken.HoldsAllBatches, {}),
    ("replacing_twice_is_replacing_once", broken.ReplaceAdds, {}),
    ("appending_adds", broken.AppendReplaces, {}),
    ("merging_updates_and_inserts", broken.MergeAdds, {}),
    ("changes_write_and_delete_rows", broken.KeepsDeletedRows, {}),
    ("the_last_change_of_a_key_counts", broken.TheFirstChangeCounts, {}),
    ("the_first_changes_make_a_target_without_op", broken.MakesAColumnOfOp, {}),
    ("a_column_of_that_name_may_be_like_any_other", broken.TakesAnyOp, {}),
    ("writes_by_hand_all_arrive", broken.WriteReplaces, {}),
    ("what_hygge_did_not_write_stays", broken.TakesWhatIsForeign, {}),
    ("every_type_returns_exactly", broken.MakesFloats, DECIMAL),
    ("every_type_returns_exactly", broken.MakesFloatsAndSaysSo, DECIMAL),
    ("every_type_returns_exactly", broken.DeclaresWhatItStores, INT64),
    ("every_type_returns_exactly", broken.RefusesWithoutAWord, INT64),
    ("it_travels_to_a_worker", broken.StoreWithALock, {}),
    ("a_receipt_is_small_json", broken.TalkativeReceipts, {}),
    ("secrets_are_never_printed", broken.StorePrintsItsPassword, {}),
]
ENGINES = [
    ("every_row_arrives_once", twins.DropsTheLastBatch, {"lanes": 1}),
    ("every_row_arrives_once", twins.SealsASplitTwice, {"lanes": 3}),
    ("every_split_gives_one_receipt", twins.SealsASplitTwice, {}),
    ("every_split_gives_one_receipt", twins.ForgetsTheEpoch, {}),
    ("batches_arrive_in_order_within_a_split", twins.LastBatchFirst, {}),
    ("the_decision_is_left_to_the_flow", twins.CommitsByItself, {}),
    ("each_receipt_is_told_as_it_comes", twins.TellsAtTheEnd, {}),
    ("a_receipt_that_cannot_be_kept_ends_the_move", twins.GoesOnWithoutAJournal, {}),
    ("a_transient_error_costs_no_row", twins.GoesOnWhereItBroke, {"side": "store"}),
    ("a_transient_error_costs_no_row", twins.UsesATicketTwice, {"side": "home"}),
    ("a_transient_error_costs_no_row", twins.CountsNoRetry, {"side": "home"}),
    ("a_transient_error_costs_no_row", twins.CallsAFailureGivenUp, {"side": "home"}),
    ("a_transient_error_that_stays_ends_the_move", twins.NeverGivesUp, {}),
    (
        "an_error_that_stays_stops_at_once_with_its_cause",
        twins.RetriesAll,
        {"side": "home", "kind": "foreign"},
    ),
    (
        "an_error_that_stays_stops_at_once_with_its_cause",
        twins.LosesTheCause,
        {"side": "store", "kind": "unfit"},
    ),
    (
        "an_error_that_stays_stops_at_once_with_its_cause",
        twins.LosesTheCause,
        {"side": "store", "kind": "foreign"},
    ),
    ("a_home_that_breaks_midway_seals_nothing", twins.EndsWhereTheHomeBroke, {}),
    ("a_killed_worker_costs_no_row", twins.SkipsTheDead, {"side": "home"}),
    ("it_moves_again_after_a_failure", twins.FailsForGood, {}),
    ("a_stop_ends_the_move_soon", twins.IgnoresTheStop, {}),
    ("a_stop_ends_the_move_soon", twins.StopsQuietly, {}),
    ("bytes_in_flight_are_bounded_when_the_store_is_slow", twins.BuffersEverything, {}),
    ("a_batch_larger_than_the_budget_passes_alone", twins.RefusesLargeBatches, {}),
    ("an_empty_home_gives_an_empty_receipt", twins.NoReceiptForNothing, {}),
    ("an_unknown_schema_is_found_by_looking", twins.NeverLooksForASchema, {"rows": 10}),
    ("an_unknown_schema_is_found_by_looking", twins.NeverLooksForASchema, {"rows": 0}),
]
ALL = [
    (suite, *row)
    for suite, rows in ((HomeSuite, HOMES), (StoreSuite, STORES), (EngineSuite, ENGINES))
    for row in rows
]


@pytest.mark.parametrize(
    ("suite", "test", "twin", "how"), ALL, ids=[f"{row[2].__name__}-{row[1]}" for row in ALL]
)
def test_a_broken_twin_is_caught(suite, test, twin, how, tmp_path, caplog):
    how = dict(how)
    raises = how.pop("raises", AssertionError)
    with pytest.raises((raises, pytest.fail.Exception)):
        _run(suite, f"test_{test}", twin, how, tmp_path, caplog)


@pytest.mark.parametrize(
    ("suite", "rows"), [(HomeSuite, HOMES), (StoreSuite, STORES), (EngineSuite, ENGINES)]
)
def test_every_promise_has_a_twin_that_breaks_it(suite, rows):
    promised = {name.removeprefix("test_") for name in dir(suite) if name.startswith("test_")}
    assert promised == {name for name, _, _ in rows}


def _run(suite, test, twin, how, tmp_path, caplog=None):
    instance = type(f"{twin.__name__}Suite", (suite,), {"kind": twin})()
    method = getattr(instance, test)
    if "files" in how:
        files = how.pop("files")
        make = instance.make
        instance.make = lambda table, folder: make(table, folder, files=files)
    if "caplog" in inspect.signature(method).parameters:
        how["caplog"] = caplog
    method(tmp_path=tmp_path, **how)
