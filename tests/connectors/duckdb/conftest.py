import duckdb
import pytest


@pytest.fixture
def path(tmp_path):
    return str(tmp_path / "lake.duckdb")


@pytest.fixture
def sql(path):
    """Run a statement in the database as somebody who knows nothing of hygge."""

    def run(statement, at=path):
        with duckdb.connect(at) as connection:
            return connection.execute(statement).fetchall()

    return run
