"""cluster/*.yaml are files that `ray up` takes, open to nobody; the image is not root, of one Ray.

Neither clouds nor docker are here: what they would be given is checked by Ray's own schema, and by
the rules of this repository.
"""

from __future__ import annotations

import copy
import importlib.metadata
import importlib.util
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests import ROOT

CLUSTER = ROOT / "cluster"
NAMES = ("onpremise", "aws", "gcp")
FILES = {name: yaml.safe_load((CLUSTER / f"{name}.yaml").read_text()) for name in NAMES}
TOKEN = "/home/hygge/.ray/auth_token"


def taken_by_ray(config: dict[str, Any]) -> None:
    from ray.autoscaler._private.util import prepare_config, validate_config

    validate_config(prepare_config(copy.deepcopy(config)))


def problems(config: dict[str, Any]) -> list[str]:
    """Which rules of this repository a cluster file breaks."""
    found: list[str] = []

    def rule(kept: object, text: str) -> None:
        if not kept:
            found.append(text)

    docker, provider = config["docker"], config["provider"]
    rule("image" in docker and not {"head_image", "worker_image"} & set(docker), "one image")
    options = docker.get("run_options", [])
    rule('--entrypoint ""' in options, "Ray starts a shell, the image starts hygge")
    rule("--env RAY_AUTH_MODE=token" in options, "no node without a token")
    rule(TOKEN in config["file_mounts"], "the token must be on the nodes")
    head, worker = (" ".join(config[f"{who}_start_ray_commands"]) for who in ("head", "worker"))
    rule("--dashboard-host=127.0.0.1" in head, "the dashboard is for a tunnel")
    rule("0.0.0.0" not in head + worker, "nothing is bound for everybody")
    rule(ports(head) >= ports(worker) and ports(worker), "ports are fixed, and the same")
    kinds = config.get("available_node_types", {})
    if provider["type"] == "local":
        rule("--num-cpus=0" in head, "no lanes on the head")
        return found
    rule(provider.get("use_internal_ips"), "no public addresses")
    rule(kinds["head"]["resources"].get("CPU") == 0, "no lanes on the head")
    for kind in kinds.values():
        node = kind["node_config"]
        if provider["type"] == "aws":
            rule("SecurityGroupIds" in node, "the group that Ray makes opens SSH to the world")
        else:
            links = node["networkInterfaces"]
            rule(not any("accessConfigs" in each for each in links), "no address outside")
    return found


def ports(command: str) -> set[str]:
    return {
        each for each in re.findall(r"--[\w-]+-port=\d+", command) if "dashboard-port" not in each
    }


@pytest.mark.parametrize("name", NAMES)
def test_a_cluster_file_is_one_that_ray_takes_and_keeps_our_rules(name: str) -> None:
    taken_by_ray(FILES[name])
    assert problems(FILES[name]) == []


@pytest.mark.parametrize("name", NAMES)
def test_a_word_that_ray_does_not_know_is_refused(name: str) -> None:
    with pytest.raises(Exception, match="max_workres"):
        taken_by_ray({**FILES[name], "max_workres": 3})


@pytest.mark.parametrize(
    ("name", "path", "value", "said"),
    [
        ("aws", "docker.head_image", "other", "one image"),
        ("aws", "docker.run_options", ["--env RAY_AUTH_MODE=token"], "Ray starts a shell"),
        ("gcp", "docker.run_options", ['--entrypoint ""'], "without a token"),
        ("onpremise", "file_mounts", {}, "token must be on the nodes"),
        ("onpremise", "head_start_ray_commands", ["ray start --head"], "for a tunnel"),
        ("gcp", "worker_start_ray_commands", ["ray start"], "ports are fixed"),
        ("aws", "worker_start_ray_commands", ["ray start --host 0.0.0.0"], "for everybody"),
        ("aws", "provider.use_internal_ips", False, "no public addresses"),
        ("gcp", "available_node_types.head.resources", {"CPU": 2}, "no lanes on the head"),
        ("aws", "available_node_types.worker.node_config", {}, "opens SSH to the world"),
        ("gcp", "available_node_types.worker.node_config.networkInterfaces",
         [{"accessConfigs": []}], "no address outside"),
    ],
)  # fmt: skip
def test_a_file_that_breaks_a_rule_is_told_which(
    name: str, path: str, value: object, said: str
) -> None:
    broken = copy.deepcopy(FILES[name])
    *parents, last = path.split(".")
    place = broken
    for each in parents:
        place = place[each]
    place[last] = value
    assert said in " ".join(problems(broken))


