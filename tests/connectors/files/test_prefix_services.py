"""Google's and Azure's object stores: the contracts, and runs with flows.yml in the bucket."""

from __future__ import annotations

import json
import os
import uuid
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from obstore.store import AzureStore, GCSStore

from hygge import ParquetHome, ParquetStore
from hygge.errors import ConfigError, HyggeError
from hygge.places.bucket import Bucket
from hygge.testing import HomeContract, StoreContract
from tests.forked import hygge
from tests.servers import azurite, gcs

HTTP = {"client_options": {"allow_http": True}}


class OnAzure:
    """By a connection; nothing in the environment says anything."""

    @pytest.fixture(autouse=True)
    def _endpoint(self, monkeypatch: pytest.MonkeyPatch) -> None:
        for name in [each for each in os.environ if each.startswith("AZURE_")]:
            monkeypatch.delenv(name)
        azurite.started()

    top = f"az://{azurite.CONTAINER}"

    def access(self, key: str = azurite.KEY) -> dict:
        return {"account_name": azurite.ACCOUNT, "account_key": key, "endpoint": azurite.started()}

    def bucket(self):
        return AzureStore(azurite.CONTAINER, **self.access(), **HTTP)


class OnGoogle:
    """By what the environment says."""

    top = f"gs://{gcs.BUCKET}"

    @pytest.fixture(autouse=True)
    def _endpoint(self, monkeypatch: pytest.MonkeyPatch, tmp_path_factory) -> None:
        file = tmp_path_factory.mktemp("google") / "key.json"
        file.write_text(gcs.key_file())
        monkeypatch.setenv("GOOGLE_SERVICE_ACCOUNT", str(file))
        monkeypatch.setenv("GOOGLE_BASE_URL", gcs.started())

    def access(self, key: str = "") -> dict | None:
        if not key:
            return None
        file = f"{os.environ['GOOGLE_SERVICE_ACCOUNT']}.other"
        told = {"client_email": "a@b", "private_key": key, "private_key_id": key}
        Path(file).write_text(json.dumps(told))
        return {"service_account": file}

    def bucket(self):
        return GCSStore(gcs.BUCKET, **HTTP)


class Stores(StoreContract):
    test_every_type_returns_exactly = None  # the writers are those of disks
    test_memory_is_bounded_while_staging = None  # tests/connectors/files/test_prefix.py

    def make(self, tmp_path):
        url = f"{self.top}/{uuid.uuid4().hex[:12]}/users"
        return ParquetStore(path=url, connection=self.access())

    def rows(self, store):
        start, bucket = f"{store.describe().removeprefix(self.top)[1:]}/", self.bucket()
        found = [each["path"] for page in bucket.list(start) for each in page]
        shown = [key for key in found if "/_" not in key and key.endswith(".parquet")]
        tables = [pq.read_table(pa.BufferReader(bytes(bucket.get(k).bytes()))) for k in shown]
        return pa.concat_tables(tables) if tables else None

    def plant_foreign(self, store):
        key, bucket = f"{store.describe().removeprefix(self.top)[1:]}/theirs.txt", self.bucket()
        bucket.put(key, b"theirs")
        return lambda: bytes(bucket.get(key).bytes()) == b"theirs"

    def make_with_secret(self, secret, tmp_path):
        return ParquetStore(path=f"{self.top}/x/users", connection=self.access(secret))


class Homes(HomeContract):
    test_every_type_returns_exactly = None  # the readers are those of disks
    test_memory_is_bounded_whatever_the_size = None  # tests/connectors/files/test_object_listing.py
    test_the_first_batch_comes_before_all_is_read = None

    def make(self, table, tmp_path):
        pq.write_table(table, tmp_path / "t", row_group_size=self.batch_rows)
        url = f"{self.top}/{uuid.uuid4().hex[:12]}/t.parquet"
        self.bucket().put(url.removeprefix(self.top)[1:], (tmp_path / "t").read_bytes())
        options = {"batch_size": self.batch_rows, "split_bytes": 5_000}
        return ParquetHome(path=url, options=options, connection=self.access())

    def change(self, home):
        key, bucket = home.path.removeprefix(self.top)[1:], self.bucket()
        bucket.put(key, bytes(bucket.get(key).bytes()) + b"\n")


class TestStoreOnAzure(OnAzure, Stores):
    pass


class TestStoreOnGoogle(OnGoogle, Stores):
    pass


class TestHomeOnAzure(OnAzure, Homes):
    pass


class TestHomeOnGoogle(OnGoogle, Homes):
    pass


