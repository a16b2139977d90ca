"""Where and how a Store of Iceberg writes, as its settings say it."""

from __future__ import annotations

from dataclasses import dataclass

from hygge.connectors.iceberg.lake import Lake
from hygge.connectors.iceberg.partitions import Part
from hygge.formats.parquet import ParquetSettings
from hygge.model import Contract


@dataclass(frozen=True)
class Goal:
    """Where and how a Store writes."""

    lake: Lake
    parts: tuple[Part, ...] | None
    """The fields of `partition_by`; None: it is not given."""
    contract: Contract | None
    written_as: ParquetSettings
    file_bytes: int
