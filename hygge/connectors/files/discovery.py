"""What a folder or a prefix of a bucket has: data sets of files that a Home would read as one.

Files of one folder are one data set where they have the same columns, else each is one. Folders of
hive partitions (`year=2024`) belong to the folder above them. A Delta table is a data set of its
own, and so is an Iceberg table on a disk; a Hudi table, and an Iceberg table in a bucket, are named
as such, and nothing in them is looked at.
"""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import cast

import pyarrow as pa

from hygge import registry
from hygge.connectors.files import lake_tables
from hygge.connectors.files.source_file import is_hidden
from hygge.errors import HyggeError, SourceMissing
from hygge.formats.arrow import count_rows
from hygge.home import Home
from hygge.model import MIB, Plan
from hygge.places.access import ObjectUrl, access_of
from hygge.places.names import hint_for_missing
from hygge.places.objects import bucket_and_key, is_object_url
from hygge.places.objects import hint_for_missing as hint_for_missing_object

_SAMPLE_BYTES = MIB
_COMPARED = 20
"""Files of one folder at most whose columns are compared one by one."""
_IN_OURS = re.compile(r"run-\w|[._]*hygge")
"""Folders that hygge makes in a directory to which it appends."""
_TYPES = {lake_tables.DELTA: "delta", lake_tables.ICEBERG: "iceberg"}
"""Kinds of lake tables that a Home reads."""
_TEXT = (".csv", ".tsv", ".jsonl", ".ndjson")


@dataclass(frozen=True)
class DataSet:
    """Files that are read as one."""

    name: str
    """Its path below what was looked at."""
    path: str
    """The path for `home:`: a file, a folder or a glob."""
    kind: str
    """The `type:` of its files; or `Hudi table` and the like, which no Home reads."""
    files: int
    bytes: int
    rows: int | None = None
    """Number of rows; None: not known."""
    is_exact: bool = False
    """True if the files tell it; False: it is estimated from the beginning of the first file."""
    columns: tuple[str, ...] = ()
    problem: str = ""
    """Why it cannot be read as it is; empty: it can."""

    @property
    def is_readable(self) -> bool:
        """Whether a flow can read it."""
        return not self.problem


def data_sets(path: str, include: Sequence[str], exclude: Sequence[str]) -> list[DataSet]:
    """Return the data sets at a path, in the order of their names.

    `include` and `exclude` are patterns of names below the path, as in a shell. Raises
    SourceMissing where nothing is there, and what the object store says.
    """
    top, sizes = _list(path)
    found: list[DataSet] = []
    lakes = lake_tables.lake_tables_in(sizes)
    for folder, kind in lakes.items():
        keys = [key for key in sizes if _is_below(key, folder)]
        name, at = folder or os.path.basename(top.rstrip("/")), _joined(top, folder)
        type_of_it = _TYPES.get(kind, "")
        if kind == lake_tables.ICEBERG and is_object_url(top):
            why = (
                "in a bucket it is read through its catalog: make that a connection of flows.yml "
                "(`type: iceberg`), then `hygge discover NAME` lists its tables"
            )
        elif type_of_it:
            found.append(_described(top, name, at, type_of_it, keys, sizes, _of_table))
            continue
        else:
            why = "hygge does not read such tables: export it as plain files, and read those"
        inside = [sizes[key] for key in keys]
        found.append(DataSet(name, at, kind, len(inside), sum(inside), problem=why))
    groups: dict[tuple[str, str], list[str]] = {}
    for key in sizes:
        if any(is_hidden(part) for part in key.split("/")):
            continue
        kind_of_file = registry.by_suffix("home", key)
        if kind_of_file and not any(_is_below(key, folder) for folder in lakes):
            groups.setdefault((_folder_of(key), kind_of_file), []).append(key)
    for (folder, kind), keys in groups.items():
        found += _of_group(top, folder, kind, keys, sizes, groups)
    chosen = [each for each in found if _is_chosen(each.name, include, exclude)]
    return sorted(chosen, key=lambda each: each.name)


def _list(path: str) -> tuple[str, dict[str, int]]:
    """Return a folder or prefix, and the sizes of all files below it by their names."""
    if is_object_url(path):
        bucket, key = bucket_and_key(path)
        key = key.strip("/")
        entries = bucket.entries(key)
        single = bucket.entry(key) if key and not entries else None
        if single is not None:
            return ObjectUrl(path.rpartition("/")[0], access_of(path)), {
                key.rpartition("/")[2]: single.size
            }
        if not entries:
            raise SourceMissing(f"there is nothing at {path}", hint_for_missing_object(path))
        cut = len(key) + 1 if key else 0
        return path.rstrip("/"), {name[cut:]: entry.size for name, entry in entries.items()}
    if os.path.isfile(path):
        return os.path.dirname(path), {os.path.basename(path): os.path.getsize(path)}
    if not os.path.isdir(path):
        raise SourceMissing(f"there is no file or folder {path}", hint_for_missing(path))
    sizes = {}
    for folder, folders, names in os.walk(path):
        folders.sort()
        for name in sorted(names):
            file = os.path.join(folder, name)
            if os.path.isfile(file):
                sizes[os.path.relpath(file, path).replace(os.sep, "/")] = os.path.getsize(file)
    return path.rstrip("/") or "/", sizes


def _is_below(key: str, folder: str) -> bool:
    return not folder or key.startswith(f"{folder}/")


def _is_chosen(name: str, include: Sequence[str], exclude: Sequence[str]) -> bool:
    taken = not include or any(fnmatchcase(name, pattern) for pattern in include)
    return taken and not any(fnmatchcase(name, pattern) for pattern in exclude)


