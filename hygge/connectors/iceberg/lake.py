"""How an Iceberg table is reached: its catalog, the table in it, and errors of both in words.

The catalog is opened anew for each verb, and closed behind it: a Home and a Store stay picklable,
and no connection outlives its use. All files go through pyarrow's file systems, whatever the
catalog says, since these can list a folder.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from hygge.errors import (
    ConfigError,
    HyggeError,
    Rejected,
    SourceMissing,
    StoreError,
    Transient,
    without_password,
)
from hygge.places.names import hint_for_missing

FILE_IO = "pyiceberg.io.pyarrow.PyArrowFileIO"
"""The library's own name for files that are reached through pyarrow."""
INSTALL = "pip install 'pyiceberg[sql-sqlite]>=0.12,<0.13' (on every node of a cluster)"
_SQLITE = "sqlite:///"
_FOLDER = "file://"
_NAME = "default"
_TRIES = 5
_LONGEST = 300
"""Characters of what the library says that a message shows."""
_EXAMPLE = "catalog={'uri': 'http://catalog:8181', 'warehouse': 's3://warehouse/'}"


@dataclass(frozen=True)
class Lake:
    """A table of a catalog."""

    catalog: Mapping[str, str] = field(repr=False)
    """The settings of the catalog, by the library's own names."""
    table: str
    """`namespace.table`; a namespace may have several parts."""

    def describe(self) -> str:
        """Return the catalog and the table, without secrets."""
        where = self.catalog.get("uri") or self.catalog.get("type") or _NAME
        return without_password(where) + (f"#{self.table}" if self.table else "")

    def place(self) -> str:
        """Return a string that is equal for two ends at the same table."""
        parts = [self.catalog.get(key, "") for key in ("type", "uri", "name", "warehouse")]
        return without_password(f"iceberg:{'|'.join(parts)}#{self.table}")

    @property
    def identifier(self) -> tuple[str, ...]:
        """The name of the table in its parts, as the library takes it."""
        return tuple(self.table.split("."))

    @property
    def database_file(self) -> str | None:
        """The file of a catalog that SQLite keeps; None for any other catalog."""
        uri = self.catalog.get("uri", "")
        return uri.removeprefix(_SQLITE) if uri.startswith(_SQLITE) else None

    def on_disk(self) -> str | None:
        """Return the folder of the tables' files, or the file of the catalog; None: neither is."""
        warehouse = self.catalog.get("warehouse", "")
        is_folder = warehouse.startswith(_FOLDER)
        return warehouse.removeprefix(_FOLDER) if is_folder else self.database_file

    def seen_by_nodes(self) -> dict[str, str]:
        """Return the folder of the tables' files and the file of the catalog, where they are."""
        found = {"": self.on_disk(), "'s catalog": self.database_file}
        return {end: path for end, path in found.items() if path is not None}

    @contextmanager
    def opened(self, side: type[HyggeError] = StoreError) -> Iterator[Any]:
        """Open the catalog; raise its errors as `side`, and as Transient where a retry may help."""
        with self.in_words(side):
            check_installed(self.describe())
            catalog = self._loaded()
            try:
                yield catalog
            finally:
                catalog.close()

    def _loaded(self) -> Any:
        import sqlalchemy.exc
        from pyiceberg.catalog import load_catalog

        settings = {**self.catalog, "py-io-impl": FILE_IO}
        name = settings.pop("name", _NAME)
        for left in reversed(range(_TRIES)):
            try:
                return load_catalog(name, **settings)
            except sqlalchemy.exc.SQLAlchemyError as error:
                # Another process made the catalog's own tables at the same moment.
                if "already exists" not in str(error) or not left:
                    raise
            except (ValueError, KeyError) as error:
                raise ConfigError(
                    f"{self.describe()}: the catalog cannot be opened: {_line(error)}",
                    "check the keys under `catalog`: they are those of pyiceberg",
                ) from error
        raise AssertionError("unreachable")

    def load(self, catalog: Any) -> Any | None:
        """Return the table as it is now; None where there is none."""
        from pyiceberg.exceptions import NoSuchNamespaceError, NoSuchTableError

        try:
            return catalog.load_table(self.identifier)
        except (NoSuchTableError, NoSuchNamespaceError):
            return None

    def is_new(self) -> bool:
        """Return whether the catalog is a file that is not there yet: looking must not make it."""
        return self.database_file is not None and not os.path.exists(self.database_file)

    def check_there(self) -> None:
        """Raise SourceMissing where the catalog is a file that is not there."""
        if self.is_new():
            raise SourceMissing(
                f"there is no catalog {self.database_file}",
                hint_for_missing(self.database_file or ""),
            )

    @contextmanager
    def in_words(self, side: type[HyggeError]) -> Iterator[None]:
        """Raise errors of the library, of SQLAlchemy and of the network as errors of hygge."""
        try:
            yield
        except HyggeError:
            raise
        except Exception as error:
            if (translated := explained(error, self.describe(), side)) is None:
                raise
            raise translated from error


