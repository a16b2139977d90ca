"""A prefix of an object store as a place: S3 and what speaks it, Google, Azure, through obstore.

`s3://bucket/prefix`, `gs://bucket/prefix`, `az://container/prefix`, `abfss://container@account…`.
How it is reached, and with which credentials: see `hygge/places/access.py`.

An object appears whole, at once, when its last byte has been received. `create` is a put on the
condition that there is none (If-None-Match: *). Its answer may get lost: then the put is sent
again, and if that is refused, the object is read back and compared. For that, no two callers may
create the same content.

obstore's threads do not survive a fork: fork before the first verb, or not at all.
"""

from __future__ import annotations

import random
import re
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from hygge.errors import ConfigError, HyggeError, Transient, one_of, without_password
from hygge.model import MIB
from hygge.open_connections import current, interruptible
from hygge.places import refusals
from hygge.places.access import SCHEMES, Access, check, client, credentials, service

if TYPE_CHECKING:
    from obstore import GetOptions, ObjectMeta
    from obstore.store import ObjectStore

_TRIES = 6
_CHUNK = 8 * MIB
_CHUNKS_AT_ONCE = 4
_COPY_S = 600.0
_URL = re.compile(r"(?P<scheme>[A-Za-z][\w+.-]*)://(?P<host>[^/]*)/?(?P<prefix>.*)", re.DOTALL)
_HIDDEN = ".tmp-"


@dataclass(frozen=True)
class Entry:
    """An object in a listing; the time is by the object store's clock."""

    size: int
    modified: datetime
    tag: str = ""
    """The ETag, which changes with the content; empty where the object store has none."""


