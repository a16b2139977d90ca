"""The files of rows that were set aside, beside the journal:

    bad/<flow>/<run>/<split>-<epoch>-<n>.parquet    of one try at a split, before its receipt
    bad/<flow>/<run>/refused-<name>.parquet         of one try at the commit, before it commits
    bad/<flow>/<run>.parquet                        of a run that is committed
    bad/<flow>/<run>.replayed                       evidence: they were moved again

`hygge bad` lists those of the second kind that were not moved again. They stay until somebody
removes them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pyarrow as pa

from hygge.bad_rows import as_parquet, first_of, from_parquet
from hygge.errors import JournalError
from hygge.model import Receipt, Run, Ticket
from hygge.places.names import file_name
from hygge.places.place import Place

_SUFFIX, _REPLAYED = ".parquet", ".replayed"


def flows_with_bad_rows(place: Place, replayed: bool = False) -> Iterator[tuple[str, list[str]]]:
    """Yield each flow with bad rows of committed runs, and the ids of these runs, newest first.

    `replayed`: those that were moved again are among them.
    """
    runs_of: dict[str, list[str]] = {}
    keys = place.keys("bad")
    done = set() if replayed else {key.removesuffix(_REPLAYED) for key in keys}
    for key in keys:
        parts = key.split("/")
        is_open = key.removesuffix(_SUFFIX) not in done
        if len(parts) == 3 and key.endswith(_SUFFIX) and is_open:
            runs_of.setdefault(parts[1], []).append(parts[2].removesuffix(_SUFFIX))
    for folder, runs in sorted(runs_of.items()):
        content = place.get(f"bad/{folder}/{runs[0]}{_SUFFIX}")
        if content is not None:
            flow = _parsed(content, f"bad/{folder}/{runs[0]}{_SUFFIX}")["flow"][0].as_py()
            yield flow, sorted(runs, reverse=True)


def _parsed(content: bytes, where: str) -> pa.Table:
    try:
        return from_parquet(content)
    except (pa.ArrowException, OSError, ValueError, KeyError) as error:
        raise JournalError(
            f"{where} holds no bad rows as hygge wrote them: {error}",
            "restore it from a backup, or remove it",
        ) from error


class BadFiles:
    """The bad rows of the flow `flow`, which lie at `place`."""

    def __init__(self, place: Place, flow: str) -> None:
        self.place = place
        self.top = f"bad/{file_name(flow)}"

    def stage(self, receipt: Receipt) -> None:
        """Write the bad rows that a receipt carries. Called before the receipt is kept."""
        if receipt.bad_rows is not None:
            self.place.put(self._ticket_key(receipt.ticket), receipt.bad_rows)

    def keep_refused(self, run: Run, name: str, content: bytes) -> None:
        """Write the rows that the Store refuses in a commit. Called before it commits."""
        self.place.put(self._refused_key(run.id, name), content)

    def has_all(self, receipt: Receipt) -> bool:
        """Return whether the bad rows that a kept receipt counts are there."""
        return not receipt.set_aside or self.place.get(self._ticket_key(receipt.ticket)) is not None

    def first(self, receipts: Sequence[Receipt]) -> str:
        """Return a sentence about the first bad row of these tries; "" where there is none."""
        for receipt in receipts:
            content = (
                self.place.get(self._ticket_key(receipt.ticket)) if receipt.set_aside else None
            )
            if content is not None:
                return first_of([from_parquet(content)])
        return ""

    def show(
        self, run: Run, receipts: Sequence[Receipt], aside: Mapping[str, Any] | None = None
    ) -> str:
        """Make the bad rows of a committed run one file; safe twice, and in two drivers at once.

        `receipts` are those of its decision, `aside` is that of its head. Returns a sentence about
        rows that are gone, or "".
        """
        found = [
            (self._ticket_key(receipt.ticket), receipt.set_aside)
            for receipt in receipts
            if receipt.set_aside
        ]
        if aside is not None:
            found.append((self._refused_key(run.id, aside["file"]), aside["rows"]))
        tables = []
        missing = 0
        for key, rows in found:
            content = self.place.get(key)
            if content is None:
                missing += rows
            else:
                tables.append(from_parquet(content))
        if missing and self.place.get(self._key(run.id)) is not None:
            missing, tables = 0, []  # an earlier driver got that far
        if tables:
            self.place.put(self._key(run.id), as_parquet(pa.concat_tables(tables)))
        self.drop(run)
        if not missing:
            return ""
        return f"{missing:,} rows that were set aside are not at {self.describe(run.id)}"

    def drop(self, run: Run) -> None:
        """Remove what tries at the splits of a run have left; safe twice."""
        self.place.remove(f"{self.top}/{run.id}")

    def note_replay(self, run: str, by: str) -> None:
        """Note that the bad rows of a run were moved again, by another run."""
        self.place.put(f"{self.top}/{run}{_REPLAYED}", f"{by}\n".encode())

    def read(self, run: str) -> pa.Table:
        """Return the bad rows of a committed run. Raises JournalError where they are damaged."""
        content = self.place.get(self._key(run))
        if content is None:
            raise JournalError(
                f"there are no bad rows of the run {run} at {self.describe(run)}",
                "`hygge bad flows.yml` lists the runs that have some",
            )
        return _parsed(content, self.describe(run))

    def describe(self, run: str) -> str:
        """Return where the bad rows of a run are, for people."""
        return f"{self.place.describe().rstrip('/')}/{self._key(run)}"

    def _key(self, run: str) -> str:
        return f"{self.top}/{run}{_SUFFIX}"

    def _refused_key(self, run: str, name: str) -> str:
        return f"{self.top}/{run}/refused-{name}{_SUFFIX}"

    def _ticket_key(self, ticket: Ticket) -> str:
        return f"{self.top}/{ticket.run}/{ticket.split:06d}-{ticket.epoch}-{ticket.n}{_SUFFIX}"
