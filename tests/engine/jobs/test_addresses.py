"""What people give as the address of a cluster: each form of the same one, and what is none."""

from __future__ import annotations

import pytest

from hygge.engine.jobs.addresses import choose_address, normalize
from hygge.engine.ray import connection
from hygge.errors import UsageError


@pytest.mark.parametrize(
    "given",
    [
        "head:8265", "http://head:8265", "HTTP://head:8265/", " http://head:8265\n",
        "http://head:8265/#/overview", "http://head:8265/?token=s3cr3t#/jobs",
    ],
)  # fmt: skip
def test_an_address_is_taken_as_a_browser_or_a_file_has_it(given: str) -> None:
    assert normalize(given) == "http://head:8265"


@pytest.mark.parametrize(
    "given",
    [
        "", " ", "auto", "local", "//head:8265", "http:/head:8265", "http//head:8265", "::1:8265",
        "http://[::1:8265", "he ad:8265", "head:6379,other:6379", "http://:8265", "gcs://head",
    ],
)  # fmt: skip
def test_what_is_no_address_is_a_wrong_use(given: str) -> None:
    with pytest.raises(UsageError, match="is no address of Ray's dashboard"):
        normalize(given)


def test_a_variable_with_the_line_end_of_a_secret_names_a_cluster(monkeypatch) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "HTTP://head:8265\n")
    assert choose_address(None) == "http://head:8265"
    monkeypatch.setenv("RAY_ADDRESS", "")
    monkeypatch.setenv("RAY_API_SERVER_ADDRESS", "other:8265\n")
    assert choose_address(None) == "http://other:8265"
    monkeypatch.setenv("RAY_API_SERVER_ADDRESS", " ")
    assert choose_address(None) is None
    monkeypatch.setenv("RAY_API_SERVER_ADDRESS", "auto")
    with pytest.raises(UsageError, match="^RAY_API_SERVER_ADDRESS: auto is no address of Ray's"):
        choose_address(None)


def test_a_dashboard_in_ray_address_is_for_files_of_flows_alone(monkeypatch) -> None:
    """As `hygge move` and a Flow in Python would join it."""
    monkeypatch.setenv("RAY_ADDRESS", "http://head:8265")
    with pytest.raises(UsageError, match="is http://head:8265, a dashboard: flows of a file"):
        connection.find_running()
