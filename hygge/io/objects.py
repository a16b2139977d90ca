"""A prefix of an object store as a place: S3 and what speaks it, Google, Azure, through obstore.

`s3://bucket/prefix`, `gs://bucket/prefix`, `az://container/prefix`, `abfss://container@account…`.
Credentials come from where these services' own tools find them in the environment: AWS_*, with
AWS_ENDPOINT_URL for everything that speaks S3 (http:// where it says so); GOOGLE_*; AZURE_*.

An object appears whole, in one moment, when its last byte was taken; `create` is a put under the
condition that there is none (If-None-Match: *). Its answer may get lost: then the put is sent
again, and a refusal is settled by reading back. That takes contents which no two callers share.

obstore's threads do not survive a fork: fork before the first verb, or not at all.
"""

from __future__ import annotations

import os
import random
import re
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from hygge.errors import ConfigError, HyggeError, Transient, one_of, without_password
from hygge.model import MIB

SCHEMES = ("s3", "s3a", "gs", "az", "abfs", "abfss")
_TRIES = 6
_CHUNK = 8 * MIB
_CHUNKS_AT_ONCE = 4
_RETRY = {
    "max_retries": 5,
    "retry_timeout": timedelta(seconds=60),
    "backoff": {"max_backoff": timedelta(seconds=5)},
}
_URL = re.compile(r"(?P<scheme>[A-Za-z][\w+.-]*)://(?P<host>[^/]*)/?(?P<prefix>.*)", re.DOTALL)
_HIDDEN = ".tmp-"
_CREDENTIALS = {
    "s3": "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY (with AWS_SESSION_TOKEN, AWS_REGION and "
    "AWS_ENDPOINT_URL where they are needed); profiles in ~/.aws are not read",
    "gs": "GOOGLE_SERVICE_ACCOUNT or GOOGLE_APPLICATION_CREDENTIALS, the path of a key file",
    "az": "AZURE_STORAGE_ACCOUNT_NAME with AZURE_STORAGE_ACCOUNT_KEY, a SAS token or a principal",
}


@dataclass(frozen=True)
class Entry:
    """What a listing tells of an object; the time is that of the object store's clock."""

    size: int
    modified: datetime
    tag: str = ""
    """What changes with the content (ETag); empty where the object store has none."""


