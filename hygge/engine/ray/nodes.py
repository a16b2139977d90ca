"""Check, before a run is planned, that every node where a lane may run sees the same files.

Lanes read and stage on any of these nodes, and the driver publishes what they staged. Mount tables
do not tell whether two nodes see one disk, because each system names it differently. So the driver
writes a file with a new name, and the other nodes look for it. A shared disk passes this check
whatever shares it, and so do nodes that are processes of one machine.

The check also refuses a node whose shared memory is smaller than Ray's object store. A node where
hygge cannot be imported, or with another version of hygge, Python or Ray, is left and named. A node
that dies or does not answer is skipped and named. A node that joins later is not checked: a lane
there fails with the file that it does not find, or with a Store where its run was not prepared.
"""

from __future__ import annotations

import contextlib
import os
import sys
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

import hygge
from hygge.engine.ray import left
from hygge.engine.ray.failures import SAME_VERSIONS, describe_failure, suggest_remedy
from hygge.engine.ray.node_names import name_node
from hygge.engine.ray.placement import Node, list_nodes
from hygge.errors import ConfigError
from hygge.model import MIB, Limits
from hygge.places.names import fixed_prefix

SHM = "/dev/shm"
SLOW = "RAY_OBJECT_STORE_ALLOW_SLOW_STORAGE"
"""Ray's own variable that allows its object store to be on a disk."""
_MOST_LISTED = 100
_PATIENCE_S = 30.0
_PATIENCE_AGAIN_S = 1.0
_seen: set[tuple[int | str, str]] = set()
"""(file system as a device number, or path that is read; node): what a node was found to see."""
_RawAnswer = tuple[tuple[str, ...], tuple[int, int] | None, dict[str, str], str]
"""Names that are missing, blocks of /dev/shm (size, number), versions, and why hygge is missing."""
_silent: set[str] = set()
"""Nodes that did not answer. Each flow asks them again, but waits less than the first one did."""


@dataclass(frozen=True)
class _Answer:
    """The answer of one node: names that it does not see, and the bytes of its shared memory.

    `fault`: why no lane can run there, for people; "" where they can.
    """

    missing: tuple[str, ...] = ()
    shm_bytes: int | None = None
    fault: str = ""
    hint: str | None = SAME_VERSIONS


def check_nodes(
    read: Mapping[str, str],
    written: Mapping[str, str],
    shared: Sequence[str] = (),
    limits: Limits | None = None,
) -> str:
    """Raise ConfigError where a lane may run that cannot read or write what it must.

    `read` and `written`: what it is, in words → its absolute path. `shared`: folders that the user
    declares to be one disk on every node; nothing below them is checked. Only nodes where a lane
    with these `limits` may run are asked. Returns sentences with the nodes that did not answer, and
    those that are left because no lane can run there; or "".
    """
    own_id = ray.get_runtime_context().get_node_id()
    nodes = {node["NodeID"]: node for node in list_nodes(limits or Limits())}
    if own_id in nodes:
        _check_memory(nodes[own_id], _read_shm_bytes())
    others = nodes.keys() - {own_id}
    if not others:
        return ""
    keys: dict[str, int | str] = {what: path for what, path in read.items()}
    keys |= {what: _device_of(path) for what, path in written.items()}
    paths = {
        what: path for what, path in {**read, **written}.items() if not _is_below(path, shared)
    }
    # A file may name hundreds of tables: what a node was found to see is not checked again.
    unseen = {node: {what for what in paths if (keys[what], node) not in _seen} for node in others}
    asked = frozenset(node for node, whats in unseen.items() if whats or (SHM, node) not in _seen)
    if not asked:
        return ""
    with contextlib.ExitStack() as stack:
        names = {
            what: stack.enter_context(_marker(path)) if what in written else _list_names(path)
            for what, path in paths.items()
            if any(what in unseen[node] for node in asked)
        }
        answers = _ask_nodes(asked, sorted({name for listed in names.values() for name in listed}))
    faults = {node: answer for node, answer in answers.items() if answer.fault}
    said = _leave_nodes(faults, nodes)
    for node, answer in answers.items():
        if node in faults:
            continue
        _check_memory(nodes[node], answer.shm_bytes)
        for what, needed in names.items():
            if set(needed) & set(answer.missing):
                raise _not_shared(what, paths[what], nodes[node])
        _seen.update((key, node) for key in (SHM, *(keys[what] for what in names)))
    _silent.difference_update(answers)
    silent = asked - answers.keys()
    _silent.update(silent)
    if silent:
        addresses = ", ".join(sorted(nodes[node]["NodeManagerAddress"] for node in silent))
        said.append(f"whether node {addresses} sees the same files is not known: it did not answer")
    return "; ".join(said)


def _leave_nodes(faults: Mapping[str, _Answer], nodes: Mapping[str, Node]) -> list[str]:
    """Leave the nodes where no lane can run, and return a sentence on each.

    Raises ConfigError where no lane can run on any of `nodes`.
    """
    said = [f"node {name_node(node)}: {faults[node].fault}" for node in sorted(faults)]
    if said and len(faults) == len(nodes):
        hints = sorted({answer.hint for answer in faults.values() if answer.hint})
        raise ConfigError(f"lanes can run on no node: {'; '.join(said)}", "; ".join(hints))
    for node, answer in faults.items():
        left.leave(node, answer.fault)
    return [f"no lane runs on {text}" for text in said]


