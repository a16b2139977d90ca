"""Finds the rows that differ between two sides, by the hashes of their keys and values."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hygge.coordinator.verify.hashes import Hashes, Side


@dataclass(frozen=True)
class Difference:
    """The hashes of the keys that differ. Each array has a key once."""

    lost: Hashes
    """Keys of the source that the store lacks, or has less often."""
    doubled: Hashes
    """Keys that the store has more often than the source, which has them too, or than it may."""
    extra: Hashes
    """Keys that only the store has."""
    changed: Hashes
    """Keys that both sides have equally often, with other values."""

    def keys(self) -> Hashes:
        """Return all of them."""
        return np.concatenate([self.lost, self.doubled, self.extra, self.changed])


def compare(source: Side, store: Side, is_unique: bool = False) -> Difference:
    """Return which keys differ. Both sides must have kept their rows.

    `is_unique`: the store may have a key once only, whether the source has it or not.
    """
    here, there = _per_key(source), _per_key(store)
    keys = np.union1d(here.keys, there.keys)
    count_here, sum_here = here.at(keys)
    count_there, sum_there = there.at(keys)
    doubled = (count_there > count_here) & ((count_here > 0) | (is_unique & (count_there > 1)))
    return Difference(
        lost=keys[count_here > count_there],
        doubled=keys[doubled],
        extra=keys[(count_here == 0) & ~doubled],
        changed=keys[(count_here == count_there) & (sum_here != sum_there)],
    )


@dataclass(frozen=True)
class _PerKey:
    keys: Hashes
    """Sorted, each once."""
    counts: np.ndarray[tuple[int], np.dtype[np.int64]]
    sums: Hashes

    def at(self, wanted: Hashes) -> tuple[np.ndarray[tuple[int], np.dtype[np.int64]], Hashes]:
        """Return rows and sum of each wanted key, which are sorted and hold all of `keys`."""
        counts, sums = np.zeros(len(wanted), np.int64), np.zeros(len(wanted), np.uint64)
        places = np.searchsorted(wanted, self.keys)
        counts[places], sums[places] = self.counts, self.sums
        return counts, sums


def _per_key(side: Side) -> _PerKey:
    keys, rows = side.arrays()
    order = np.argsort(keys, kind="stable")
    keys, rows = keys[order], rows[order]
    unique, first, counts = np.unique(keys, return_index=True, return_counts=True)
    sums = np.add.reduceat(rows, first) if len(keys) else rows
    return _PerKey(unique, counts.astype(np.int64), sums)
