"""Who is asked for keys, region and endpoint of an object store, and who goes before whom."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from hygge import ParquetStore
from hygge.errors import ConfigError
from hygge.places.access import Access, client, endpoint

CONFIG = """\
[default]
sso_session = corp
region = eu-west-3
endpoint_url = https://of-the-profile
[profile keys]
region = eu-west-3
endpoint_url = https://of-the-profile
"""
KEYS = {"access_key_id": "k", "secret_access_key": "s"}


@pytest.fixture(autouse=True)
def aws(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A home whose default profile signs in, and another with keys; nothing in the environment."""
    for name in [each for each in os.environ if each.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / ".aws").mkdir()
    (tmp_path / ".aws/config").write_text(CONFIG)
    (tmp_path / ".aws/credentials").write_text(
        "[keys]\naws_access_key_id = p\naws_secret_access_key = q\n"
    )


def test_a_profile_that_signs_in_is_refused_where_its_keys_are_wanted() -> None:
    for access in (None, Access(region="eu-west-1")):
        with pytest.raises(ConfigError, match="'default' in ~/.aws has no keys of its own"):
            client("s3://b", access, once=False)


@pytest.mark.parametrize("said", [{"anonymous": True}, KEYS])
def test_a_profile_that_signs_in_is_in_the_way_of_nobody_who_needs_none(said: dict) -> None:
    access = Access(**said, region="eu-west-1")
    assert endpoint("s3://b", access) == ""
    made = client("s3://b", access, once=False)
    assert made.config["region"] == "eu-west-1"
    assert "endpoint" not in made.config


def test_the_environment_goes_before_a_profile(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_PROFILE", "keys")
    assert client("s3://b", None, once=False).config["region"] == "eu-west-3"
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-west-2")
    assert client("s3://b", None, once=False).config["region"] == "eu-west-2"
    monkeypatch.setenv("AWS_REGION", "eu-west-1")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "https://around")
    made = client("s3://b", None, once=False)
    assert (made.config["region"], made.config["endpoint"]) == ("eu-west-1", "https://around")
    assert client("s3://b", Access(region="us-west-1"), False).config["region"] == "us-west-1"


def test_a_misspelt_key_of_a_connection_is_told_the_nearest() -> None:
    with pytest.raises(ConfigError, match="does not know 'connection.acces_key_id'") as caught:
        ParquetStore(path="s3://lake/users", connection={"acces_key_id": "k"})
    assert "did you mean 'access_key_id'?" in (caught.value.hint or "")
