from hygge import CsvHome, CsvStore
from hygge.testing import HomeContract, StoreContract
from tests.readers.foreign import (
    csv_records,
    plant_file,
    text_options,
    text_rows,
    without_a_row,
    write_csv,
)


class TestCsvHome(HomeContract):
    big_rows = 24_000

    def make(self, table, tmp_path):
        write_csv(table, tmp_path / "t.csv")
        options = text_options(table, self.batch_rows)
        options["newlines_in_values"] = "v" in table.column_names
        return CsvHome(path=tmp_path / "t.csv", options=options)

    change = staticmethod(without_a_row)


class TestCsvStore(StoreContract):
    make = lambda self, tmp_path: CsvStore(path=tmp_path / "out")  # noqa: E731
    rows, plant_foreign = text_rows(CsvHome, csv_records), plant_file