def _not_shared(what: str, path: str, node: Node) -> ConfigError:
    return ConfigError(
        f"{what} {path} is on a disk that node {node['NodeManagerAddress']} does not see, where "
        "lanes may run as well",
        "on several nodes use an object store (s3://…, gs://…, az://…), a database, or a folder "
        "that every node mounts; below `shared_paths: [/mnt/…]` hygge does not look",
    )


def _check_memory(node: Node, shm_bytes: int | None) -> None:
    """Raise ConfigError where a node's shared memory is smaller than Ray's object store."""
    store = int(node["Resources"].get("object_store_memory", 0))
    if shm_bytes is None or shm_bytes >= store or os.environ.get(SLOW):
        return
    raise ConfigError(
        f"node {node['NodeManagerAddress']} has {shm_bytes // MIB:,} MiB of shared memory ({SHM}), "
        f"too little for Ray's object store of {store // MIB:,} MiB, which lies on its disk "
        "instead",
        f"give it more: `docker run --shm-size={-(-store // (MIB * 1024))}g`, in Kubernetes an "
        f"emptyDir with `medium: Memory` at {SHM}; or start Ray with less object store. {SLOW}=1 "
        "moves rows by the disk",
    )


def _read_shm_bytes() -> int | None:
    """Return the size of this node's shared memory in bytes; None where Ray does not use it."""
    try:
        status = os.statvfs(SHM)
    except OSError:
        return None
    return status.f_frsize * status.f_blocks


def _is_below(path: str, folders: Sequence[str]) -> bool:
    return any(os.path.commonpath([path, folder]) == os.path.normpath(folder) for folder in folders)


def _list_names(path: str) -> list[str]:
    """Return the names that a reader of `path` needs to see; [] where nothing is there.

    A Home that finds nothing says so itself.
    """
    top = path if os.path.exists(path) else fixed_prefix(path)
    if not os.path.isdir(top):
        return [top] if os.path.exists(top) else []
    try:
        inside = sorted(name for name in os.listdir(top) if name[0] not in "._")[:_MOST_LISTED]
    except OSError:
        return []
    return [top, *(os.path.join(top, name) for name in inside)]


@contextlib.contextmanager
def _marker(path: str) -> Iterator[list[str]]:
    """Create a new file in the nearest existing folder of `path`, and yield its name in a list.

    Yields [] where it cannot be created; the run itself then says why.
    """
    marker = os.path.join(_nearest_folder(path), f".hygge-node-{uuid.uuid4().hex}")
    try:
        open(marker, "x").close()
    except OSError:
        yield []
        return
    try:
        yield [marker]
    finally:
        with contextlib.suppress(OSError):
            os.unlink(marker)


def _nearest_folder(path: str) -> str:
    while not os.path.isdir(path):
        path = os.path.dirname(path)
    return path


def _device_of(path: str) -> int:
    return os.stat(_nearest_folder(path)).st_dev


def _ask_nodes(nodes: frozenset[str], names: list[str]) -> dict[str, _Answer]:
    """Return node → its answer, of those nodes that answer in time."""
    task = ray.remote(num_cpus=0, max_retries=0)(_make_task())
    on = {node: NodeAffinitySchedulingStrategy(node, soft=False) for node in nodes}
    calls = {task.options(scheduling_strategy=on[node]).remote(names): node for node in nodes}
    patience_s = _PATIENCE_S if nodes - _silent else _PATIENCE_AGAIN_S
    done, _ = ray.wait(list(calls), num_returns=len(calls), timeout=patience_s)
    answers: dict[str, _Answer] = {}
    for call in done:
        try:
            missing, shm, versions, failed = ray.get(call)
        except ray.exceptions.RuntimeEnvSetupError as error:  # a full disk, for one
            fault = describe_failure(error, error, "")
            answers[calls[call]] = _Answer(fault=fault, hint=suggest_remedy(error))
        except ray.exceptions.RayError:
            continue
        else:
            shm_bytes = shm[0] * shm[1] if shm else None
            answers[calls[call]] = _Answer(missing, shm_bytes, _find_fault(versions, failed))
    return answers


def _find_fault(versions: Mapping[str, str], failed: str) -> str:
    """Return why no lane can run on a node with these versions, for people; "" where they can."""
    if failed:
        return f"hygge cannot be imported there: {failed}"
    others = [
        f"{name} {versions[name]} there, {version} here"
        for name, version in _read_versions().items()
        if versions[name] != version
    ]
    return f"it has another version: {'; '.join(others)}" if others else ""


def _read_versions() -> dict[str, str]:
    """Return the versions that all nodes must have in common, by their names for people."""
    python = f"{sys.version_info[0]}.{sys.version_info[1]}"
    return {"hygge": hygge.__version__, "Python": python, "Ray": ray.__version__}


def _make_task() -> Callable[[list[str]], _RawAnswer]:
    """Return the function that looks on a node.

    It travels by value and answers in plain types, because its node may lack hygge; so it uses
    nothing of this module.
    """
    shm = SHM

    def look(names: list[str]) -> _RawAnswer:
        import importlib
        import os
        import sys

        missing = tuple(name for name in names if not os.path.lexists(name))
        try:
            status = os.statvfs(shm)
            memory = (status.f_frsize, status.f_blocks)
        except OSError:
            memory = None
        versions, failed = {"Python": f"{sys.version_info[0]}.{sys.version_info[1]}"}, ""
        try:
            for name, module in (("Ray", "ray"), ("hygge", "hygge")):
                versions[name] = importlib.import_module(module).__version__
            importlib.import_module("hygge.engine.ray.actors")
        except Exception as error:
            failed = f"{type(error).__name__}: {error}"
        return missing, memory, versions, failed

    return look
