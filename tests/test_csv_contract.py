from foreign import csv_records, plant_file, text_rows, type_words, without_a_row, write_csv

from hygge import CsvHome, CsvStore
from hygge.testing import HomeContract, StoreContract


class TestCsvHome(HomeContract):
    def make(self, table, tmp_path):
        write_csv(table, tmp_path / "t.csv")
        options = {"batch_size": self.batch_rows, "types": type_words(table.schema)}
        options |= {"split_bytes": table.nbytes // 8 + 999, "newlines_in_values": "v" in table.column_names}
        return CsvHome(path=tmp_path / "t.csv", options=options)

    change = staticmethod(without_a_row)


class TestCsvStore(StoreContract):
    make = lambda self, tmp_path: CsvStore(path=tmp_path / "out")  # noqa: E731
    rows, plant_foreign = text_rows(CsvHome, csv_records), plant_file
