"""Every error that hygge raises, and the helpers that write its messages.

    HyggeError
    ├── UsageError            the command line is wrong                      exit code 2
    ├── ConfigError           flows.yml or a constructor's settings are wrong
    ├── HomeError             the source cannot be read
    │   ├── SourceMissing     no such file, table, column, or nothing matches
    │   └── SourceChanged     a split no longer gives the rows that were planned
    ├── UnfitValue            a value that its column's type cannot hold
    ├── TooManyBadRows        more rows cannot be moved than the flow lets be set aside
    ├── StoreError            the target cannot be written
    │   ├── DiskFull          the disk of the machine that writes is full; another's may not be
    │   ├── NotOurs           the target holds something that hygge did not write
    │   ├── Rejected          the store refused the commit; nothing became visible, the run is over
    │   │   └── Superseded    another run moved the head first
    │   └── Unknown           the commit may or may not have happened: ask the head
    ├── JournalError          the entries of earlier runs cannot be read, or forbid this run
    ├── Transient             a retry may help (reset, lock, dead worker); all others stop at once
    ├── FlowFailed            raised by `await flow.start()`; carries the report
    └── Stopped               the run was asked to stop (Ctrl-C, SIGTERM)

`message` says what happened and where; `hint` says what to do next. Neither may contain a secret:
code that builds a message from a URL passes it through `without_password` first.
"""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from hygge.model import Report, Summary


class HyggeError(Exception):
    """The root of all errors of hygge.

    `message` says what happened and where; `hint` says what to do about it, or is None.
    """

    def __init__(self, message: str, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message}\n\nhint: {self.hint}" if self.hint else self.message

    def __reduce__(self) -> tuple[object, ...]:
        return _rebuild, (type(self), self.message, self.hint, self.__dict__)


class UsageError(HyggeError):
    """The command line is wrong."""


class ConfigError(HyggeError):
    """flows.yml or the settings that a constructor got are wrong."""


class HomeError(HyggeError):
    """The source cannot be read."""


class SourceMissing(HomeError):
    """There is no such file, table or column, or a pattern matches nothing."""


class SourceChanged(HomeError):
    """A split no longer gives the rows that were planned."""


class UnfitValue(HyggeError):
    """A value that the type of its column cannot hold exactly.

    `column` and `value` say where it is, in the list of bad rows; None: not known, or not one.
    """

    column: str | None = None
    value: str | None = None
    row: int | None = None
    """The place of the row in the batch that was looked at, where a check knows it."""

    def at(self, column: str, value: str | None = None, row: int | None = None) -> Self:
        """Return the error itself, with the column, the value and the row."""
        self.column, self.value, self.row = column, value, row
        return self


class TooManyBadRows(HyggeError):
    """More rows cannot be moved than the flow lets be set aside; nothing became visible."""


class StoreError(HyggeError):
    """The target cannot be written."""


class DiskFull(StoreError):
    """The disk of the machine that writes is full; that of another node may have room."""


class NotOurs(StoreError):
    """The target holds something that hygge did not write; hygge leaves it as it is."""


class Rejected(StoreError):
    """The store refused the commit: nothing became visible, and trying it again is of no use."""


class Superseded(Rejected):
    """Another run moved the head first; this run must not commit."""


class Unknown(StoreError):
    """The commit may or may not have happened; only the store's head can tell."""


class JournalError(HyggeError):
    """The entries of earlier runs in the journal cannot be read, or forbid this run."""


class Transient(HyggeError):
    """A failure after which a retry may succeed; hygge retries nothing else."""


class FlowFailed(HyggeError):
    """A flow, or at least one flow of a Coordinator, did not end well.

    `report` is the `Report` of the flow, or the `Summary` of all flows of the Coordinator.
    """

    def __init__(
        self, message: str, hint: str | None = None, report: Report | Summary | None = None
    ) -> None:
        super().__init__(message, hint)
        self.report = report


class Stopped(HyggeError):
    """The run was asked to stop; nothing of it became visible."""


@contextmanager
def refusing() -> Iterator[None]:
    """Raise a StoreError as Rejected: a commit found what `prepare` would have refused.

    The target has changed since. It is for the part of a commit that made nothing visible.
    """
    try:
        yield
    except (Rejected, Unknown):
        raise
    except StoreError as error:
        raise Rejected(error.message, error.hint) from error


def _rebuild(
    cls: type[HyggeError], message: str, hint: str | None, state: dict[str, object]
) -> HyggeError:
    error = cls.__new__(cls)
    Exception.__init__(error, message)
    error.__dict__.update(state)
    return error


# A password may contain / and @, so it ends at the last @ before a space: better to hide too much.
_URL_SECRET = re.compile(r"(?P<open>\b[A-Za-z][\w+.-]{0,30}:/{1,3}[^:/?#\s]{0,256}:)\S*@")
_BARE_SECRET = re.compile(r"(?P<open>(?<![\w.%+-])[\w.%+-]{1,64}:)(?!/)[^\s@]{1,256}@")
_VALUE = r"(?:\\*\"[^\"]*\"?|\\*'[^']*'?|\{[^}]*\}?|[^&;\s'\"]+)"
_PAIR_SECRET = re.compile(
    r"(?i)(?P<open>(?:(?:password|passwd|pwd|secret|token|(?:access|api|account|sas)[_-]?key)"
    r"(?:\\*[\"']\s*[:=]|\s*=|%3D)|(?:password|passwd|pwd):)\s*)" + _VALUE
)
_HEADER_SECRET = re.compile(
    r"(?i)(?P<open>authorization[\\\"']*\s*[:=]\s*(?:(?:bearer|basic)\s)?\s*)" + _VALUE
)


