"""What must hold on every node where a lane may run, looked at before a run is planned.

Each file that a flow reads or writes must be the same one for all of them: a lane may read or stage
on any node, and the driver publishes what they staged. Whether two nodes see one disk is not asked
of mount tables, which name it differently everywhere: the driver leaves a file with a name that is
new, and the others look for it. A disk that is shared passes, whoever shares it, and so do nodes
that are processes of one machine.

A node that dies or hangs meanwhile is passed over: what it would have said is of no use. So is one
that joins later; there a lane fails with what it does not find.
"""

from __future__ import annotations

import contextlib
import os
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hygge.errors import ConfigError
from hygge.io.files import fixed_prefix
from hygge.model import MIB

SHM = "/dev/shm"
SLOW = "RAY_OBJECT_STORE_ALLOW_SLOW_STORAGE"
"""Ray's own word for: its object store may lie on a disk."""
_LISTED = 100
_PATIENCE_S = 30.0
_seen: set[tuple[int | str, frozenset[str]]] = set()
"""What these nodes were found to share: a file system by its device number, a path that is read."""


@dataclass(frozen=True)
class _Answer:
    """What one node says: which of the names it does not see, and how large its /dev/shm is."""

    missing: tuple[str, ...]
    shm: int | None


def check(read: Mapping[str, str], written: Mapping[str, str], shared: Sequence[str] = ()) -> None:
    """Raise ConfigError where a lane may run that cannot read or write what it must.

    `read` and `written`: what it is, in words → its absolute path. `shared`: folders that the user
    says are one disk everywhere; nothing below them is looked at.
    """
    import ray

    mine = ray.get_runtime_context().get_node_id()
    nodes = {
        node["NodeID"]: node
        for node in ray.nodes()
        if node["Alive"] and node["Resources"].get("CPU")
    }
    if mine in nodes:
        _has_memory(nodes[mine], _shm())
    others = frozenset(nodes) - {mine}
    if not others:
        return
    keys: dict[str, Any] = {what: path for what, path in read.items()}
    keys |= {what: _system(path) for what, path in written.items()}
    paths = {
        what: path
        for what, path in {**read, **written}.items()
        if not _is_below(path, shared) and (keys[what], others) not in _seen
    }
    if not paths and (SHM, others) in _seen:
        return
    with contextlib.ExitStack() as stack:
        names = {
            what: stack.enter_context(_mark(path)) if what in written else _names(path)
            for what, path in paths.items()
        }
        answers = _ask(others, sorted({name for each in names.values() for name in each}))
    for node, answer in answers.items():
        _has_memory(nodes[node], answer.shm)
        for what, wanted in names.items():
            if set(wanted) & set(answer.missing):
                raise _refusal(what, paths[what], nodes[node])
    # A file may name hundreds of tables: what nobody missed is not looked for again.
    _seen.update((each, others) for each in (SHM, *(keys[what] for what in names)))


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
    done, _ = ray.wait(list(asked), num_returns=len(asked), timeout=_PATIENCE_S)
    answers: dict[str, _Answer] = {}
    for call in done:
        with contextlib.suppress(ray.exceptions.RayError):
            answers[asked[call]] = ray.get(call)
    return answers


def _answer(names: list[str]) -> _Answer:
    return _Answer(tuple(each for each in names if not os.path.lexists(each)), _shm())