@contextmanager
def namespace_there(who: str) -> Iterator[None]:
    """Raise Rejected where the namespace of a table, which `prepare` makes, is gone."""
    from pyiceberg.exceptions import NoSuchNamespaceError

    try:
        yield
    except NoSuchNamespaceError as error:
        raise Rejected(
            f"{who}: its namespace was dropped while this run staged its rows", "run it again"
        ) from error


def check_installed(who: str) -> None:
    """Raise ConfigError where the library is not installed."""
    try:
        import pyiceberg.io.pyarrow  # noqa: F401  # slow to load, and not needed by others
    except ImportError as error:
        raise ConfigError(f"{who}: pyiceberg is not installed", INSTALL) from error


def explained(error: Exception, who: str, side: type[HyggeError]) -> HyggeError | None:
    """Return an error of hygge for one of a catalog or its files; None for any other error."""
    import requests
    import sqlalchemy.exc
    from pyiceberg import exceptions as lib

    said = f"{who}: {_line(error)}"
    if isinstance(error, (lib.UnauthorizedError, lib.ForbiddenError, lib.OAuthError)):
        return side(
            f"{who}: the catalog refuses this user: {_line(error)}",
            "check `credential` or `token` of the catalog, and the user's rights on the table",
        )
    if isinstance(error, (requests.ConnectionError, requests.Timeout)):
        return Transient(
            f"{who}: the catalog does not answer: {_of_network(error)}",
            "check `uri` of the catalog, and that it runs; then run it again",
        )
    lasting = (lib.ServerError, lib.ServiceUnavailableError, lib.TooManyRequestsError)
    if isinstance(error, lasting):
        return Transient(f"{who}: the catalog has failed: {_line(error)}", "run it again")
    if isinstance(error, sqlalchemy.exc.OperationalError) and "locked" in str(error):
        return Transient(f"{who}: the catalog's file is locked by others", "run it again")
    if isinstance(error, sqlalchemy.exc.SQLAlchemyError):
        return side(f"{who}: the catalog's database: {_line(error)}", "check `uri` of the catalog")
    if isinstance(error, FileNotFoundError):
        return side(
            f"{said}; a file of the table is gone", "see what removes files there; run it again"
        )
    if isinstance(error, ValueError) and "hierarchical namespaces" in str(error):
        return side(
            f"{who}: this catalog has namespaces of one part alone",
            "write the table as `namespace.table`",
        )
    if type(error).__name__ == "ValidationError":  # of pyiceberg, or of pydantic below it
        if "Invalid JSON" in str(error):
            return side(
                f"{who}: the newest metadata file of the table is truncated or damaged",
                "put it back, or let the catalog name an older one",
            )
        said = re.sub(r"\s+", " ", str(error))[:_LONGEST]
        return side(
            f"{who}: pyiceberg does not know what the metadata of the table holds: {said}",
            "its format or a type is newer: read it with the engine that wrote it, or install a "
            "pyiceberg that knows it, when hygge takes that one",
        )
    if _is_raised_by_library(error):
        return side(
            f"{who}: a file of its metadata cannot be read: {type(error).__name__}",
            "it is truncated or damaged: put it back, or let the engine that wrote the table roll "
            "it back to a snapshot that is whole",
        )
    known = (lib.RESTError, lib.NotInstalledError, lib.SignError, OSError)
    if isinstance(error, (*known, lib.NoSuchNamespaceError, lib.NoSuchTableError)):
        return side(said, "check the catalog's settings and rights, and those of its warehouse")
    return None


