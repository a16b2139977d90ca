"""The rules that KubeRay 1.7 enforces only once a RayJob is applied, and ours.

KubeRay's are those of its CRD reference (fields, choices) and of its operator's validation; a CRD
says nothing of how fields go together.
"""

from __future__ import annotations

import importlib.metadata
import itertools
import re
import shlex
import sys
from typing import Any

import yaml

from tests.k8s.manifests import Manifest, of_kind, pods, rayjob

# fmt: off
JOB_FIELDS = {
    "activeDeadlineSeconds", "backoffLimit", "rayClusterSpec", "submitterPodTemplate", "metadata",
    "clusterSelector", "submitterConfig", "managedBy", "deletionStrategy", "entrypoint",
    "runtimeEnvYAML", "jobId", "submissionMode", "entrypointResources", "entrypointNumCpus",
    "entrypointNumGpus", "ttlSecondsAfterFinished", "preRunningDeadlineSeconds",
    "shutdownAfterJobFinishes", "suspend",
}
CLUSTER_FIELDS = {
    "upgradeStrategy", "authOptions", "suspend", "managedBy", "autoscalerOptions",
    "headServiceAnnotations", "enableInTreeAutoscaling", "gcsFaultToleranceOptions",
    "historyServerOptions", "networkPolicy", "tlsOptions", "headGroupSpec", "rayVersion",
    "workerGroupSpecs",
}
GROUP_FIELDS = {"template", "resources", "labels", "rayStartParams"}
HEAD_FIELDS = GROUP_FIELDS | {"headService", "enableIngress", "ingressOptions", "serviceType"}
WORKER_FIELDS = GROUP_FIELDS | {
    "suspend", "groupName", "replicas", "minReplicas", "maxReplicas", "idleTimeoutSeconds",
    "priority", "scaleStrategy", "numOfHosts",
}
AUTOSCALER_FIELDS = {
    "resources", "image", "imagePullPolicy", "securityContext", "idleTimeoutSeconds",
    "upscalingMode", "version", "env", "envFrom", "volumeMounts",
}
# fmt: on
MODES = {"K8sJobMode", "HTTPMode", "InteractiveMode", "SidecarMode"}
DELETIONS = ["DeleteWorkers", "DeleteCluster", "DeleteSelf"]
"""In the order in which they may come due; DeleteNone deletes nothing."""
ENDS = {"jobStatus": ("SUCCEEDED", "FAILED"), "jobDeploymentStatus": ("Failed",)}
SECRET = re.compile(r"(?i)password|passwd|secret|token|access_key|://[^/\s]*:[^/\s]*@")
UNITS = {"Ki": 2**10, "Mi": 2**20, "Gi": 2**30}
NODE_TYPE = "ray.io/node-type"
PER_LANE = 128 * 2**20
"""memory_per_lane, unless a flow says otherwise."""


REQUEST = "HYGGE_REQUEST"


class Rules:
    """What is broken, and which rules (by their line in this file) were asked."""

    def __init__(self) -> None:
        self.asked: set[int] = set()
        self.broken: dict[int, str] = {}

    def __call__(self, kept: object, text: str) -> None:
        line = sys._getframe(1).f_lineno
        self.asked.add(line)
        if not kept:
            self.broken[line] = text


def judged(manifests: list[Manifest]) -> Rules:
    """Which rules of KubeRay, Ray and this repository what is rendered breaks."""
    rule, job = Rules(), rayjob(manifests)
    of_kuberay(job, rule)
    of_the_cluster(job["spec"].get("rayClusterSpec") or {}, rule)
    of_the_pods(job, rule)
    of_what_goes_together(manifests, job, rule)
    return rule


