"""`repr` of Flows, Coordinators, Homes, Stores and settings: useful, and without secrets."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import Field, SecretStr

from hygge import (
    ConfigError,
    Coordinator,
    CsvHome,
    Flow,
    Home,
    ParquetHome,
    ParquetStore,
    Settings,
    SQLHome,
    SQLStore,
    Store,
)

pytest_plugins = ["pytester"]
SECRET = "s3cret"
URL = f"postgresql+psycopg://app:{SECRET}@db/shop?sslpassword={SECRET}"
ACCESS: dict[str, Any] = {
    "region": "eu-west-1",
    "access_key_id": SECRET,
    "secret_access_key": SECRET,
    "session_token": SECRET,
}


class Service(Home):
    """Rows of a service."""

    class Settings(Settings):
        url: str
        api_key: str
        pages: int = 3
        login: SecretStr
        hidden: str = Field(repr=False)
        headers: dict[str, str] = Field(default_factory=dict)
        accounts: list[dict[str, str]] = Field(default_factory=list)

    async def read_batches(self):
        yield {"n": [1]}


def service() -> Service:
    return Service(
        "rows",
        url=f"https://app:{SECRET}@rows/api?token={SECRET}&page=1",
        api_key=SECRET,
        login=SECRET,
        hidden=SECRET,
        headers={"Authorization": f"Bearer {SECRET}", "X-Api-Key": SECRET},
        accounts=[{"user": "me", "password": SECRET}],
    )


class Own(Store):
    def __init__(self, token: str) -> None:
        self.token = token

    async def write(self, df): ...


def test_repr_says_where_a_home_or_a_store_is():
    assert repr(SQLHome("users", connection=URL, table="public.users")) == (
        "SQLHome('users', connection='postgresql://app:***@db/shop', table='public.users')"
    )
    assert repr(SQLStore("users", connection="sqlite:////tmp/lake.db")) == (
        "SQLStore('users', connection='sqlite:////tmp/lake.db')"
    )
    assert repr(ParquetStore("users", path="data/users", options={"compression": "zstd"})) == (
        "ParquetStore('users', path='data/users', options=ParquetOptions(compression='zstd'))"
    )
    assert repr(CsvHome(path="a.csv", columns=["a"])) == "CsvHome(path='a.csv', columns=['a'])"
    assert repr(ParquetStore()) == "ParquetStore()"
    assert repr(Own(SECRET)) == "Own()"
    assert repr(Own) == f"<class '{__name__}.Own'>"


def test_repr_says_what_a_flow_moves():
    flow = Flow(CsvHome(path="a.csv"), ParquetStore("b"), name="ab", mode="append")
    assert repr(flow) == (
        "Flow(CsvHome(path='a.csv'), ParquetStore('b'), name='ab', mode='append')"
    )
    merge = Flow(
        CsvHome(path="a.csv"),
        SQLStore("b", connection="sqlite:////tmp/lake.db"),
        mode="merge",
        key="id",
    )
    assert repr(merge).endswith(", name='a_to_b', mode='merge', key=['id'])")


def test_repr_says_which_flows_a_coordinator_runs(tmp_path):
    flow = "  f{0}: {{home: a.csv, store: out/{0}}}\n"
    file = tmp_path / "flows.yml"
    file.write_text("flows:\n" + "".join(flow.format(n) for n in range(2)))
    assert repr(Coordinator(file)) == f"Coordinator('{file}', flows=['f0', 'f1'])"
    file.write_text("flows:\n" + "".join(flow.format(n) for n in range(30)))
    assert repr(Coordinator(file)).endswith("'f9', …])")


def all_with_secrets() -> list[Any]:
    homes = [
        SQLHome("users", connection=URL),
        SQLHome("q", connection=URL, query=f"SELECT * FROM dblink('host=a password={SECRET}')"),
        ParquetHome("users", path="s3://lake/users", connection=ACCESS),
        service(),
    ]
    stores = [
        SQLStore("copy", connection=URL),
        ParquetStore("copy", path="s3://lake/copy", connection=ACCESS),
        Own(SECRET),
    ]
    flows = [Flow(home, store, mode="append") for home in homes for store in stores]
    models = [end.settings for end in (*homes, *stores) if end.settings is not None]
    access = [model.connection for model in models if hasattr(model, "connection")]
    return [
        *homes,
        *stores,
        *flows,
        *models,
        *(each for each in access if not isinstance(each, str)),
    ]


@pytest.mark.parametrize("thing", all_with_secrets(), ids=lambda thing: type(thing).__name__)
def test_no_secret_is_in_any_text_of_a_thing(thing):
    texts = [repr(thing), str(thing), f"{thing}", f"{thing!r}", "%s" % (thing,), ascii([thing])]  # noqa: UP031
    for text in texts:
        assert SECRET not in text


def test_a_secret_in_a_file_of_flows_is_not_in_the_repr_of_its_coordinator(tmp_path):
    file = tmp_path / "flows.yml"
    file.write_text(
        f"connections: {{shop: 'postgresql://app:{SECRET}@db/shop'}}\n"
        "flows: {users: {home: 'shop#users', store: out}}\n"
    )
    assert SECRET not in repr(Coordinator(file))


def test_a_secret_that_is_no_text_is_not_shown_by_the_error():
    with pytest.raises(ConfigError, match="'api_key' is not shown") as caught:
        Service("rows", url="https://rows", api_key=[SECRET], login=SECRET, hidden=SECRET)
    assert SECRET not in str(caught.value)


def test_repr_keeps_what_is_no_secret():
    shown = repr(service())
    for part in ("'rows'", "https://app:***@rows/api?token=***", "api_key='***'", "'user': 'me'"):
        assert part in shown
    assert "pages" not in shown, "nobody said it"
    assert "hidden" not in shown


def test_a_failed_assertion_over_settings_shows_no_secret(pytester):
    pytester.makepyfile(
        f"""
        from hygge import Settings, SQLHome

        class Own(Settings):
            password: str
            port: int = 1

        own = Own(password="{SECRET[:3]}" + "{SECRET[3:]}", port=2)
        url = "postgresql://app:{SECRET[:3]}" + "{SECRET[3:]}" + "@db/shop"
        home = SQLHome("users", connection=url)

        def test_models():
            assert own == Own(password="x")

        def test_homes():
            assert home.settings == home
        """
    )
    result = pytester.runpytest_inprocess("-vv", "-p", "no:cacheprovider")
    result.assert_outcomes(failed=2)
    shown = result.stdout.str()
    assert "port=2" in shown
    assert "postgresql://app:***@db/shop" in shown
    assert SECRET not in shown
