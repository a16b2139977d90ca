"""A flow of many files: each file becomes a flow of its own, as tables of a database do.

    files: "in/*/*.csv"     in/eu/orders.csv is the flow `in.eu.orders`, {folder} eu, {file} orders

Files are found by the rules that every home of files has: names that begin with `.` or `_` are not
taken, and a folder that the pattern matches is read with all below it. Where the pattern does not
end as one type does, the ending of each file tells its type, and one with no known ending is left
out, as in a folder. Two files that differ in their ending alone would be one flow: an error.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from fnmatch import fnmatchcase

from hygge.config import connectors
from hygge.config.checks import Places
from hygge.config.specs import FlowSpec
from hygge.connectors.files.home import FileHome
from hygge.connectors.files.listing import find_files
from hygge.connectors.files.source_file import name_below
from hygge.connectors.sql.listing import Described
from hygge.coordinator.fitting import check_hidden, hidden
from hygge.coordinator.members import Family, problem
from hygge.errors import HyggeError, SourceMissing
from hygge.registry import by_suffix, suffixes

_NAMED = 5


@dataclass(frozen=True, order=True)
class FileTable:
    """One file: `schema` is its folder below that of the pattern, `name` is without its ending."""

    schema: str
    name: str
    ending: str
    path: str
    kind: str

    @property
    def text(self) -> str:
        return f"{self.schema}/{self.name}" if self.schema else self.name

    def is_like(self, pattern: str) -> bool:
        """Return whether a pattern takes it, with its ending or without."""
        texts = (self.text, self.text + self.ending)
        return pattern in texts or any(fnmatchcase(text, pattern) for text in texts)


@contextmanager
def open_files(
    spec: FlowSpec,
    places: Places[str],
    was_there: Callable[[str], bool],
    say: Callable[[str], None],
    look: Callable[[Sequence[str]], None],
) -> Iterator[tuple[FlowSpec, ...]]:
    """Return the flows of the files of `spec`.

    `places` as for tables. `was_there` tells of a name or pattern whether an earlier run had such a
    file; `say` is told what is left out, `look` which files there are, whatever is selected.
    Raises SourceMissing, ConfigError or HomeError.
    """
    family = _family(spec, was_there, say)
    look([file.text for file in family.members])
    flows = [_flow_of(family, file) for file in family.selected()]
    if not (family.tables.selected or family.tables.excluded) and any(map(hidden, flows)):
        check_hidden([(flow, _described(flow)) for flow in flows])
    family.check_places(lambda file: _flow_of(family, file), flows, places)
    yield tuple(flows)


def places_of(spec: FlowSpec) -> dict[str, str]:
    """Return where the files of `spec` are written: place → name of the file's flow."""
    family = _family(spec, lambda name: True, lambda text: None)
    flows = [_flow_of(family, file) for file in family.selected()]
    found = ((connectors.build(flow)[1].place(), flow.name) for flow in flows)
    return {place: name for place, name in found if place is not None}


def _family(
    spec: FlowSpec, was_there: Callable[[str], bool], say: Callable[[str], None]
) -> Family[FileTable]:
    """Return the files that `spec` takes; see `open_files`."""
    files = _found(spec, say)
    family = Family(
        spec,
        files,
        lambda name: next((file for file in files if name in _names(file)), None),
        lambda pattern, file: file.is_like(pattern),
        lambda name: name,
        False,
        was_there,
    )
    family.check_settings()
    first: dict[tuple[str, str], FileTable] = {}
    for file in files:
        other = first.setdefault((file.schema, file.name), file)
        if other != file:
            raise problem(
                spec,
                f"{other.path} and {file.path} would be one table, '{file.text}'",
                f"leave one of them out: exclude: [{file.text}{file.ending}]; or name it otherwise",
            )
    return family


def _names(file: FileTable) -> tuple[str, str]:
    return file.text, file.text + file.ending


def _found(spec: FlowSpec, say: Callable[[str], None]) -> list[FileTable]:
    """Return the files that the pattern of `spec` takes and `exclude` does not."""
    wanted = spec.tables
    assert wanted is not None  # it is called only then
    home = connectors.build(spec)[0]
    assert isinstance(home, FileHome)  # `files` is for these
    known = sorted(home.suffixes if wanted.kind else suffixes("home"), key=len, reverse=True)
    files, unknown = [], []
    for found in find_files(home.path, known):
        below = name_below(home.path, found.path)
        folder, _, name = below.rpartition("/")
        ending = next((end for end in known if name.lower().endswith(end)), "")
        if not ending and wanted.kind and "." in name:
            ending = "." + name.rpartition(".")[2]
        kind = wanted.kind or by_suffix("home", name)
        if kind is None:
            unknown.append(below)
            continue
        stem = name[: len(name) - len(ending)] if ending else name
        file = FileTable(folder, stem, name[len(stem) :], str(found.path), kind)
        if not any(file.is_like(pattern) for pattern in wanted.exclude):
            files.append(file)
    if unknown:
        more = f" and {len(unknown) - _NAMED} more" if len(unknown) > _NAMED else ""
        say(f"left out, as no type of file ends so: {', '.join(unknown[:_NAMED])}{more}")
    if not files:
        raise SourceMissing(
            f"{home.path} has no file that the flow takes",
            f"known endings: {', '.join(sorted(known))}; take a pattern out of `exclude`, or say "
            "the type: home: {type: csv, files: …}",
        )
    return sorted(files)


def _flow_of(family: Family[FileTable], file: FileTable) -> FlowSpec:
    return family.flow_of(file, {"path": file.path}, file.kind)


def _described(flow: FlowSpec) -> Described:
    """Return the columns of the file of a flow, which has a mask or leaves columns out.

    One that cannot be read has none here; its own flow says why.
    """
    home = connectors.build(flow)[0]
    assert isinstance(home, FileHome)  # `files` is for these
    home.only, home.own_columns = True, flow.columns
    with suppress(HyggeError), home.open(None) as plan:
        return Described(tuple(column.name for column in plan.columns or ()), ())
    return Described((), ())