class Bucket:
    """`Bucket("s3://lake/hygge")`; the verbs are those of `hygge.io.places.Place`."""

    def __init__(self, url: str) -> None:
        found = _URL.fullmatch(url)
        scheme = found["scheme"].lower() if found else ""
        if found is None or scheme not in SCHEMES:
            raise ConfigError(
                f"{without_password(url)} is no object store that hygge knows",
                one_of("schemes", scheme, [f"{each}://" for each in SCHEMES]),
            )
        host, prefix = found["host"], found["prefix"].strip("/")
        if not host or ":" in host or ("@" in host and not scheme.startswith("abfs")):
            raise ConfigError(
                f"{scheme}:// needs a bucket and a prefix, and nothing else, in its URL",
                f"{scheme}://bucket/prefix; credentials are taken from {_credentials(scheme)}",
            )
        self.root = f"{scheme}://{host}"
        self.prefix = f"{prefix}/" if prefix else ""
        self._clients: dict[bool, Any] = {}

    def __getstate__(self) -> dict[str, Any]:
        # Threads and credentials stay where they are.
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

    def create(self, key: str, content: bytes) -> bool:
        doubtful = False
        for left in reversed(range(_TRIES)):
            try:
                with self._words(key):
                    self._client(once=True).put(self._path(key), content, mode="create")
                return True
            except _Exists:
                there = self.get(key)
                if there is not None:
                    return doubtful and there == content
                # Refused, and yet none is there: another put was under way in that moment.
            except Transient:
                doubtful = True
                if not left:
                    raise
            time.sleep(random.uniform(0.5, 1) * 0.1 * 2 ** (_TRIES - 1 - left))
        raise Transient(
            f"{self.describe()}/{key} was refused {_TRIES} times although nothing is there",
            "run it again; if it stays so, the object store does not keep to its own rules",
        )

    def put(self, key: str, content: bytes) -> None:
        with self._words(key):
            self._client().put(self._path(key), content)

    def get(self, key: str) -> bytes | None:
        with self._words(key):
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
        """Remove just these; some may be gone already."""
        gone = [self._path(key) for key in keys]
        with self._words(keys[0] if keys else ""):
            try:
                if gone:
                    self._client().delete(gone)
            except FileNotFoundError as error:  # Google and Azure do not delete what is gone
                _refuse_missing_bucket(error)
                for path in gone:
                    with suppress(FileNotFoundError):
                        self._client().delete(path)

    def entries(self, below: str) -> dict[str, Entry]:
        """Everything below a key, hidden or not, in order."""
        with self._words(below):
            top = self._path(below).rstrip("/")
            pages = self._client().list(top or None)
            found = {
                each["path"].removeprefix(self.prefix): _entry(each)
                for page in pages
                for each in page
            }
        return dict(sorted(found.items()))

    def entry(self, key: str) -> Entry | None:
        """One object, or None where there is none."""
        with self._words(key):
            try:
                return _entry(self._client().head(self._path(key)))
            except FileNotFoundError as error:
                _refuse_missing_bucket(error)
                return None

    def part(self, key: str, start: int, end: int, tag: str) -> bytes | None:
        """Bytes [start, end) of an object; None where it is gone, or no longer has this `tag`."""
        options: Any = {"range": (start, end), **({"if_match": tag} if tag else {})}
        with self._words(key):
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
        """A local file as an object, in several requests where it is large; whole or not at all."""
        with self._words(key):
            self._client().put(
                self._path(key), Path(path), chunk_size=_CHUNK, max_concurrency=_CHUNKS_AT_ONCE
            )

    def copy(self, source: str, target: str) -> bool:
        """One object as another, by the object store itself; False where there is no `source`."""
        with self._words(source):
            try:
                self._client().copy(self._path(source), self._path(target))
            except FileNotFoundError as error:
                _refuse_missing_bucket(error)
                return False
        return True

    def _path(self, key: str) -> str:
        return f"{self.prefix}{key}"

    def _client(self, once: bool = False) -> Any:
        """The client; `once`: one that sends nothing again by itself."""
        if once not in self._clients:
            try:
                from obstore.store import from_url
            except ImportError:
                raise ConfigError(
                    f"{self.describe()} needs the package obstore",
                    "pip install 'hygge-data[objects]'",
                ) from None
            options: Any = {"timeout": timedelta(seconds=120), "allow_http": _plain_http()}
            retry: Any = {**_RETRY, "max_retries": 0} if once else _RETRY
            with self._words(""):
                self._clients[once] = from_url(
                    self.root, client_options=options, retry_config=retry
                )
        return self._clients[once]

    @contextmanager
    def _words(self, key: str) -> Iterator[None]:
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
        # Without its cause: obstore's texts show whole URLs, and those may be signed.
        raise problem from None

    def _problem(self, key: str, error: Exception) -> HyggeError:
        """What a refusal of the object store means, in words and without its URL."""
        text = str(error)
        place = f"{self.describe()}/{key}" if key else self.describe()
        said = _first(r"status code: (\d{3} [A-Za-z ]+)", text)
        code = _first(r"<Code>([^<]+)</Code>", text)
        words = _first(r"<Message>([^<]+)</Message>", text) or _first(r'"message": "([^"]+)', text)
        told = ": ".join(part for part in (" ".join(filter(None, (said[:3], code))), words) if part)
        if said.startswith("404") or code in ("NoSuchBucket", "ContainerNotFound"):
            return HyggeError(
                f"there is no bucket {self.root} ({told})",
                "create it, or correct the URL (and AWS_ENDPOINT_URL, where it is elsewhere)",
            )
        if "token request" in text or "InstanceProfile" in text or "must be specified" in text:
            return HyggeError(
                f"there are no credentials for {self.root}",
                f"set {_credentials(self.root)}",
            )
        if said.startswith(("401", "403")):
            return HyggeError(
                f"{place} may not be read or written ({told})",
                f"check the permissions of the bucket, and {_credentials(self.root)}",
            )
        if said.startswith(("301", "307")) or "redirect without LOCATION" in text:
            return HyggeError(f"{self.root} is in another region", "set AWS_REGION")
        if said.startswith(("429", "5", "408")):
            return Transient(
                f"{place}: the object store is throttling or down ({told})",
                "wait a little and run it again; with fewer lanes it is asked less often",
            )
        if "HTTP error" in text or "error sending request" in text or "timed out" in text:
            return Transient(
                f"{self.root} cannot be reached{_endpoint()}",
                "check the network and the endpoint (AWS_ENDPOINT_URL), then run it again",
            )
        line = re.sub(r"https?://\S+", "its URL", text.strip().split("\n")[0])
        return HyggeError(
            f"{place}: {told or without_password(line)}", "see what the object store says about it"
        )


def _entry(told: Any) -> Entry:
    return Entry(told["size"], told["last_modified"], told.get("e_tag") or "")


class _Exists(HyggeError):
    """A conditional put was refused."""


def _refuse_missing_bucket(error: Exception) -> None:
    """A missing bucket is no missing key, though both are 404."""
    if re.search("<Code>NoSuchBucket|ContainerNotFound|bucket does not exist", str(error)):
        raise error


def _credentials(url: str) -> str:
    return _CREDENTIALS.get("s3" if url.startswith("s3") else url[:2], _CREDENTIALS["az"])


def _endpoint() -> str:
    names = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT")
    given = next((os.environ[name] for name in names if os.environ.get(name)), "")
    return f" at {without_password(given)}" if given else ""


def _plain_http() -> bool:
    return _endpoint().startswith(" at http://")


def _first(pattern: str, text: str) -> str:
    found = re.search(pattern, text)
    return unquote(found[1]).strip() if found else ""