def _joined(top: str, *parts: str) -> str:
    path = "/".join(part for part in (top, *parts) if part)
    return ObjectUrl(path, access_of(top)) if is_object_url(top) else path


def _of_hygge(key: str) -> bool:
    """Return whether a file is what hygge keeps beside the files that it writes."""
    return any(part.lstrip("._").startswith("hygge") for part in key.split("/"))


def _folder_of(key: str) -> str:
    """Return the folder of a file, without hive partitions, and without what hygge makes in it."""
    parts = key.split("/")[:-1]
    while parts and ("=" in parts[-1] or _IN_OURS.match(parts[-1])):
        parts.pop()
    return "/".join(parts)


def _of_group(
    top: str,
    folder: str,
    kind: str,
    keys: Sequence[str],
    sizes: Mapping[str, int],
    groups: Iterable[tuple[str, str]],
) -> list[DataSet]:
    """Return the files of one kind in one folder: as one data set, or each as one."""
    is_hive = any("=" in key.removeprefix(folder) for key in keys)
    others = [
        each for each in groups if each != (folder, kind) and _is_below(f"{each[0]}/", folder)
    ]
    is_ours = any(_of_hygge(key) and _folder_of(key) == folder for key in sizes)
    is_folder = bool(folder or is_ours) and not others
    if len(keys) == 1 and not is_hive and not is_folder:
        return [_described(top, keys[0], _joined(top, keys[0]), kind, keys, sizes)]
    path = _joined(top, folder)
    if others:
        endings = {_ending(key) for key in keys}
        ending = endings.pop()
        if endings:
            return [_described(top, key, _joined(top, key), kind, [key], sizes) for key in keys]
        path = _joined(top, glob.escape(folder), f"{'**/' * is_hive}*{ending}")
    name = (folder or os.path.basename(top.rstrip("/"))) + (f"/*{ending}" if others else "")
    if is_hive or is_ours or _have_same_columns(top, kind, keys):
        whole = _described(top, name, path, kind, keys, sizes)
        if whole.is_readable or is_hive:
            return [whole]
    return [_described(top, key, _joined(top, key), kind, [key], sizes) for key in keys]


def _ending(key: str) -> str:
    """Return the ending of a file's name that tells its type: `.csv.gz`."""
    fitting = [each for each in registry.suffixes("home") if key.lower().endswith(each)]
    return key[-max(map(len, fitting)) :]


def _have_same_columns(top: str, kind: str, keys: Sequence[str]) -> bool:
    """Return whether the first files have the columns of the first; else they are no one table."""
    seen: list[frozenset[str]] = []
    for key in keys[:_COMPARED]:
        try:
            plan = _plan(kind, _joined(top, key))
        except HyggeError:
            return False
        seen.append(frozenset(column.name for column in plan.columns or ()))
    return all(columns == seen[0] for columns in seen)


def _plan(kind: str, path: str) -> Plan:
    home = cast(Home, registry.find("home", kind)(path=path))
    with home.open(None) as plan:
        return plan


def _of_table(plan: Plan) -> tuple[int, int] | None:
    """Return the files of a lake table that count now, and their bytes.

    Neither its log nor the files of older versions are among them. None: its library reads it, and
    hygge does not know the files.
    """
    files: set[str] = set()
    for split in plan.splits:
        if "files" not in split.where or split.bytes is None:
            return None
        files |= {piece if isinstance(piece, str) else piece[0] for piece in split.where["files"]}
    return len(files), sum(split.bytes or 0 for split in plan.splits)


def _described(
    top: str,
    name: str,
    path: str,
    kind: str,
    keys: Sequence[str],
    sizes: Mapping[str, int],
    counted: Callable[[Plan], tuple[int, int] | None] = lambda plan: None,
) -> DataSet:
    """Return a data set with its columns and rows, as its Home plans it.

    `counted` tells the files and bytes of a plan, where they are not all of `keys`.
    """
    size = sum(sizes[key] for key in keys)
    try:
        plan = _plan(kind, path)
        rows = [split.rows for split in plan.splits]
        known = [number for number in rows if number is not None]
        number = sum(known) if len(known) == len(rows) else _counted(top, kind, keys)
        is_exact = number is not None
        if number is None:
            number = _estimate(_joined(top, keys[0]), size)
    except HyggeError as error:
        return DataSet(name, path, kind, len(keys), size, problem=error.message)
    columns = tuple(column.name for column in plan.columns or ())
    files, size = counted(plan) or (len(keys), size)
    return DataSet(name, path, kind, files, size, number, is_exact, columns)


def _counted(top: str, kind: str, keys: Sequence[str]) -> int | None:
    """Return the rows of Arrow files on a disk, whose plan does not know them; None: of others."""
    if kind != "arrow" or is_object_url(top):
        return None
    try:
        return sum(count_rows(_joined(top, key)) for key in keys)
    except pa.ArrowException:  # a stream, which would have to be read
        return None


def _estimate(path: str, total: int) -> int | None:
    """Return about how many lines `total` bytes have, by those at the beginning of one file."""
    if not path.lower().endswith(_TEXT):
        return None
    if is_object_url(path):
        bucket, key = bucket_and_key(path)
        head = bucket.part(key, 0, _SAMPLE_BYTES, "") or b""
    else:
        with open(path, "rb") as file:
            head = file.read(_SAMPLE_BYTES)
    lines = head.count(b"\n")
    if not lines:
        return None
    about = round(total * lines / len(head))
    return max(0, about - (1 if path.lower().endswith((".csv", ".tsv")) else 0))