def of_kuberay(job: Manifest, rule: Rules) -> None:
    spec = job["spec"]
    rule(job["apiVersion"] == "ray.io/v1", "v1alpha1 goes in KubeRay 1.9")
    name = job["metadata"]["name"]
    rule(re.fullmatch(r"[a-z]([-a-z0-9]*[a-z0-9])?", name), "the name is no DNS label")
    rule(len(name) <= 47, "the name is longer than 47 characters")
    rule(spec.keys() <= JOB_FIELDS, f"a RayJob has no {sorted(spec.keys() - JOB_FIELDS)}")
    cluster, mode = spec.get("rayClusterSpec"), spec.get("submissionMode", "K8sJobMode")
    rule(bool(cluster) != bool(spec.get("clusterSelector")), "a cluster, or a selector of one")
    rule(mode in MODES, f"submissionMode is one of {sorted(MODES)}")
    if mode == "SidecarMode":
        for field in ("submitterPodTemplate", "submitterConfig", "clusterSelector"):
            rule(field not in spec, f"SidecarMode has no {field}")
        restart = _pod((cluster or {}).get("headGroupSpec", {})).get("restartPolicy", "Never")
        rule(restart == "Never", "SidecarMode: the head's restartPolicy is Never or unset")
    retries = spec.get("backoffLimit", 0)
    rule(retries >= 0, "backoffLimit is not negative")
    rule(not retries or mode != "InteractiveMode", "InteractiveMode has no backoffLimit")
    for field in ("activeDeadlineSeconds", "preRunningDeadlineSeconds"):
        rule(spec.get(field, 1) > 0, f"{field} is positive")
    shutdown, ttl = spec.get("shutdownAfterJobFinishes", False), spec.get("ttlSecondsAfterFinished")
    rule(not spec.get("suspend") or shutdown, "suspend requires shutdownAfterJobFinishes")
    rule(not ttl or shutdown, "ttlSecondsAfterFinished requires shutdownAfterJobFinishes")
    if (strategy := spec.get("deletionStrategy")) is not None:
        rule(not shutdown, "deletionRules excludes shutdownAfterJobFinishes")
        grows = bool((cluster or {}).get("enableInTreeAutoscaling"))
        _deletions(strategy, grows, rule)
    settings = yaml.safe_load(spec.get("runtimeEnvYAML", "{}"))
    rule(isinstance(settings, dict), "runtimeEnvYAML is a mapping")
    shown = f"{spec['entrypoint']} {settings} {spec.get('metadata')}"
    rule(not SECRET.search(shown), "the jobs API shows entrypoint, runtimeEnvYAML and metadata")


def _deletions(strategy: Manifest, grows: bool, rule: Rules) -> None:
    rules = strategy.get("deletionRules") or []
    rule(strategy.keys() == {"deletionRules"}, "onSuccess and onFailure are to go: deletionRules")
    rule(rules, "deletionRules is empty")
    due: dict[tuple[str, str], dict[str, int]] = {}
    for each in rules:
        policy, when = each["policy"], dict(each["condition"])
        rule(policy in (*DELETIONS, "DeleteNone"), f"there is no deletion policy {policy}")
        rule(policy != "DeleteWorkers" or not grows, "no DeleteWorkers where it autoscales")
        after = when.pop("ttlSeconds", 0)
        rule(after >= 0, "ttlSeconds is not negative")
        rule(len(when) == 1, "a condition has a jobStatus or a jobDeploymentStatus, one of them")
        for what, value in when.items():
            rule(value in ENDS.get(what, ()), f"{what} is not {value} in a deletion rule")
            said = due.setdefault((what, value), {})
            rule(policy not in said, f"two rules for {policy} where {what} is {value}")
            said[policy] = after
    for said in due.values():
        order = [said[each] for each in DELETIONS if each in said]
        rule(order == sorted(order), "workers go first, then the cluster, then the RayJob")


def of_the_cluster(cluster: Manifest, rule: Rules) -> None:
    rule(cluster.keys() <= CLUSTER_FIELDS, f"no field {sorted(cluster.keys() - CLUSTER_FIELDS)}")
    rule(cluster.get("authOptions", {}).get("mode") == "token", "authOptions.mode is token")
    installed = importlib.metadata.version("ray")
    rule(cluster.get("rayVersion") == installed, f"rayVersion is not {installed}, as installed")
    head, workers = cluster.get("headGroupSpec", {}), cluster.get("workerGroupSpecs", [])
    for group, known in ((head, HEAD_FIELDS), *((each, WORKER_FIELDS) for each in workers)):
        rule(group.keys() <= known, f"a group has no {sorted(group.keys() - known)}")
        params = group.get("rayStartParams", {})
        rule(all(isinstance(text, str) for text in params.values()), "rayStartParams are strings")
        rule("labels" not in params, "labels stand beside rayStartParams, not in it")
        rule(not (params and group.get("resources")), "resources or rayStartParams, not both")
    for group in workers:
        some = [group.get(f"{word}eplicas", 0) for word in ("minR", "r", "maxR")]
        rule(some == sorted(some), "minReplicas ≤ replicas ≤ maxReplicas")
    options = cluster.get("autoscalerOptions", {}).keys() - AUTOSCALER_FIELDS
    rule(not options, f"an autoscaler has no {sorted(options)}")
    asks = _pod(head).get("automountServiceAccountToken", False) if head else False
    grows = bool(cluster.get("enableInTreeAutoscaling"))
    rule(asks == grows, "the autoscaler asks the API server, and nothing else does")
    on_head = head.get("rayStartParams", {}).get("num-cpus")
    rule(not workers or on_head == "0", "no lanes on the head")
    rule(_cpus(cluster) > 0, "somebody must have CPUs")


