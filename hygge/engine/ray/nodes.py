"""What must hold on every node where a lane may run, looked at before a run is planned.

Each file that a flow reads or writes must be the same one for all of them: a lane may read or stage
on any node, and the driver publishes what they staged. Whether two nodes see one disk is not asked
of mount tables, which name it differently everywhere: the driver leaves a file with a name that is
new, and the others look for it. A disk that is shared passes, whoever shares it, and so do nodes
that are processes of one machine.

A node that dies or hangs meanwhile is passed over, and that is said. So is one that joins later:
there a lane fails with what it does not find, a Store where its run was not prepared.
"""

from __future__ import annotations

import contextlib
import os
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hygge.engine.ray import placement
from hygge.errors import ConfigError
from hygge.model import MIB, Limits
from hygge.places.names import fixed_prefix

SHM = "/dev/shm"
SLOW = "RAY_OBJECT_STORE_ALLOW_SLOW_STORAGE"
"""Ray's own word for: its object store may lie on a disk."""
_LISTED = 100
_PATIENCE_S = 30.0
_PATIENCE_AGAIN_S = 1.0
_seen: set[tuple[int | str, str]] = set()
"""What a node was found to share: a file system by its device number, a path that is read."""
_silent: set[str] = set()
"""Nodes that did not answer: each flow asks them again, and none waits as long as the first."""


@dataclass(frozen=True)
class _Answer:
    """What one node says: which of the names it does not see, and how large its /dev/shm is."""

    missing: tuple[str, ...]
    shm: int | None


def check(
    read: Mapping[str, str],
    written: Mapping[str, str],
    shared: Sequence[str] = (),
    limits: Limits | None = None,
) -> str:
    """Raise ConfigError where a lane may run that cannot read or write what it must.

    `read` and `written`: what it is, in words → its absolute path. `shared`: folders that the user
    says are one disk everywhere; nothing below them is looked at. Only nodes where a lane with
    these `limits` may run are asked. Gives which of them did not answer, in words, or "".
    """
    import ray

    mine = ray.get_runtime_context().get_node_id()
    nodes = {node["NodeID"]: node for node in placement.nodes(limits or Limits())}
    if mine in nodes:
        _has_memory(nodes[mine], _shm())
    others = nodes.keys() - {mine}
    if not others:
        return ""
    keys: dict[str, Any] = {what: path for what, path in read.items()}
    keys |= {what: _system(path) for what, path in written.items()}
    paths = {w: p for w, p in {**read, **written}.items() if not _is_below(p, shared)}
    # A file may name hundreds of tables: what a node did not miss is not looked for there again.
    unseen = {node: {what for what in paths if (keys[what], node) not in _seen} for node in others}
    asked = frozenset(n for n, whats in unseen.items() if whats or (SHM, n) not in _seen)
    if not asked:
        return ""
    with contextlib.ExitStack() as stack:
        names = {
            what: stack.enter_context(_mark(path)) if what in written else _names(path)
            for what, path in paths.items()
            if any(what in unseen[node] for node in asked)
        }
        answers = _ask(asked, sorted({name for each in names.values() for name in each}))
    for node, answer in answers.items():
        _has_memory(nodes[node], answer.shm)
        for what, wanted in names.items():
            if set(wanted) & set(answer.missing):
                raise _refusal(what, paths[what], nodes[node])
        _seen.update((each, node) for each in (SHM, *(keys[what] for what in names)))
    _silent.difference_update(answers)
    silent = asked - answers.keys()
    _silent.update(silent)
    if not silent:
        return ""
    said = ", ".join(sorted(nodes[node]["NodeManagerAddress"] for node in silent))
    return f"whether node {said} sees the same files is not known: it did not answer"


def _refusal(what: str, path: str, node: Any) -> ConfigError:
    return ConfigError(
        f"{what} {path} is on a disk that node {node['NodeManagerAddress']} does not see, where "
        "lanes may run as well",
        "on several nodes use an object store (s3://…, gs://…, az://…), a database, or a folder "
        "that every node mounts; below `shared_paths: [/mnt/…]` hygge does not look",
    )


def _has_memory(node: Any, shm: int | None) -> None:
    store = int(node["Resources"].get("object_store_memory", 0))
    if shm is None or shm >= store or os.environ.get(SLOW):
        return
    raise ConfigError(
        f"node {node['NodeManagerAddress']} has {shm // MIB:,} MiB of shared memory ({SHM}), too "
        f"little for Ray's object store of {store // MIB:,} MiB, which lies on its disk instead",
        f"give it more: `docker run --shm-size={-(-store // (MIB * 1024))}g`, in Kubernetes an "
        f"emptyDir with `medium: Memory` at {SHM}; or start Ray with less object store. {SLOW}=1 "
        "moves rows by the disk",
    )


def _shm() -> int | None:
    """Bytes of shared memory that there may be at most; None where Ray does not use it."""
    try:
        found = os.statvfs(SHM)
    except OSError:
        return None
    return found.f_frsize * found.f_blocks


def _is_below(path: str, folders: Sequence[str]) -> bool:
    return any(os.path.commonpath([path, each]) == os.path.normpath(each) for each in folders)


def _names(path: str) -> list[str]:
    """Names that whoever reads `path` needs to see; [] where nothing is there, which is told."""
    top = path if os.path.exists(path) else fixed_prefix(path)
    if not os.path.isdir(top):
        return [top] if os.path.exists(top) else []
    try:
        inside = sorted(each for each in os.listdir(top) if each[0] not in "._")[:_LISTED]
    except OSError:
        return []
    return [top, *(os.path.join(top, each) for each in inside)]


@contextlib.contextmanager
def _mark(path: str) -> Iterator[list[str]]:
    """A new file in the nearest folder of `path`; none where the run will say why it cannot be."""
    mark = os.path.join(_folder(path), f".hygge-node-{uuid.uuid4().hex}")
    try:
        open(mark, "x").close()
    except OSError:
        yield []
        return
    try:
        yield [mark]
    finally:
        with contextlib.suppress(OSError):
            os.unlink(mark)


def _folder(path: str) -> str:
    while not os.path.isdir(path):
        path = os.path.dirname(path)
    return path


def _system(path: str) -> int:
    return os.stat(_folder(path)).st_dev


def _ask(nodes: frozenset[str], names: list[str]) -> dict[str, _Answer]:
    """What each node answers, of those that do."""
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    task = ray.remote(num_cpus=0, max_retries=0)(_answer)
    on = {node: NodeAffinitySchedulingStrategy(node, soft=False) for node in nodes}
    asked = {task.options(scheduling_strategy=on[node]).remote(names): node for node in nodes}
    patience = _PATIENCE_S if nodes - _silent else _PATIENCE_AGAIN_S
    done, _ = ray.wait(list(asked), num_returns=len(asked), timeout=patience)
    answers: dict[str, _Answer] = {}
    for call in done:
        with contextlib.suppress(ray.exceptions.RayError):
            answers[asked[call]] = ray.get(call)
    return answers


def _answer(names: list[str]) -> _Answer:
    return _Answer(tuple(each for each in names if not os.path.lexists(each)), _shm())
