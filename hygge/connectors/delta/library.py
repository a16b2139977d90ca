"""The library `deltalake`: loaded when it is first needed, with its errors in hygge's words.

Its own commits try again by themselves, and double rows where two first writers race. So every
commit here has no retries (`no_retries`): then an entry of the log is created on top of the version
that the table was loaded with, or CommitFailedError is raised. That is a compare-and-swap.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

import pyarrow as pa

from hygge.connectors.delta.damage import damaged
from hygge.errors import ConfigError, HyggeError, StoreError, Transient, without_password
from hygge.places import refusals
from hygge.places.access import Access, credentials, storage_options
from hygge.places.bucket import Bucket
from hygge.places.objects import is_object_url

if TYPE_CHECKING:
    from deltalake import CommitProperties, DeltaTable

INSTALL = "pip install 'deltalake>=1.6.6,<2' (on every node of a cluster)"
_REFUSED = ("privileges", "Forbidden", "403", "401", "credentials", "SignatureDoesNotMatch")
_NESTED = re.compile(r"\n\s*\x1b\[31m↳\x1b\[0m ")
"""How the library shows that one error came of another."""
_GONE = ("not found", "No such file", "NoSuchKey")
_OF_LOG = re.compile("kernel error: ", re.IGNORECASE)
"""What is in an error that may come of a file of the log."""
_DECODED = re.compile(r"%[0-9A-Fa-f]{2}|\\")
_DECODED_IN_URLS = re.compile(r"%[0-9A-Fa-f]{2}|[\\#?]")


def check_installed(who: str) -> None:
    """Raise ConfigError where the library is not there."""
    try:
        import deltalake  # noqa: F401  # slow to load, and not needed by others
    except ImportError:
        raise ConfigError(f"{who}: the package deltalake is not installed", INSTALL) from None


def load(url: str, access: Access | None, version: int | None = None) -> DeltaTable | None:
    """Return the table at a path or a URL, of its newest version or a given one; None: no table."""
    check_installed(url)
    from deltalake import DeltaTable
    from deltalake.exceptions import TableNotFoundError

    _check_name(url)
    if not is_object_url(url) and not os.path.isdir(os.path.join(url, "_delta_log")):
        return None  # the library would make the folder
    try:
        return DeltaTable(url, version=version, storage_options=options(url, access))
    except TableNotFoundError:
        return None


def _check_name(url: str) -> None:
    """Raise ConfigError for a folder or a prefix that the library takes for another one."""
    decoded = (_DECODED_IN_URLS if is_object_url(url) else _DECODED).search(url)
    if decoded:
        raise ConfigError(
            f"{url} has '{decoded[0]}' in its name, which the package deltalake does not take for "
            "itself: it would look into another folder",
            "give the folder another name",
        )


def options(url: str, access: Access | None) -> dict[str, str] | None:
    """Return how the library reaches a URL; None for a path of this machine."""
    return storage_options(url, access) if is_object_url(url) else None


def no_retries(transactions: Sequence[tuple[str, int]] = ()) -> CommitProperties:
    """Return the properties of a commit that is a compare-and-swap, with its transactions."""
    from deltalake import CommitProperties, Transaction

    apps = [Transaction(app, version) for app, version in transactions]
    return CommitProperties(max_commit_retries=0, app_transactions=apps)


def has_lost(error: Exception) -> bool:
    """Return whether a commit failed since another one was quicker: nothing of it is there."""
    from deltalake.exceptions import CommitFailedError

    return isinstance(error, CommitFailedError) or "already exists" in str(error)


def is_of_library(error: Exception) -> bool:
    """Return whether the library, or what it asks, raised an error.

    What its parts refuse, such as two columns of one name, comes as a plain Exception.
    """
    from deltalake.exceptions import DeltaError

    return isinstance(error, DeltaError | OSError) or type(error) is Exception


def is_refused(error: Exception, is_merge_here: bool) -> bool:
    """Return whether the library refused an entry before it asked for anything to be written.

    `is_merge_here`: on this machine a merge that failed has written nothing, since a file of the
    table could not be read.
    """
    from deltalake.exceptions import DeltaError, DeltaProtocolError, SchemaMismatchError

    refused = isinstance(error, DeltaProtocolError | SchemaMismatchError)
    refused |= is_merge_here and isinstance(error, DeltaError)
    return refused or type(error) is Exception


@contextmanager
def in_words(url: str, access: Access | None, side: type[HyggeError]) -> Iterator[None]:
    """Raise errors of the library as `side` (StoreError or HomeError), or as Transient."""
    try:
        yield
    except HyggeError:
        raise
    except Exception as error:
        if not is_of_library(error):
            raise
        raise said(url, access, side, error) from None  # its text may hold a whole URL


def said(url: str, access: Access | None, side: type[HyggeError], error: Exception) -> HyggeError:
    """Return an error of the library in hygge's words."""
    text = line(error)
    if "is not supported" in text:  # a feature that a newer engine gave the table
        return side(
            f"{url}: the package deltalake does not know all of this table: {text}",
            "upgrade the package deltalake, or let the engine that made the table take that out",
        )
    if _OF_LOG.search(text) and (problem := damaged(url, access, side)):
        return problem
    if not is_object_url(url):
        verb = "written" if issubclass(side, StoreError) else "read"
        if isinstance(error, OSError) and error.errno is not None:
            text = os.strerror(error.errno)
        return side(f"{url} cannot be {verb}: {text}", "look at the folder, then run it again")
    if isinstance(error, OSError) and not is_missing(error):
        flat = OSError(_NESTED.sub(": ", str(error)))
        told = refusals.problem(Bucket(url, access).root, url, flat, access)
        if told.hint != refusals.HINT:
            return told if isinstance(told, Transient) else side(told.message, told.hint)
    if any(word in str(error) for word in _REFUSED):
        hint = f"look at the rights and the credentials: {credentials(url)}"
        return side(f"{url} cannot be reached: {text}", hint)
    if isinstance(error, OSError):
        return Transient(f"{url} cannot be reached: {text}", "run it again")
    return side(f"{url}: {text}", "look at what it says, then run it again")


def is_missing(error: Exception) -> bool:
    """Return whether an error says that a file is not there, and not that its bucket is not."""
    text = str(error)
    return any(word in text for word in _GONE) and not refusals.is_missing_bucket(error)


def line(error: Exception) -> str:
    """Return the first line of an error, without secrets."""
    return without_password(error).strip().split("\n")[0]


def files_in(table: DeltaTable | None) -> set[str]:
    """Return the files of a version, below the table."""
    if table is None:
        return set()
    actions = pa.table(table.get_add_actions(flatten=True))
    return {unquote(path) for path in actions["path"].to_pylist()}


def partition_columns(table: DeltaTable) -> tuple[str, ...]:
    """Return the names of the columns that a table is partitioned by."""
    return tuple(table.metadata().partition_columns)


def configuration(table: DeltaTable) -> dict[str, Any]:
    """Return the properties of a table."""
    return dict(table.metadata().configuration)