def _cpus(cluster: Manifest) -> int:
    on_head = int(cluster.get("headGroupSpec", {}).get("rayStartParams", {}).get("num-cpus", 0))
    workers = cluster.get("workerGroupSpecs", [])
    count = "maxReplicas" if cluster.get("enableInTreeAutoscaling") else "replicas"
    return on_head + sum(each[count] * int(_cpus_of(each)) for each in workers)


def _cpus_of(group: Manifest) -> str:
    return str(_pod(group)["containers"][0]["resources"]["limits"]["cpu"])


def of_the_pods(job: Manifest, rule: Rules) -> None:
    images = set()
    for where, template in pods(job):
        pod = template["spec"]
        rule(pod.get("securityContext", {}).get("runAsNonRoot"), "nothing runs as root")
        volumes = {volume["name"]: volume for volume in pod.get("volumes", [])}
        for box in pod["containers"]:
            images.add(box.get("image"))
            _container(box, volumes, rule)
            head = "headGroupSpec" in where
            rule(not head or _bytes(box, "memory") >= 4 * UNITS["Gi"], "a head needs 4 GiB")
    rule(len(images) == 1, "head and workers run one image")


def _container(box: Manifest, volumes: dict[str, Manifest], rule: Rules) -> None:
    rule(is_pinned(box.get("image", "")), "an image without a tag, or `latest`, is always pulled")
    context = box.get("securityContext", {})
    rule(context.get("allowPrivilegeEscalation") is False, "a process may become more")
    rule(context.get("capabilities", {}).get("drop") == ["ALL"], "capabilities are not dropped")
    asked, limit = box["resources"]["requests"], box["resources"]["limits"]
    rule(asked["memory"] == limit["memory"], "Ray takes the memory limit: request as much")
    mounts = {mount["mountPath"]: mount["name"] for mount in box.get("volumeMounts", [])}
    rule(set(mounts.values()) <= volumes.keys(), "what is mounted must be a volume")
    rule("/dev/shm" not in mounts, "KubeRay mounts /dev/shm itself, as big as the memory")
    rule(mounts.get("/tmp/ray") == "ray-logs", "the spill disk is /tmp/ray, called ray-logs")
    disk = volumes.get("ray-logs", {}).get("emptyDir", {})
    rule(disk.get("medium") != "Memory", "the spill disk is memory")
    room = _amount(disk.get("sizeLimit", "1Pi"))
    rule(room < _bytes(box, "ephemeral-storage"), "the spill disk is larger than the limit")
    ports = {each["name"]: each["containerPort"] for each in box.get("ports", [])}
    rule(ports.get("metrics") == 8080, "the PodMonitor asks the port `metrics`")
    for each in box.get("env", []):
        named = SECRET.search(f"{each['name']} {each.get('value', '')}")
        rule(not named or "valueFrom" in each, f"{each['name']} is a secret in clear")


def is_pinned(image: str) -> bool:
    """Whether the image names a version: `latest`, which no tag means too, is always pulled."""
    tag = image.partition("@")[2] or image.rpartition("/")[2].partition(":")[2]
    return tag not in ("", "latest")


def _bytes(box: Manifest, what: str) -> int:
    return _amount(box["resources"]["limits"][what])


def _amount(text: str) -> int:
    number, unit = re.fullmatch(r"(\d+)(\w*)", text).groups()  # type: ignore[union-attr]
    return int(number) * UNITS.get(unit, 2**50)


