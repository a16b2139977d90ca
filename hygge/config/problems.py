"""All problems of a flows.yml, collected first and reported together.

A check adds a problem to `Problems`, or raises `Problem` inside `collect()` where the rest of that
part of the file cannot be read. At the end `raise_any` raises one ConfigError: a paragraph for each
problem, in the order of the file, with file, line, flow and hint.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from operator import itemgetter

from hygge.errors import ConfigError, one_of


class Problem(Exception):
    """One problem at one line; caught by `Problems.collect`."""

    def __init__(self, line: int, message: str, hint: str | None = None) -> None:
        super().__init__(message)
        self.line = line
        self.message = message
        self.hint = hint


class AlreadyReported(Problem):
    """The cause is reported elsewhere: skip this part of the file, and report nothing more."""


def paragraph(file: str, problem: Problem, flow: str | None = None) -> str:
    """Return `flows.yml:12: flow 'orders': …`, without the hint."""
    where = f"{file}:{problem.line}: "
    if flow:
        where += f"flow '{flow}': "
    return where + problem.message


def as_config_error(found: Iterable[tuple[str, str | None]]) -> ConfigError:
    """Return one ConfigError for pairs of message and hint; a single hint becomes its own hint."""
    pairs = list(dict.fromkeys(found))
    if len(pairs) == 1:
        return ConfigError(*pairs[0])
    texts = [text + (f"\n  hint: {hint}" if hint else "") for text, hint in pairs]
    return ConfigError("\n\n".join(texts))


class Problems:
    """The problems found so far in one file."""

    def __init__(self, file: str) -> None:
        self.file = file
        self._found: list[tuple[int, str, str | None]] = []

    def add(
        self, line: int, message: str, hint: str | None = None, flow: str | None = None
    ) -> None:
        self._found.append((line, paragraph(self.file, Problem(line, message), flow), hint))

    def add_elsewhere(self, file: str, line: int, message: str, hint: str | None = None) -> None:
        """Add a problem of another file that this one reads (`.env`); it is reported first."""
        self._found.append((0, paragraph(file, Problem(line, message)), hint))

    @contextmanager
    def collect(self, flow: str | None = None) -> Iterator[None]:
        """Add a `Problem` that is raised inside, and let the file be read on."""
        try:
            yield
        except AlreadyReported:
            pass
        except Problem as problem:
            self.add(problem.line, problem.message, problem.hint, flow)

    @property
    def count(self) -> int:
        return len(self._found)

    def raise_any(self) -> None:
        """Raise one ConfigError if any problem was found."""
        if self._found:
            by_line = sorted(self._found, key=itemgetter(0))
            raise as_config_error((text, hint) for _, text, hint in by_line)

    def raise_those(self, words: str, file: str) -> None:
        """Raise one ConfigError for the problems whose message holds `words`, as if of `file`."""
        found = sorted((each for each in self._found if words in each[1]), key=itemgetter(0))
        if found:
            raise as_config_error(
                (text.replace(self.file, file, 1), hint) for _, text, hint in found
            )


_SYNONYMS = {
    "source": "home", "src": "home", "from": "home", "input": "home", "extract": "home",
    "sink": "store", "destination": "store", "dest": "store", "target": "store", "to": "store",
    "output": "store", "load": "store",
    "primary_key": "key", "keys": "key", "unique_key": "key",
    "write_mode": "mode", "write_disposition": "mode", "strategy": "mode",
    "parallelism": "lanes", "workers": "lanes", "concurrency": "lanes", "threads": "lanes",
    "after": "depends_on", "needs": "depends_on", "requires": "depends_on",
    "overwrite": "replace", "truncate": "replace", "full": "replace",
    "incremental": "append", "upsert": "merge", "update": "merge",
    "datasets": "flows", "pipelines": "flows", "databases": "connections",
}  # fmt: skip
"""Words of other tools → hygge's own."""


def suggest(what: str, word: str, known: Iterable[str]) -> str:
    """Return the hint for an unknown `word`: the nearest known one first, then all of them."""
    words = sorted(known)
    synonym = _SYNONYMS.get(word.lower())
    if synonym in words:
        return f"did you mean '{synonym}'? {what}: {', '.join(words)}"
    return one_of(what, word, words)
