"""k8s/components/: each of them fits upon the migration, and does what its first lines say."""

from __future__ import annotations

import functools
import os
from pathlib import Path
from typing import Any

import pytest

from tests.k8s.kuberay import judged
from tests.k8s.manifests import ROOT, Manifest, of_kind, overlay, rayjob, render, schema_problems

COMPONENTS = sorted(path.name for path in (ROOT / "k8s" / "components").iterdir())
CLOUDS = {
    "identity-eks": "eks.amazonaws.com/role-arn",
    "identity-gke": "iam.gke.io/gcp-service-account",
    "identity-aks": "azure.workload.identity/client-id",
}


@pytest.fixture(scope="session")
def with_components(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Return a function that renders the migration with some components."""

    @functools.cache
    def rendered(*names: str) -> list[Manifest]:
        folder = tmp_path_factory.mktemp("overlay")
        k8s = os.path.relpath(ROOT / "k8s", folder)
        listed = "".join(f"  - {k8s}/components/{name}\n" for name in names)
        Path(folder / "kustomization.yaml").write_text(
            "apiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\n"
            f"resources:\n  - {k8s}/overlays/migration\ncomponents:\n{listed}"
        )
        return render(folder)

    return rendered


def pod(manifests: list[Manifest], kind: str) -> Manifest:
    cluster = rayjob(manifests)["spec"]["rayClusterSpec"]
    group = cluster["headGroupSpec"] if kind == "head" else cluster["workerGroupSpecs"][0]
    template: Manifest = group["template"]
    return template


@pytest.mark.parametrize("name", [name for name in COMPONENTS if name != "monitoring"])
def test_a_component_upon_the_migration_fits_schemas_and_rules(name: str, with_components) -> None:
    manifests = with_components(name)
    assert {each["metadata"]["name"]: schema_problems(each) for each in manifests} == {
        each["metadata"]["name"]: [] for each in manifests
    }
    assert judged(manifests).broken == {}
    assert manifests != overlay("migration")


def test_all_components_fit_each_other(with_components) -> None:
    one_cloud = [name for name in COMPONENTS if name not in ("monitoring", *list(CLOUDS)[1:])]
    manifests = with_components(*one_cloud)
    assert [problem for each in manifests for problem in schema_problems(each)] == []
    assert judged(manifests).broken == {}
    worker = pod(manifests, "worker")["spec"]
    assert worker["affinity"].keys() == {"nodeAffinity", "podAffinity"}


def test_workers_may_be_taken_back_and_the_head_stays(with_components) -> None:
    manifests = overlay("spot")
    head, worker = pod(manifests, "head")["spec"], pod(manifests, "worker")["spec"]
    required = "requiredDuringSchedulingIgnoredDuringExecution"

    def asked(of: Manifest) -> dict[str, str]:
        terms = of["affinity"]["nodeAffinity"][required]["nodeSelectorTerms"]
        labels = [each for term in terms for each in term["matchExpressions"]]
        return {each["key"]: each["operator"] for each in labels}

    on_spot, on_others = asked(worker), asked(head)
    assert on_spot.keys() == on_others.keys()
    assert set(on_spot.values()) == {"In"}
    assert set(on_others.values()) == {"NotIn", "DoesNotExist"}
    assert "tolerations" not in head
    assert {each["key"] for each in worker["tolerations"]} < on_spot.keys()
    (budget,) = of_kind(manifests, "PodDisruptionBudget")
    assert budget["spec"]["maxUnavailable"] == 0
    assert budget["spec"]["selector"]["matchLabels"] == {
        "app": "hygge",
        "ray.io/node-type": "head",
    }
    (priority,) = of_kind(manifests, "PriorityClass")
    assert "namespace" not in priority["metadata"]
    for each in (head, worker):
        assert each["priorityClassName"] == priority["metadata"]["name"]


def test_workers_grow_from_none_to_the_lanes(with_components) -> None:
    manifests = overlay("autoscaling")
    (workers,) = rayjob(manifests)["spec"]["rayClusterSpec"]["workerGroupSpecs"]
    assert (workers["minReplicas"], workers["replicas"], workers["maxReplicas"]) == (0, 0, 8)
    assert pod(manifests, "head")["spec"]["automountServiceAccountToken"] is True
    assert "automountServiceAccountToken" not in pod(manifests, "worker")["spec"]


@pytest.mark.parametrize(("name", "annotation"), CLOUDS.items())
def test_a_cloud_lends_the_bucket_to_the_service_account(
    name: str, annotation: str, with_components
) -> None:
    manifests = with_components(name)
    (account,) = of_kind(manifests, "ServiceAccount")
    assert account["metadata"]["annotations"].keys() == {annotation}
    for kind in ("head", "worker"):
        assert pod(manifests, kind)["spec"]["serviceAccountName"] == account["metadata"]["name"]
        used = pod(manifests, kind)["metadata"]["labels"].get("azure.workload.identity/use")
        assert used == ("true" if name == "identity-aks" else None)


def test_every_service_account_hands_on_the_secret_of_the_registry(with_components) -> None:
    for each in of_kind(with_components("pull-secret"), "ServiceAccount"):
        assert each["imagePullSecrets"] == [{"name": "hygge-registry"}]
