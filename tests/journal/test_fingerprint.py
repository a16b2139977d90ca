"""The fingerprint of a flow: what counts as a change between two versions, and no secret."""

from __future__ import annotations

from hygge import CsvHome, Home, ParquetHome, ParquetStore, Settings
from hygge.journal.fingerprint import (
    default_fingerprint,
    difference,
    fingerprint,
    with_current_types,
)


class Keyed(Home):
    class Settings(Settings):
        api_key: str
        region: str = "eu"

    async def read_batches(self):
        yield {"id": [1]}


def test_a_setting_that_is_named_like_a_secret_is_left_out(tmp_path):
    store = ParquetStore("t", path=tmp_path)
    now = fingerprint(Keyed(api_key="hushhush"), store, "append", [])
    assert "hushhush" not in str(now)
    assert now["home.region"] == '"eu"'
    written_before = {**now, "home.api_key": '"hushhush"'}
    assert difference(with_current_types(written_before), now) is None


def test_a_setting_that_the_other_version_did_not_know_has_its_default_there(tmp_path):
    home, store = ParquetHome(path=tmp_path / "in"), ParquetStore("t", path=tmp_path / "out")
    now, defaults = fingerprint(home, store, "append", []), default_fingerprint(home, store)
    then = {name: value for name, value in now.items() if not name.endswith(".compression")}
    assert len(then) < len(now)
    assert difference(then, now, defaults) is None
    smaller = ParquetStore("t", path=tmp_path / "out", options={"compression": "zstd"})
    changed = difference(then, fingerprint(home, smaller, "append", []), defaults)
    assert changed == 'store.options.compression was not given, and is "zstd"'


def test_what_csv_had_for_a_default_and_finds_today_is_no_change(tmp_path):
    store = ParquetStore("t", path=tmp_path / "out")
    home = CsvHome(path=tmp_path / "in.csv")
    now, defaults = fingerprint(home, store, "append", []), default_fingerprint(home, store)
    assert "home.options.quote" not in now
    then = {**now, "home.options.quote": '"\\""', "home.options.header": "true"}
    assert difference(then, now, defaults) is None
    then = {**now, "home.options.quote": '"\'"'}
    assert difference(then, now, defaults) == 'home.options.quote was "\'", and is not given'
    stated = CsvHome(path=tmp_path / "in.csv", options={"quote": '"'})
    assert difference(now, fingerprint(stated, store, "append", []), defaults) is not None