def test_the_readme_lists_every_port_of_the_files() -> None:
    readme = (CLUSTER / "README.md").read_text()
    for config in FILES.values():
        command = " ".join(config["head_start_ray_commands"])
        for number in re.findall(r"port=(\d+)", command):
            assert re.search(rf"\b{number}\b", readme), number


EXTRAS = {"image", "cloud", "mysql"}
"""The one Ray; what `ray up` asks a cloud with; the second database of the NetworkPolicy."""
PROGRAMS = {"wget", "rsync", "openssh-client", "ca-certificates"}


def image(text: str) -> list[str]:
    """What is wrong with a Dockerfile, as far as one can tell without building it."""
    found = []
    users = re.findall(r"^USER (\S+)", text, re.MULTILINE)
    if not users or users[-1].partition(":")[0] in ("root", "0"):
        found.append("it runs as root")
    if re.search(r"ray[^\n]*==", text):
        found.append("it says a version of Ray, which pyproject.toml does")
    extras = re.search(r'pip install [^\n]*"\.\[([\w,]+)\]"', text)
    missing = EXTRAS - set(extras[1].split(",") if extras else ())
    found += [f"it does not install the extra `{each}`" for each in sorted(missing)]
    installed = re.search(r"apt-get install([^&]*)&&", text)
    missing = PROGRAMS - set(installed[1].split() if installed else ())
    found += [f"it has no {each}" for each in sorted(missing)]
    ignored = (CLUSTER / "Dockerfile.dockerignore").read_text().split()
    for copied in re.findall(r"^COPY (.+) \S+$", text, re.MULTILINE):
        found += [f"{each} is ignored" for each in copied.split() if f"!{each}" not in ignored]
    return found


def test_the_image_is_not_root_and_says_no_version_of_its_own() -> None:
    text = (CLUSTER / "Dockerfile").read_text()
    assert image(text) == []
    assert image(text.replace("USER 1000:1000", "USER root")) == ["it runs as root"]
    other = text.replace('".[image,cloud,mysql]"', '. "ray[default]==2.60.0"')
    assert len(image(other)) == 1 + len(EXTRAS)
    assert image(text.replace("rsync openssh-client", "rsync")) == ["it has no openssh-client"]
    assert image(text + "COPY secrets .\n") == ["secrets is ignored"]


def test_what_ray_imports_for_a_cloud_is_in_the_extra() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    named = {re.split(r"[^\w-]", each)[0] for each in extras["optional-dependencies"]["cloud"]}
    ray = importlib.util.find_spec("ray")
    assert ray is not None
    assert ray.origin is not None
    top = Path(ray.origin).parent / "autoscaler/_private"
    files = [top / "util.py", *top.glob("aws/*.py"), *top.glob("gcp/*.py")]
    text = "".join(file.read_text() for file in files)
    imported = set(re.findall(r"^ *(?:import|from) ([a-z_0-9]+(?:\.oauth2)?)", text, re.MULTILINE))
    assert {PACKAGES[each] for each in imported if each in PACKAGES} == named


PACKAGES = {
    "boto3": "boto3",
    "googleapiclient": "google-api-python-client",
    "google.oauth2": "google-auth",
    "google_auth_httplib2": "google-auth-httplib2",
    "cryptography": "cryptography",
}


def test_the_ray_of_the_image_is_the_one_that_the_tests_run() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    pinned = project["optional-dependencies"]["image"]
    assert pinned == [f"ray[default]=={importlib.metadata.version('ray')}"]
    python = re.search(
        r"^FROM python:(\d+\.\d+)", (CLUSTER / "Dockerfile").read_text(), re.MULTILINE
    )
    assert python is not None
    assert f">={python[1]}" == project["requires-python"]