def _is_raised_by_library(error: Exception) -> bool:
    """Return whether a plain error of Python comes from within the library's reading of Avro."""
    frame = error.__traceback__
    while frame is not None and frame.tb_next is not None:
        frame = frame.tb_next
    module = "" if frame is None else frame.tb_frame.f_globals.get("__name__", "")
    return module.startswith("pyiceberg.avro")


def checked_catalog(given: Mapping[str, Any], who: str, root: str = "") -> dict[str, str]:
    """Return the settings of a catalog as texts, with absolute paths below `root`.

    Raises ConfigError for what hygge sets itself, or lacks.
    """
    catalog = {str(key): _text(value) for key, value in given.items()}
    if "py-io-impl" in catalog and catalog["py-io-impl"] != FILE_IO:
        raise ConfigError(
            f"{who}: 'py-io-impl' is {catalog['py-io-impl']}, and hygge reads and writes through "
            "pyarrow",
            "take 'py-io-impl' out",
        )
    if "uri" not in catalog and "type" not in catalog:
        raise ConfigError(f"{who}: 'catalog' says neither 'uri' nor 'type'", _EXAMPLE)
    uri, warehouse = catalog.get("uri", ""), catalog.get("warehouse", "")
    if uri.startswith("sqlite:"):
        path = uri.removeprefix(_SQLITE)
        if not uri.startswith(_SQLITE) or not path:
            raise ConfigError(f"{who}: {uri} names no file", f"{_SQLITE}catalog.db")
        catalog["uri"] = f"{_SQLITE}{os.path.abspath(os.path.join(root, path))}"
        if not warehouse:
            raise ConfigError(
                f"{who}: 'catalog' has no 'warehouse', the folder or prefix of its tables",
                'catalog: {uri: "sqlite:///catalog.db", warehouse: lake}',
            )
    is_rest = uri.startswith(("http://", "https://"))
    if warehouse.startswith(_FOLDER):
        warehouse = warehouse.removeprefix(_FOLDER)
    if warehouse and not is_rest and "://" not in warehouse:
        catalog["warehouse"] = _folder_url(os.path.join(root, warehouse), who)
    return catalog


def checked_table(table: str | None, who: str) -> str:
    """Return the name of a table; raise ConfigError for one without a namespace."""
    if not table:
        raise ConfigError(
            f"{who} knows no table",
            f'table: sales.lines; in Python {who}("sales.lines", {_EXAMPLE})',
        )
    parts = table.split(".")
    if len(parts) < 2 or not all(parts):
        raise ConfigError(
            f"{who}: '{table}' is not a table in a namespace", f"write it as `sales.{parts[-1]}`"
        )
    return table


def _folder_url(path: str, who: str) -> str:
    path = os.path.abspath(path)
    if re.search(r"[?#%]", path):
        raise ConfigError(
            f"{who}: the warehouse {path} has a '?', '#' or '%' in its path, which readers of "
            "Iceberg take for something else",
            "choose another folder",
        )
    return f"{_FOLDER}{path}"


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _of_network(error: Exception) -> str:
    """Return what the system says of a connection; what is around it names no cause."""
    found = re.search(r"\[Errno -?\d+\] ([\w .]+)|(timed out)", str(error))
    return _line(error) if found is None else found[1] or found[2]


def _line(error: Exception) -> str:
    """Return the first line of an error, without secrets."""
    text = str(error).strip() or type(error).__name__
    return without_password(text.split("\n")[0])[:_LONGEST]
