"""k8s/components/monitoring: the dashboard asks for metrics that there are, in PromQL."""

from __future__ import annotations

import json
import re
from typing import Any

import promql_parser
import pytest

from tests.k8s.manifests import HYGGE_METRICS, RAY_METRICS, ROOT, of_kind, overlay


def dashboard() -> dict[str, Any]:
    (map_,) = [
        each
        for each in of_kind(overlay("migration"), "ConfigMap")
        if each["metadata"]["name"] == "hygge-dashboard"
    ]
    assert map_["metadata"]["labels"] == {"grafana_dashboard": "1"}
    return dict(json.loads(map_["data"]["dashboard.json"]))


def queries() -> list[str]:
    return [each["expr"] for panel in dashboard()["panels"] for each in panel.get("targets", [])]


def filled_in(query: str) -> str:
    """With values in the place of Grafana's variables."""
    values = {"$__interval_ms": "60000", "$__interval": "1m", "$__range": "1h", "$flow": ".*"}
    for variable, value in values.items():
        query = query.replace(variable, value)
    return query.replace("$namespace", "hygge")


def test_every_query_of_the_dashboard_is_promql_over_metrics_that_there_are() -> None:
    used = set()
    for query in queries():
        promql_parser.parse(filled_in(query))
        named = set(re.findall(r"\bray_\w+", query))
        used |= named
        known = HYGGE_METRICS | RAY_METRICS
        assert named <= known.keys(), query
        labels = set(re.findall(r"(\w+) ?=~?", query))
        for group in re.findall(r"by \(([^)]*)\)", query):
            labels |= set(group.split(", "))
        beside = {"flow", "home", "store"} if "hygge" in query else {"pod", "namespace"}
        assert labels - beside <= set().union(*(known[each] for each in named)), query
    assert used == HYGGE_METRICS.keys() | RAY_METRICS.keys(), "a metric that no panel shows"
    with pytest.raises(ValueError, match="unexpected"):
        promql_parser.parse(filled_in(queries()[0] + ")"))


def test_the_panels_of_the_dashboard_do_not_lie_on_each_other() -> None:
    taken: set[tuple[int, int]] = set()
    panels = dashboard()["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    for panel in panels:
        at = panel["gridPos"]
        mine = {
            (x, y)
            for x in range(at["x"], at["x"] + at["w"])
            for y in range(at["y"], at["y"] + at["h"])
        }
        assert not mine & taken, panel["title"]
        assert at["x"] + at["w"] <= 24
        assert panel["type"] == "row" or panel["description"], panel["title"]
        taken |= mine


def test_the_metrics_are_those_that_hygge_counts() -> None:
    source = (ROOT / "hygge" / "engine" / "ray" / "metrics.py").read_text()
    counted = set(re.findall(r'"(hygge_\w+)"', source))
    assert {f"ray_{name}" for name in counted} == HYGGE_METRICS.keys()
