"""k8s/rayjob.yaml keeps the rules that KubeRay 1.7 enforces only once it is applied."""

from __future__ import annotations

import copy
import importlib.metadata
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[1]
JOB = next(
    document
    for document in yaml.safe_load_all((ROOT / "k8s" / "rayjob.yaml").read_text())
    if document["kind"] == "RayJob"
)
SECRET = re.compile(r"(?i)password|passwd|secret|token|access_key|://[^/\s]*:[^/\s]*@")


def problems(job: dict[str, Any]) -> list[str]:
    """Which rules of KubeRay, Ray and this repository the RayJob breaks."""
    spec, found = job["spec"], []

    def rule(kept: object, text: str) -> None:
        if not kept:
            found.append(text)

    cluster = spec.get("rayClusterSpec") or {}
    head, workers = cluster.get("headGroupSpec", {}), cluster.get("workerGroupSpecs", [])
    rule(job["apiVersion"] == "ray.io/v1", "v1alpha1 goes in KubeRay 1.9")
    rule(
        bool(cluster) != bool(spec.get("clusterSelector")), "either a cluster or a selector of one"
    )
    if spec.get("submissionMode") == "SidecarMode":
        for field in ("submitterPodTemplate", "submitterConfig", "clusterSelector"):
            rule(field not in spec, f"SidecarMode has no {field}")
        restart = _pod(head).get("restartPolicy", "Never")
        rule(restart == "Never", "SidecarMode: the head's restartPolicy is Never or unset")
    shutdown = spec.get("shutdownAfterJobFinishes", False)
    rule(not spec.get("suspend") or shutdown, "suspend requires shutdownAfterJobFinishes")
    ttl = spec.get("ttlSecondsAfterFinished")
    rule(ttl is None or shutdown, "ttlSecondsAfterFinished requires shutdownAfterJobFinishes")
    if "deletionRules" in spec.get("deletionStrategy", {}):
        rule(not shutdown and ttl is None, "deletionRules excludes shutdown… and ttl…")
    rule(cluster.get("authOptions", {}).get("mode") == "token", "authOptions.mode is token")
    installed = importlib.metadata.version("ray")
    rule(cluster.get("rayVersion") == installed, f"rayVersion is not {installed}, as installed")
    settings = yaml.safe_load(spec.get("runtimeEnvYAML", "{}"))
    rule(isinstance(settings, dict), "runtimeEnvYAML is a mapping")
    for shown in (spec["entrypoint"], str(settings)):
        rule(
            not SECRET.search(shown), "the jobs API shows the entrypoint and runtimeEnvYAML to all"
        )
    rule(head.get("rayStartParams", {}).get("num-cpus") == "0", "no lanes on the head")
    rule(sum(group["replicas"] for group in workers) > 0, "somebody must have CPUs")
    for group in (head, *workers):
        params = group.get("rayStartParams", {})
        rule(all(isinstance(text, str) for text in params.values()), "rayStartParams are strings")
        rule(_pod(group).get("securityContext", {}).get("runAsNonRoot"), "nothing runs as root")
        for container in _pod(group)["containers"]:
            memory = container["resources"]
            same = memory["requests"]["memory"] == memory["limits"]["memory"]
            rule(same, "Ray takes the memory limit for its own: the request must be as much")
            names = {volume["name"] for volume in _pod(group).get("volumes", [])}
            mounted = {mount["name"] for mount in container.get("volumeMounts", [])}
            rule(mounted <= names, "what is mounted must be a volume")
    images = {box["image"] for group in (head, *workers) for box in _pod(group)["containers"]}
    rule(len(images) == 1, "head and workers run one image")
    command, *arguments = shlex.split(spec["entrypoint"])
    files = [word for word in arguments if word.endswith((".yml", ".yaml"))]
    rule(command == "hygge" and files, "the entrypoint runs hygge on a file")
    rule(all((ROOT / file).is_file() for file in files), f"there is no {files} in this repository")
    return found


def _pod(group: dict[str, Any]) -> dict[str, Any]:
    pod: dict[str, Any] = group["template"]["spec"]
    return pod


def test_the_manifest_keeps_every_rule() -> None:
    assert problems(JOB) == []


HEAD = "rayClusterSpec.headGroupSpec."
BREAKS = [
    ("submitterPodTemplate", {}, "has no submitterPodTemplate"),
    ("clusterSelector", {"ray.io/cluster": "standing"}, "has no clusterSelector"),
    (HEAD + "template.spec.restartPolicy", "Always", "restartPolicy is Never"),
    ("deletionStrategy", {"deletionRules": []}, "deletionRules excludes"),
    ("shutdownAfterJobFinishes", False, "ttlSecondsAfterFinished requires"),
    ("rayClusterSpec.authOptions", {}, "mode is token"),
    ("rayClusterSpec.rayVersion", "2.51.0", "as installed"),
    ("entrypoint", "hygge samples/00_no_such.yml", "there is no"),
    ("entrypoint", "python samples/01_users_to_lake.yml", "runs hygge"),
    ("runtimeEnvYAML", "env_vars: {SHOP_PASSWORD: x}", "jobs API shows"),
    ("runtimeEnvYAML", "- pip", "is a mapping"),
    (HEAD + "rayStartParams", {"num-cpus": 0}, "are strings"),
    (HEAD + "template.spec.securityContext", {}, "runs as root"),
    (HEAD + "template.spec.volumes", [], "must be a volume"),
    ("rayClusterSpec.workerGroupSpecs", [], "must have CPUs"),
]


@pytest.mark.parametrize(("path", "value", "said"), BREAKS)
def test_a_manifest_that_breaks_a_rule_is_told_which(path: str, value: object, said: str) -> None:
    broken = copy.deepcopy(JOB)
    *parents, last = path.split(".")
    place = broken["spec"]
    for name in parents:
        place = place[name]
    place[last] = value
    assert said in " ".join(problems(broken))


def test_a_suspended_job_needs_a_cluster_that_goes() -> None:
    broken = copy.deepcopy(JOB)
    broken["spec"] |= {"suspend": True, "shutdownAfterJobFinishes": False}
    assert "suspend requires shutdownAfterJobFinishes" in problems(broken)


def test_the_entrypoint_runs_here_as_it_stands(tmp_path: Path) -> None:
    if not (ROOT / "hygge" / "__main__.py").exists():
        pytest.fail("`python -m hygge` does not exist yet")
    if not (ROOT / "samples").is_dir():
        pytest.fail("there are no samples yet")
    leave = shutil.ignore_patterns("out", ".hygge")
    shutil.copytree(ROOT / "samples", tmp_path / "samples", ignore=leave)  # as in the image
    command, *arguments = shlex.split(JOB["spec"]["entrypoint"])
    outside = {name: text for name, text in os.environ.items() if not name.startswith("RAY_")}
    ran = subprocess.run(
        [sys.executable, "-m", command, *arguments],
        cwd=tmp_path,
        env=outside | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    written = list((tmp_path / "samples" / "out").rglob("*.parquet"))
    assert written, f"nothing under samples/out, which the manifest mounts: {ran.stdout}"