def of_what_goes_together(manifests: list[Manifest], job: Manifest, rule: Rules) -> None:
    cluster = job["spec"].get("rayClusterSpec") or {}
    maps = {each["metadata"]["name"]: each for each in of_kind(manifests, "ConfigMap")}
    for text in itertools.chain.from_iterable(
        each.get("data", {}).values() for each in maps.values()
    ):
        rule(not re.search(r"://[^/\s]*:[^/\s]*@", text), "a ConfigMap holds a password")
    for where, template in pods(job):
        named = [
            each["configMap"]["name"] for each in template["spec"]["volumes"] if "configMap" in each
        ]
        box = template["spec"]["containers"][0]
        sources = box.get("envFrom", [])
        named += [each["configMapRef"]["name"] for each in sources if "configMapRef" in each]
        rule(set(named) <= maps.keys(), f"there is no ConfigMap {sorted(set(named) - maps.keys())}")
        labels = template.get("metadata", {}).get("labels", {})
        for kind in ("NetworkPolicy", "PodMonitor", "PodDisruptionBudget"):
            for each in of_kind(manifests, kind):
                which = each["spec"].get("podSelector", each["spec"].get("selector"))
                wanted = dict(which.get("matchLabels", {}))
                of_type = wanted.pop(NODE_TYPE, "")  # KubeRay's own label
                if of_type and f"{of_type}GroupSpec" not in where:
                    continue
                rule(wanted, f"{kind} {each['metadata']['name']} picks every pod of the namespace")
                ours = each["metadata"]["name"] != "hygge-nightly"
                rule(not ours or wanted.items() <= labels.items(), f"{kind} picks other pods")
    _flows(job, maps, cluster, rule)


def _flows(job: Manifest, maps: dict[str, Manifest], cluster: Manifest, rule: Rules) -> None:
    command, *arguments = shlex.split(job["spec"]["entrypoint"])
    files = [word for word in arguments if word.endswith((".yml", ".yaml"))]
    rule(command == "hygge" and files, "the entrypoint runs hygge on a file")
    box = _pod(cluster.get("headGroupSpec", {}))["containers"][0]
    mount = next(each["mountPath"] for each in box["volumeMounts"] if each["name"] == "flows")
    flows = next(each for name, each in maps.items() if name.startswith("hygge-flows"))["data"]
    settings = settings_of(maps)
    for file in files:
        folder, _, name = file.rpartition("/")
        rule(folder == mount and name in flows, f"there is no {file} in the ConfigMap")
        asked = re.findall(r"\$\{(\w+)(:-)?", flows.get(name, ""))
        unasked = settings.keys() - {each for each, _ in asked} - {REQUEST}
        rule(not unasked, "a setting that no flow asks for")
        needed = {each for each, default in asked if not default}
        rule(needed <= settings.keys(), f"nobody sets {sorted(needed - settings.keys())}")
    named = settings.get(REQUEST) or any(each["name"] == REQUEST for each in box.get("env", []))
    retried = job["spec"].get("backoffLimit") and not job["spec"].get("suspend")
    rule(not retried or named, f"a retry would ask for everything again: set {REQUEST}")
    state = settings.get("STATE", "")
    rule("://" in state or _kept(box, cluster, state), "the journal goes with the cluster")
    lanes = int(settings.get("LANES", 0))
    rule(lanes, "SidecarMode does not wait for the workers: say how many lanes (LANES)")
    rule(lanes <= _cpus(cluster), "more lanes than CPUs")
    for group in (cluster.get("headGroupSpec", {}), *cluster.get("workerGroupSpecs", [])):
        here = int(group.get("rayStartParams", {}).get("num-cpus", _cpus_of(group)))
        store = 0.3 * _bytes(_pod(group)["containers"][0], "memory")
        rule(
            here * PER_LANE <= 0.6 * store, "the lanes of a pod take over 60 % of its object store"
        )


def settings_of(maps: dict[str, Manifest]) -> dict[str, str]:
    named = [each for name, each in maps.items() if name.startswith("hygge-settings")]
    return dict(named[0]["data"]) if named else {}


def _kept(box: Manifest, cluster: Manifest, place: str) -> bool:
    """Whether a path lies on a volume that outlives the pod."""
    volumes = {each["name"]: each for each in _pod(cluster["headGroupSpec"])["volumes"]}
    return any(
        "persistentVolumeClaim" in volumes[mount["name"]]
        and place.startswith(mount["mountPath"] + "/")
        for mount in box["volumeMounts"]
        if mount["name"] in volumes
    )


def _pod(group: Manifest) -> dict[str, Any]:
    pod: dict[str, Any] = group["template"]["spec"]
    return pod
