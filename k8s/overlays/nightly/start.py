"""Start the RayJob of this night: a copy of the suspended one, under a name of its own.

    NIGHT=hygge-nightly-29384535 python start.py API ACCOUNT PATTERN

`API` is the URL of the API server, `ACCOUNT` the folder with the pod's token, and `PATTERN` the
name of the suspended RayJob. While the RayJob of an earlier night is not done, none is started. The
last seven are kept, for `kubectl get rayjobs`. It needs nothing but Python.

KubeRay refuses deletion rules beside `suspend`, so the copy gets its own here: the workers go a
minute after the end, the head, which has the report, some hours later.
"""

import copy
import json
import os
import ssl
import sys
import urllib.error
import urllib.request
from pathlib import Path

KEPT = 7
DONE = ("Complete", "Failed", "ValidationFailed")
NIGHTS = "hygge/nights-of"
SUSPENDED = ("suspend", "shutdownAfterJobFinishes", "ttlSecondsAfterFinished")
"""What the copy has not; KubeRay refuses the last two beside rules."""
RULES = [
    {"policy": policy, "condition": {what: end, "ttlSeconds": seconds}}
    for policy, what, end, seconds in (
        ("DeleteWorkers", "jobStatus", "SUCCEEDED", 60),
        ("DeleteCluster", "jobStatus", "SUCCEEDED", 7200),
        ("DeleteWorkers", "jobStatus", "FAILED", 60),
        ("DeleteCluster", "jobStatus", "FAILED", 28800),
        ("DeleteCluster", "jobDeploymentStatus", "Failed", 28800),
    )
]
REQUEST = "HYGGE_REQUEST"
NAME_LENGTH = 47  # KubeRay makes longer names of it, which have to stay below 64


def main(api: str, account: str, pattern: str) -> int:
    folder = Path(account)
    namespace = (folder / "namespace").read_text()
    rayjobs = f"{api}/apis/ray.io/v1/namespaces/{namespace}/rayjobs"
    token = (folder / "token").read_text()
    trust = (
        ssl.create_default_context(cafile=folder / "ca.crt") if api.startswith("https") else None
    )

    def call(method: str, path: str = "", body: object = None) -> dict:
        content = {"Content-Type": "application/json"} if body else {}
        asked = urllib.request.Request(
            rayjobs + path,
            method=method,
            headers={"Authorization": f"Bearer {token}", **content},
            data=json.dumps(body).encode() if body else None,
        )
        with urllib.request.urlopen(asked, context=trust, timeout=30) as answer:
            return json.load(answer)

    night = os.environ["NIGHT"][-NAME_LENGTH:].lstrip("-.0123456789")
    earlier = call("GET", f"?labelSelector={NIGHTS}%3D{pattern}")["items"]
    running = [job["metadata"]["name"] for job in earlier if _state(job) not in DONE]
    if running:
        print(f"{', '.join(running)} is not done yet: nothing is started")
        return 0
    suspended = call("GET", f"/{pattern}")
    try:
        call("POST", body=tonight(suspended, night))
    except urllib.error.HTTPError as error:
        if error.code != 409:
            raise
        print(f"{night} was started before")
        return 0
    print(f"{night} is started")
    earlier.sort(key=lambda job: job["metadata"]["creationTimestamp"])
    for job in earlier[: -KEPT + 1 or None]:
        call("DELETE", f"/{job['metadata']['name']}")
    return 0


def tonight(suspended: dict, night: str) -> dict:
    labels = {**suspended["metadata"].get("labels", {}), NIGHTS: suspended["metadata"]["name"]}
    spec = {key: value for key, value in suspended["spec"].items() if key not in SUSPENDED}
    spec["deletionStrategy"] = {"deletionRules": RULES}
    # Each try of this night is the same request: what one has done, the next does not do again.
    spec = copy.deepcopy(spec)
    head = spec["rayClusterSpec"]["headGroupSpec"]["template"]["spec"]["containers"][0]
    head["env"] = [*head.get("env", []), {"name": REQUEST, "value": night}]
    return {
        "apiVersion": suspended["apiVersion"],
        "kind": suspended["kind"],
        "metadata": {"name": night, "labels": labels},
        "spec": spec,
    }


def _state(job: dict) -> str:
    return job.get("status", {}).get("jobDeploymentStatus", "")


if __name__ == "__main__":
    try:
        sys.exit(main(*sys.argv[1:]))
    except urllib.error.HTTPError as error:
        told = error.read().decode(errors="replace")
        sys.exit(
            f"error: {error.url} answered {error.code}: {told}\n\n"
            "hint: the Role hygge-nightly has to allow it, and the suspended RayJob has to be there"
        )
