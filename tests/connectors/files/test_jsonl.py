from hygge import JsonlHome, JsonlStore
from hygge.testing import HomeContract, StoreContract
from tests.readers.foreign import (
    jsonl_records,
    plant_file,
    text_options,
    text_rows,
    without_a_row,
    write_jsonl,
)


class TestJsonlHome(HomeContract):
    big_rows = 24_000

    def make(self, table, tmp_path):
        write_jsonl(table, tmp_path / "t.jsonl")
        options = text_options(table, self.batch_rows)
        return JsonlHome(path=tmp_path / "t.jsonl", options=options)

    change = staticmethod(without_a_row)


class TestJsonlStore(StoreContract):
    make = lambda self, tmp_path: JsonlStore(path=tmp_path / "out")  # noqa: E731
    rows, plant_foreign = text_rows(JsonlHome, jsonl_records), plant_file
