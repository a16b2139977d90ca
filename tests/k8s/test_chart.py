"""k8s/chart renders what k8s/overlays and k8s/components do, and refuses what cannot be meant."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import yaml

import hygge
from tests.k8s.charts import CHART, lint_chart, render_chart
from tests.k8s.kuberay import judged
from tests.k8s.manifests import ROOT, Manifest, of_kind, overlay, rayjob, schema_problems
from tests.k8s.test_components import CLOUDS, with_components  # noqa: F401

SETTINGS = dict(
    line.split("=", 1)
    for line in (ROOT / "k8s/overlays/migration/settings.env").read_text().splitlines()
    if not line.startswith("#")
)
REQUEST = SETTINGS.pop("HYGGE_REQUEST")
FLOWS = (ROOT / "samples" / "08_migration.yml").read_text()
MIGRATION: dict[str, Any] = {
    "flows": FLOWS, "settings": SETTINGS, "request": REQUEST, "backoffLimit": 1,
    "workers": {"replicas": 8}, "monitoring": True,
}  # fmt: skip
AS_COMPONENT: dict[str, dict[str, Any]] = {
    "autoscaling": {"autoscaling": True},
    "spot": {"spot": True},
    "spread": {"spread": True},
    "guard": {"guard": True, "priorityClassName": "hygge"},
    "pull-secret": {"imagePullSecrets": ["hygge-registry"]},
    "identity-eks": {"identity": {"cloud": "eks", "name": "arn:aws:iam::111122223333:role/hygge"}},
    "identity-gke": {
        "identity": {"cloud": "gke", "name": "hygge@example-project.iam.gserviceaccount.com"}
    },
    "identity-aks": {"identity": {"cloud": "aks", "name": "00000000-" + "0000-" * 3 + "0" * 12}},
}


def alike(manifests: list[Manifest]) -> dict[str, Any]:
    """What the pods come to, without the names that kustomize and Helm choose."""
    instance = "app.kubernetes.io/instance"

    def plain(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: plain(each) for key, each in value.items() if key != instance}
        if isinstance(value, list):
            return [plain(each) for each in value]
        if isinstance(value, str) and value.startswith(("hygge-flows", "hygge-settings")):
            return value.rpartition("-")[0]
        return value

    job = plain(copy.deepcopy(rayjob(manifests)["spec"]))
    job["entrypoint"] = job["entrypoint"].replace("08_migration", "flows")
    job["runtimeEnvYAML"] = yaml.safe_load(job["runtimeEnvYAML"])
    kinds = ("ServiceAccount", "PodDisruptionBudget", "PodMonitor")
    others = {kind: [plain(each) for each in of_kind(manifests, kind)] for kind in kinds}
    for each in others["ServiceAccount"] + others["PodDisruptionBudget"] + others["PodMonitor"]:
        each["metadata"].pop("namespace", None)  # `helm --namespace` says it
    maps = {each["metadata"]["name"]: each["data"] for each in of_kind(manifests, "ConfigMap")}
    settings = [data for name, data in maps.items() if name.startswith("hygge-settings")]
    return {"RayJob": job, "settings": settings, "open": opened(manifests), **others}


def opened(manifests: list[Manifest]) -> dict[str, list[str]]:
    """Each port and peer that some policy opens, whatever its policy is called."""
    found: dict[str, set[str]] = {"ingress": set(), "egress": set()}
    for policy in of_kind(manifests, "NetworkPolicy"):
        for way, peers in (("ingress", "from"), ("egress", "to")):
            for rule in policy["spec"].get(way, []):
                ports = sorted(str(port["port"]) for port in rule.get("ports", []))
                who = copy.deepcopy(rule.get(peers, ["anybody"]))
                text = str(who).replace(", 'app.kubernetes.io/instance': 'hygge'", "")
                found[way] |= {f"{port} {text}" for port in ports or ["all"]}
    return {way: sorted(each) for way, each in found.items()}


def test_helm_has_nothing_to_say_against_the_chart() -> None:
    assert lint_chart().get("errors") in (None, [])
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    assert chart["version"] == chart["appVersion"] == hygge.__version__


def test_the_chart_is_the_migration_with_its_values() -> None:
    manifests = render_chart(MIGRATION)
    assert alike(manifests) == alike(overlay("migration"))
    assert [problem for each in manifests for problem in schema_problems(each)] == []
    assert judged(manifests).broken == {}


@pytest.mark.parametrize(("name", "values"), AS_COMPONENT.items())
def test_each_value_is_the_component_of_that_name(
    name: str,
    values: dict[str, Any],
    with_components: Any,  # noqa: F811
) -> None:
    manifests = render_chart(MIGRATION | values)
    assert alike(manifests) == alike(with_components(name))
    assert [problem for each in manifests for problem in schema_problems(each)] == []
    assert judged(manifests).broken == {}


def test_all_values_at_once_and_two_releases_in_one_namespace() -> None:
    everything = {key: each for values in AS_COMPONENT.values() for key, each in values.items()}
    one, two = (render_chart(MIGRATION | everything, name) for name in ("orders", "users"))
    names = {(each["kind"], each["metadata"]["name"]) for each in one}
    assert names.isdisjoint((each["kind"], each["metadata"]["name"]) for each in two)
    assert [problem for each in one for problem in schema_problems(each)] == []
    for each in of_kind(one, "NetworkPolicy") + of_kind(one, "PodDisruptionBudget"):
        which = each["spec"].get("podSelector", each["spec"].get("selector"))
        assert which["matchLabels"]["app.kubernetes.io/instance"] == "orders"


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"flows": ""}, "--set-file flows=flows.yml"),
        ({"spott": True}, "spott"),
        ({"image": {"repository": "hygge", "tag": "latest"}}, "tag"),
        ({"settings": {"LANES": 8}}, "LANES"),
        ({"request": "", "backoffLimit": 1}, "add an append twice"),
        ({"identity": {"cloud": "ibm"}}, "cloud"),
        ({"identity": {"cloud": "eks"}}, "identity.cloud needs identity.name"),
    ],
)
def test_what_cannot_be_meant_is_refused(values: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        render_chart(MIGRATION | values)
    assert set(CLOUDS) < set(AS_COMPONENT)
