"""Everything hygge raises, drawn once.

    HyggeError
    ├── UsageError            the command line is wrong                      exit code 2
    ├── ConfigError           flows.yml or a constructor's settings are wrong
    ├── HomeError             the source cannot be read
    │   ├── SourceMissing     no such file, table, column, or nothing matches
    │   └── SourceChanged     a split no longer gives the rows that were planned
    ├── UnfitValue            a value that its column's type cannot hold
    ├── StoreError            the target cannot be written
    │   ├── NotOurs           the target holds something that hygge did not write
    │   ├── Rejected          the store refused the commit; nothing became visible
    │   │   └── Superseded    another run moved the head first
    │   └── Unknown           the commit may or may not have happened: ask the head
    ├── JournalError          what earlier runs left cannot be read, or forbids this run
    ├── Transient             a retry may help (reset, lock, dead worker); all others stop at once
    ├── FlowFailed            what `await flow.start()` raises; carries the report
    └── Stopped               somebody asked the run to stop (Ctrl-C, SIGTERM)

A message says what happened and where; `hint` says what to do next. Secrets never appear in
either: whoever builds a message from a URL passes it through `without_password` first.
"""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Iterable
from typing import Any


class HyggeError(Exception):
    """The root. `message` says what and where; `hint` says what to do about it."""

    def __init__(self, message: str, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message}\n\nhint: {self.hint}" if self.hint else self.message

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (type(self), self.message, self.hint, self.__dict__)


class UsageError(HyggeError):
    """The command line is wrong."""


class ConfigError(HyggeError):
    """flows.yml, or the settings given to a constructor, are wrong."""


class HomeError(HyggeError):
    """The source cannot be read."""


class SourceMissing(HomeError):
    """No such file, table or column, or a pattern that matches nothing."""


class SourceChanged(HomeError):
    """A split would no longer give the rows that were planned."""


class UnfitValue(HyggeError):
    """A value that the type of its column cannot hold exactly."""


class StoreError(HyggeError):
    """The target cannot be written."""


class NotOurs(StoreError):
    """The target holds something that hygge did not write; it stays as it is."""


class Rejected(StoreError):
    """The store refused the commit: nothing became visible."""


class Superseded(Rejected):
    """Another run moved the head first; this run must not commit."""


class Unknown(StoreError):
    """The commit may or may not have happened; only the head knows."""


class JournalError(HyggeError):
    """What earlier runs left in the journal cannot be read, or forbids this run."""


class Transient(HyggeError):
    """Something that a retry may mend."""


class FlowFailed(HyggeError):
    """A flow (or several of a coordinator) failed; `report` says which and why."""

    def __init__(self, message: str, hint: str | None = None, report: Any = None) -> None:
        super().__init__(message, hint)
        self.report = report


class Stopped(HyggeError):
    """The run was asked to stop; nothing of it became visible."""


def _rebuild(
    cls: type[HyggeError], message: str, hint: str | None, state: dict[str, Any]
) -> HyggeError:
    error = cls.__new__(cls)
    Exception.__init__(error, message)
    error.__dict__.update(state)
    return error


# A password may hold / and @, so it ends at the last @ before a space: rather too much is hidden.
_URL_SECRET = re.compile(r"(?P<open>\b[A-Za-z][\w+.-]{0,30}:/{1,3}[^:/?#\s]{0,256}:)\S*@")
_BARE_SECRET = re.compile(r"(?P<open>(?<![\w.%+-])[\w.%+-]{1,64}:)(?!/)[^\s@]{1,256}@")
_VALUE = r"(?:\\*\"[^\"]*\"?|\\*'[^']*'?|\{[^}]*\}?|[^&;\s'\"]+)"
_PAIR_SECRET = re.compile(
    r"(?i)(?P<open>(?:(?:password|passwd|pwd|secret|token|access_key|api_?key)"
    r"(?:\\*[\"']\s*[:=]|\s*=|%3D)|(?:password|passwd|pwd):)\s*)" + _VALUE
)
_HEADER_SECRET = re.compile(
    r"(?i)(?P<open>authorization[\\\"']*\s*[:=]\s*(?:(?:bearer|basic)\s)?\s*)" + _VALUE
)


def without_password(text: object) -> str:
    """`text` with the password of every URL in it, and of `password=…` pairs, shown as `***`."""
    hidden = str(text)
    if "@" in hidden:
        hidden = _URL_SECRET.sub(r"\g<open>***@", hidden)
        hidden = _BARE_SECRET.sub(r"\g<open>***@", hidden)
    hidden = _PAIR_SECRET.sub(r"\g<open>***", hidden)
    return _HEADER_SECRET.sub(r"\g<open>***", hidden)


_LIBRARIES = (
    os.path.dirname(os.__file__) + os.sep,
    os.path.dirname(__file__) + os.sep,
    f"{os.sep}site-packages{os.sep}",
    f"{os.sep}dist-packages{os.sep}",
    "<frozen ",
)


_COMPILED = (".pyx", ".pxi")


def raised_at(error: BaseException, own: str | None = None) -> str:
    """`file:line` where `error` was raised: the deepest in the user's code, not in a library.

    `own` is a file that counts as the user's even among the libraries: an installed connector.
    """
    deepest = users = ""
    frame = error.__traceback__
    while frame is not None:
        file = frame.tb_frame.f_code.co_filename
        deepest = f"{file}:{frame.tb_lineno}"
        if file == own or not (
            file.endswith(_COMPILED) or any(part in file for part in _LIBRARIES)
        ):
            users = deepest
        frame = frame.tb_next
    return users or deepest


def nearest(word: str, known: Iterable[str]) -> str | None:
    """The known word closest to `word`, or None if nothing is close."""
    found = difflib.get_close_matches(word, list(known), n=1, cutoff=0.6)
    return found[0] if found else None


def one_of(what: str, word: str, known: Iterable[str]) -> str:
    """A hint for an unknown `word`: the nearest known one first, then all of them."""
    options = sorted(known)
    close = nearest(word, options)
    listed = ", ".join(options) if options else "none"
    return f"did you mean '{close}'? {what}: {listed}" if close else f"{what}: {listed}"


def in_words(error: BaseException) -> HyggeError:
    """Any error as one of ours, without secrets; ours pass as they are."""
    if isinstance(error, HyggeError):
        return error
    text = without_password(str(error)).strip() or "no message"
    if len(text) > 1000:
        text = f"{text[:1000]} …"
    # Engines note both on the error itself: a traceback does not travel between processes.
    who = getattr(error, "hygge_who", "")
    where = getattr(error, "hygge_where", "") or raised_at(error)
    return HyggeError(
        f"{who}{' raised ' if who else ''}{type(error).__name__}: {text}"
        + (f" ({where})" if where else ""),
        "mend it there; --debug shows the whole traceback",
    )