class Places:
    """A place of small entries, its refusals, and a whole run of a file that lies in the bucket."""

    def place(self, path: str = "", **other) -> Bucket:
        given = {**(self.access() or {}), **other}
        return ParquetStore(
            path=f"{self.top}/{path or uuid.uuid4().hex[:12]}/x", connection=given or None
        ).target.bucket

    def test_creating_twice_is_refused_and_what_is_gone_may_go_again(self):
        place = self.place()
        place.check()
        assert place.create("k/a b=ü", b"1")
        assert not place.create("k/a b=ü", b"2")
        place.put("k/b", b"2")
        assert place.keys("k") == ["k/a b=ü", "k/b"]
        assert place.entries("k")["k/b"] == place.entry("k/b")
        place.drop(["k/b", "k/never"])
        place.drop(["k/b", "k/a b=ü"])
        assert (place.keys(""), place.get("k/b"), place.copy("k/b", "c", 1)) == ([], None, False)

    def test_a_large_file_comes_in_parts(self, tmp_path):
        place, content = self.place(), os.urandom(9 << 20)
        (tmp_path / "f").write_bytes(content)
        place.upload("f", str(tmp_path / "f"))
        assert place.copy("f", "g", len(content))
        assert place.get("g") == content
        entry = place.entry("g")
        assert place.part("g", 5, 9, entry.tag) == content[5:9]
        place.put("g", content)
        assert place.part("g", 5, 9, '"of another state"') is None

    def test_a_bucket_that_is_not_there_is_named(self):
        missing = f"{self.top.partition('://')[0]}://no-such-bucket"
        with pytest.raises(HyggeError, match=f"there is no bucket {missing}") as caught:
            ParquetStore(path=f"{missing}/a/b", connection=self.access()).target.bucket.put(
                "k", b""
            )
        assert "create it" in caught.value.hint

    def test_a_file_in_the_bucket_moves_what_lies_beside_it(self, tmp_path, monkeypatch):
        for name, value in self.around().items():
            monkeypatch.setenv(name, value)
        top, bucket = uuid.uuid4().hex[:12], self.bucket()
        bucket.put(f"{top}/data/a.csv", b"id,v\n1,x\n2,y\n")
        kinds = ("parquet", "arrow", "csv", "jsonl")
        steps, before = [], "data/a.csv"
        for n, kind in enumerate(kinds):
            said = f"{{type: {kind}, path: out/{kind}}}"
            steps.append(f"  f{n}: {{home: {before}, store: {said}, depends_on: {_after(n)}}}\n")
            before = said
        bucket.put(f"{top}/flows.yml", f"flows:\n{''.join(steps)}".encode())
        where = f"{self.top}/{top}/flows.yml"
        done = hygge("run", "--inline", where, cwd=tmp_path, env=os.environ)
        assert done.returncode == 0, done.stderr
        assert done.stdout.count("2 rows") == 4, done.stdout
        assert azurite.KEY not in done.stdout + done.stderr
        keys = [each["path"].split("/", 1)[1] for page in bucket.list(top) for each in page]
        lines = [key for key in keys if key.startswith("out/jsonl/part-")]
        (found,) = [bytes(bucket.get(f"{top}/{key}").bytes()) for key in lines]
        assert [json.loads(line) for line in found.splitlines()] == [
            {"id": 1, "v": "x"}, {"id": 2, "v": "y"},
        ]  # fmt: skip
        assert any(key.startswith(".hygge/flows/f0/") for key in keys), keys
        assert os.listdir(tmp_path) == []


class TestPlaceOnAzure(OnAzure, Places):
    def around(self):
        return {
            "AZURE_STORAGE_ACCOUNT_NAME": azurite.ACCOUNT,
            "AZURE_STORAGE_ACCOUNT_KEY": azurite.KEY,
            "AZURE_STORAGE_ENDPOINT": azurite.started(),
        }

    def test_a_wrong_key_is_said_and_not_shown(self):
        place = self.place(account_key=azurite.KEY[:-4] + "AA==")
        with pytest.raises(HyggeError, match="may not be read or written.*403") as caught:
            place.put("k", b"1")
        assert "credentials of its connection" in caught.value.hint
        assert azurite.KEY[:8] not in f"{caught.value!r}{caught.value}"

    def test_abfss_names_the_account_in_the_url(self):
        access = {key: value for key, value in self.access().items() if key != "account_name"}
        for host in (azurite.ACCOUNT, f"{azurite.ACCOUNT}.dfs.core.windows.net"):
            url = f"abfss://{azurite.CONTAINER}@{host}/{uuid.uuid4().hex[:12]}/x"
            place = ParquetStore(path=url, connection=access).target.bucket
            place.put("k", b"1")
            assert place.keys("") == ["k"]
        with pytest.raises(ConfigError, match="in a cloud that hygge does not know"):
            Bucket("abfss://c@account.dfs.core.example.org/x").get("k")


class TestPlaceOnGoogle(OnGoogle, Places):
    def around(self):
        return {}


def _after(n: int) -> str:
    return f"[f{n - 1}]" if n else "[]"