def without_password(text: object) -> str:
    """Return `text` with `***` for each password: in URLs, in `password=…` pairs, in headers."""
    hidden = str(text)
    if "@" in hidden:
        hidden = _URL_SECRET.sub(r"\g<open>***@", hidden)
        hidden = _BARE_SECRET.sub(r"\g<open>***@", hidden)
    hidden = _PAIR_SECRET.sub(r"\g<open>***", hidden)
    return _HEADER_SECRET.sub(r"\g<open>***", hidden)


_SECRET_NAME = re.compile(
    r"(?i)passw|passphrase|pwd|secret|token|credential|authorization"
    r"|(?:access|api|account|sas|private|encryption|signing)_?key"
)


def is_secret_name(name: str) -> bool:
    """Whether a setting of this name holds a secret, as far as its name says: `api_key`."""
    return bool(_SECRET_NAME.search(name))


_COMPILED = (".pyx", ".pxi")
_LIBRARIES = (
    os.path.dirname(os.__file__) + os.sep,
    os.path.dirname(__file__) + os.sep,
    f"{os.sep}site-packages{os.sep}",
    f"{os.sep}dist-packages{os.sep}",
    "<frozen ",
)


def raised_at(error: BaseException, own: str | None = None) -> str:
    """Return `file:line` of the deepest frame of `error` that is in the user's code.

    Where all frames are in libraries, it is the deepest of them. `own` is one file that counts as
    the user's code although it is installed among the libraries: that of a plug-in's connector.
    """
    return _raised_at(error, own)[0]


def _raised_at(error: BaseException, own: str | None = None) -> tuple[str, bool]:
    """Return `file:line` as `raised_at` does, and whether that is in the user's code."""
    deepest = deepest_of_user = ""
    frame = error.__traceback__
    while frame is not None:
        file = frame.tb_frame.f_code.co_filename
        deepest = f"{file}:{frame.tb_lineno}"
        if file == own or not (
            file.endswith(_COMPILED) or any(part in file for part in _LIBRARIES)
        ):
            deepest_of_user = deepest
        frame = frame.tb_next
    return deepest_of_user or deepest, bool(deepest_of_user)


def rows_text(count: int) -> str:
    """Return `1 row`, `2 rows`, …."""
    return f"{count:,} row{'s'[: count != 1]}"


def nearest(word: str, known: Iterable[str]) -> str | None:
    """Return the known word that is most similar to `word`, or None if none is similar."""
    words = list(known)
    for each in words:
        if each.lower() == word.lower():
            return each
    if len(word) < 2:
        return None  # one letter is in too many words
    matches = difflib.get_close_matches(word, words, n=1, cutoff=0.6)
    return matches[0] if matches else None


def one_of(what: str, word: str, known: Iterable[str]) -> str:
    """Return a hint for an unknown `word`: the nearest known word, then the list of all.

    `what` names the list: `one_of("modes", "apend", modes)`.
    """
    words = sorted(known)
    close = nearest(word, words)
    listed = f"{what}: {', '.join(words) if words else 'none'}"
    return f"did you mean '{close}'? {listed}" if close else listed


def as_hygge_error(error: BaseException) -> HyggeError:
    """Return `error` itself if it is a HyggeError, else one that quotes it without secrets.

    Only for an error of the user's own class it names the class of the error and the line to mend.
    """
    if isinstance(error, HyggeError):
        return error
    text = without_password(str(error)).strip() or "no message"
    if len(text) > 1000:
        text = f"{text[:1000]} …"
    # Engines note these as attributes of the error: a traceback does not travel between processes.
    who = getattr(error, "hygge_who", "")
    where, is_own = _raised_at(error)
    where = getattr(error, "hygge_where", "") or where
    if getattr(error, "hygge_own", is_own) or not where:
        return HyggeError(
            f"{who}{' raised ' if who else ''}{type(error).__name__}: {text}"
            + (f" ({where})" if where else ""),
            "fix it there; the whole traceback: `--debug`, or in Python `error.__cause__`",
        )
    if isinstance(error, OSError) and error.strerror:
        path = f"{error.filename}: " if error.filename else ""
        return HyggeError(f"{path}{error.strerror}", "see what is there, and who may use it")
    if isinstance(error, MemoryError):
        return HyggeError(
            "there is not enough memory", "lower `memory_per_lane` or `lanes`, then run it again"
        )
    return HyggeError(
        f"{f'{who}: ' if who else ''}something that hygge did not expect: {text} ({where})",
        "this is a defect of hygge: please report it with this message and the whole traceback "
        "(`--debug`, or in Python `error.__cause__`)",
    )
