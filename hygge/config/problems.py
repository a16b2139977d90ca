"""Everything that is wrong with a flows.yml, gathered first and said at once.

Whoever finds something wrong either adds it here, or raises `Wrong` inside `collect()` where it
makes no sense to go on with that part of the file. `raise_any` then ends the reading with one
ConfigError: a problem a paragraph, in the order of the file, each with file, line, flow and hint.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from hygge.errors import ConfigError, one_of


class Wrong(Exception):
    """One thing that is wrong at one line; caught by `Problems.collect`."""

    def __init__(self, line: int, text: str, hint: str | None = None) -> None:
        super().__init__(text)
        self.line = line
        self.text = text
        self.hint = hint


class AlreadySaid(Wrong):
    """The reason was noted elsewhere; this part of the file is left, and nothing more is said."""


def paragraph(file: str, wrong: Wrong, flow: str | None = None) -> str:
    """`flows.yml:12: flow 'orders': …`, without the hint."""
    where = f"{file}:{wrong.line}: " + (f"flow '{flow}': " if flow else "")
    return where + wrong.text


def as_error(found: Iterable[tuple[str, str | None]]) -> ConfigError:
    """One ConfigError of (message, hint) pairs; a single one keeps its hint as the error's own."""
    pairs = list(dict.fromkeys(found))
    if len(pairs) == 1:
        return ConfigError(*pairs[0])
    texts = [text + (f"\n  hint: {hint}" if hint else "") for text, hint in pairs]
    return ConfigError("\n\n".join(texts))


class Problems:
    """What was found so far in one file."""

    def __init__(self, file: str) -> None:
        self.file = file
        self._found: list[tuple[int, str, str | None]] = []

    def add(self, line: int, text: str, hint: str | None = None, flow: str | None = None) -> None:
        self._found.append((line, paragraph(self.file, Wrong(line, text), flow), hint))

    def add_elsewhere(self, file: str, line: int, text: str, hint: str | None = None) -> None:
        """A problem of another file that this one reads (`.env`); said first."""
        self._found.append((0, paragraph(file, Wrong(line, text)), hint))

    @contextmanager
    def collect(self, flow: str | None = None) -> Iterator[None]:
        """What is raised as `Wrong` inside is noted, and the file is read on."""
        try:
            yield
        except AlreadySaid:
            pass
        except Wrong as wrong:
            self.add(wrong.line, wrong.text, wrong.hint, flow)

    @property
    def count(self) -> int:
        return len(self._found)

    def raise_any(self) -> None:
        if self._found:
            raise as_error((text, hint) for _, text, hint in sorted(self._found, key=_by_line))


def _by_line(found: tuple[int, str, str | None]) -> int:
    return found[0]


_SAID_ELSEWHERE = {
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
"""What other tools call it."""


def meant(what: str, word: str, known: Iterable[str]) -> str:
    """A hint for an unknown `word`: what it was probably meant to be, then all there is."""
    words = sorted(known)
    elsewhere = _SAID_ELSEWHERE.get(word.lower())
    if elsewhere in words:
        return f"did you mean '{elsewhere}'? {what}: {', '.join(words)}"
    return one_of(what, word, words)
