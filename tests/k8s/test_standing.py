"""k8s/overlays/standing: a RayJob for a RayCluster that stands already."""

from __future__ import annotations

import re
import shlex

import yaml

import hygge
from tests.k8s.kuberay import Rules, is_pinned, of_kuberay
from tests.k8s.manifests import ROOT, overlay, pods, rayjob, schema_problems

NOT_WITH_A_SELECTOR = {
    "rayClusterSpec", "shutdownAfterJobFinishes", "ttlSecondsAfterFinished", "suspend",
    "deletionStrategy", "backoffLimit",
}  # fmt: skip


def test_the_job_adds_itself_alone_and_keeps_the_rules_of_kuberay() -> None:
    assert [each["kind"] for each in overlay("standing")] == ["RayJob"]
    job = rayjob(overlay("standing"))
    rules = Rules()
    of_kuberay(job, rules)
    assert rules.broken == {}
    assert not NOT_WITH_A_SELECTOR & job["spec"].keys()
    assert job["spec"]["clusterSelector"].keys() == {"ray.io/cluster"}
    assert schema_problems(job) == []


def test_the_submitter_has_the_image_and_no_rights() -> None:
    ((_, template),) = pods(rayjob(overlay("standing")))
    (box,) = template["spec"]["containers"]
    assert is_pinned(box["image"])
    assert box["image"].endswith(f":{hygge.__version__}")
    assert template["spec"]["securityContext"]["runAsNonRoot"] is True
    assert template["spec"]["automountServiceAccountToken"] is False
    assert box["securityContext"]["capabilities"] == {"drop": ["ALL"]}


def test_it_sets_what_the_flows_ask_for_and_their_defaults_do_not_give() -> None:
    spec = rayjob(overlay("standing"))["spec"]
    command, url = shlex.split(spec["entrypoint"])
    assert command == "hygge"
    asked = re.findall(r"\$\{(\w+)", (ROOT / "samples" / url.rpartition("/")[2]).read_text())
    variables = yaml.safe_load(spec["runtimeEnvYAML"])["env_vars"]
    assert variables.keys() - {"HYGGE_REQUEST", "RAY_JOB_STOP_WAIT_TIME_S"} <= set(asked)
    assert all(isinstance(value, str) for value in variables.values())
    assert variables["STATE"].startswith("s3://")
    assert variables["HYGGE_REQUEST"]