class Bucket:
    """`Bucket("s3://lake/hygge")`; the verbs are those of `hygge.places.place.Place`."""

    at_once = 32

    def __init__(self, url: str, access: Access | None = None) -> None:
        parts = _URL.fullmatch(url)
        scheme = parts["scheme"].lower() if parts else ""
        if parts is None or scheme not in SCHEMES:
            raise ConfigError(
                f"{without_password(url)} is no object store that hygge knows",
                one_of("schemes", scheme, [f"{known}://" for known in SCHEMES]),
            )
        host, prefix = parts["host"], parts["prefix"].strip("/")
        if not host or ":" in host or ("@" in host and not scheme.startswith("abfs")):
            raise ConfigError(
                f"{scheme}:// needs a bucket and a prefix, and nothing else, in its URL",
                f"{scheme}://bucket/prefix; credentials are taken from {credentials(url)}, or "
                "stand in a connection",
            )
        if access is not None:
            check(url, access)
        self.root = f"{scheme}://{host}"
        self.prefix = f"{prefix}/" if prefix else ""
        self.access = access
        self._clients: dict[bool, ObjectStore] = {}

    def __getstate__(self) -> dict[str, Any]:
        # Threads, and credentials of the environment, stay in their process.
        return {**self.__dict__, "_clients": {}}

    def describe(self) -> str:
        return f"{self.root}/{self.prefix}".rstrip("/")

    def check(self) -> None:
        key = f"{_HIDDEN}check-{uuid.uuid4().hex[:12]}"
        try:
            if not self.create(key, b"1") or self.create(key, b"2"):
                raise HyggeError(
                    f"{self.describe()} lets two runs create the same object: its endpoint passes "
                    "over the condition of a put (If-None-Match)",
                    "use an object store that knows conditional puts, or `state:` on a disk",
                )
        finally:
            self.remove(key)

    def check_rights(self) -> None:
        self.check()

    def create(self, key: str, content: bytes) -> bool:
        may_be_ours = False  # after a put whose answer was lost
        for attempt in range(_TRIES):
            try:
                with self._explained(key):
                    self._client(once=True).put(self._path(key), content, mode="create")
                return True
            except _Exists:
                present = self.get(key)
                if present is not None:
                    return may_be_ours and present == content
                # Refused although there is none: another put was under way at that moment.
            except Transient:
                may_be_ours = True
                if attempt == _TRIES - 1:
                    raise
            time.sleep(random.uniform(0.5, 1) * 0.1 * 2**attempt)
        raise Transient(
            f"{self.describe()}/{key} was refused {_TRIES} times although nothing is there",
            "run it again; if it stays so, the object store does not keep to its own rules",
        )

    def put(self, key: str, content: bytes) -> None:
        with self._explained(key):
            self._client().put(self._path(key), content)

    def get(self, key: str) -> bytes | None:
        with self._explained(key):
            try:
                return bytes(self._client().get(self._path(key)).bytes())
            except FileNotFoundError as error:
                _refuse_missing_bucket(error)
                return None

    def keys(self, below: str) -> list[str]:
        return [
            key for key in self.entries(below) if not key.rpartition("/")[2].startswith(_HIDDEN)
        ]

    def remove(self, below: str) -> None:
        self.drop([key for key in (*self.entries(below), below) if key])

    def drop(self, keys: Sequence[str]) -> None:
        """Remove these keys and no others; some may be gone already."""
        paths = [self._path(key) for key in keys]
        with self._explained(keys[0] if keys else ""):
            try:
                if paths:
                    self._client().delete(paths)
            except FileNotFoundError as error:  # Google and Azure do not delete what is gone
                _refuse_missing_bucket(error)
                for path in paths:
                    with suppress(FileNotFoundError):
                        self._client().delete(path)

    def entries(self, below: str) -> dict[str, Entry]:
        """Return every object below a key, hidden or not, sorted by key."""
        with self._explained(below):
            top = self._path(below).rstrip("/")
            pages = self._client().list(top or None)
            entries = {
                item["path"].removeprefix(self.prefix): _entry(item)
                for page in pages
                for item in page
            }
        return dict(sorted(entries.items()))

    def names(self, below: str) -> list[str]:
        """Return the names of the objects and prefixes just below a key."""
        with self._explained(below):
            top = self._path(below).rstrip("/")
            listing = self._client().list_with_delimiter(top or None)
        paths = [*listing["common_prefixes"], *(item["path"] for item in listing["objects"])]
        return sorted({path.rpartition("/")[2] for path in paths})

    def entry(self, key: str) -> Entry | None:
        """Return one object's entry, or None where there is none."""
        with self._explained(key):
            try:
                return _entry(self._client().head(self._path(key)))
            except FileNotFoundError as error:
                _refuse_missing_bucket(error)
                return None

    def part(self, key: str, start: int, end: int, tag: str) -> bytes | None:
        """Read bytes [start, end) of an object; None where it is gone, or has another `tag` now."""
        options: GetOptions = {"range": (start, end)}
        if tag:
            options["if_match"] = tag
        with self._explained(key):
            try:
                return bytes(self._client().get(self._path(key), options=options).bytes())
            except FileNotFoundError as error:
                _refuse_missing_bucket(error)
                return None
            except Exception as error:
                if type(error).__name__ == "PreconditionError":
                    return None
                raise

    def upload(self, key: str, path: str) -> None:
        """Upload a local file, in several requests where it is large; whole or not at all.

        A process that is killed meanwhile leaves parts that no listing shows, and that cost money:
        a lifecycle rule of the bucket removes them (AbortIncompleteMultipartUpload, 1–2 days).
        """
        with self._explained(key):
            self._client().put(
                self._path(key), Path(path), chunk_size=_CHUNK, max_concurrency=_CHUNKS_AT_ONCE
            )

    def copy(self, source: str, target: str, size: int) -> bool:
        """Let the object store copy an object of `size` bytes, and wait until it has.

        False where there is no `source`. Raises Transient where it takes too long.
        """
        copies_later = service(self.root) == "az"
        with self._explained(source):
            try:
                self._client().copy(self._path(source), self._path(target))
            except FileNotFoundError as error:
                _refuse_missing_bucket(error)
                return False
            except Exception as error:
                # Azure's 409: another copy of the same object to there is on its way.
                if not copies_later or type(error).__name__ != "AlreadyExistsError":
                    raise
        if copies_later:
            self._wait_for_copy(target, size)
        return True

    def _wait_for_copy(self, target: str, size: int) -> None:
        """Wait for a copy that Azure only accepted (202): until it is done, the blob is empty."""
        deadline, pause = time.monotonic() + _COPY_S, 0.05
        while (entry := self.entry(target)) is not None and entry.size != size:
            if time.monotonic() > deadline:
                raise Transient(
                    f"{self.describe()}/{target} is still being copied after {_COPY_S:.0f} s: "
                    f"{entry.size:,} of {size:,} bytes are shown",
                    "run it again: what is staged is kept, and shown then",
                )
            time.sleep(pause)
            pause = min(2 * pause, 5)

    def _path(self, key: str) -> str:
        return f"{self.prefix}{key}"

    def _client(self, once: bool = False) -> ObjectStore:
        """Return the client; with `once`, one that does not retry by itself.

        Where this thread's call is watched, its requests end when the call is given up.
        """
        own = self._own_client(once)
        return own if current() is None else cast("ObjectStore", _Interruptible(own))

    def _own_client(self, once: bool) -> ObjectStore:
        if once not in self._clients:
            try:
                with self._explained(""):
                    self._clients[once] = client(self.root, self.access, once)
            except ImportError:
                raise ConfigError(
                    f"{self.describe()} needs the package obstore", "pip install obstore"
                ) from None
        return self._clients[once]

    @contextmanager
    def _explained(self, key: str) -> Iterator[None]:
        """Turn errors of obstore into HyggeErrors."""
        try:
            yield
        except HyggeError:
            raise
        except (FileNotFoundError, ValueError) as error:
            problem = self._problem(key, error)
        except Exception as error:
            if not type(error).__module__.startswith("obstore"):
                raise
            if type(error).__name__ == "AlreadyExistsError":
                problem = _Exists(f"{self.describe()}/{key} is there already")
            else:
                problem = self._problem(key, error)
        else:
            return
        # Without its cause: obstore's messages show whole URLs, which may be signed.
        raise problem from None

    def _problem(self, key: str, error: Exception) -> HyggeError:
        url = f"{self.describe()}/{key}" if key else self.describe()
        return refusals.problem(self.root, url, error, self.access)


class _Interruptible:
    """A client whose requests, and the reading of their answers, can be given up."""

    def __init__(self, own: Any) -> None:
        self._own = own

    def __getattr__(self, name: str) -> Any:
        verb = getattr(self._own, name)

        def request(*values: Any, **named: Any) -> Any:
            answer = interruptible(lambda: verb(*values, **named))
            if name == "list":
                return interruptible(lambda: list(answer))
            return _Interruptible(answer) if name == "get" else answer

        return request


def _entry(item: ObjectMeta) -> Entry:
    tag = item.get("e_tag") or ""
    if tag and not tag.endswith('"'):  # Azure's listings leave its quotes out
        tag = f'"{tag}"'
    return Entry(item["size"], item["last_modified"], tag)


class _Exists(HyggeError):
    """A conditional put was refused."""


def _refuse_missing_bucket(error: Exception) -> None:
    if refusals.is_missing_bucket(error):
        raise error
