"""Lines that were set aside, read again after the mend.

The lines of one form (the same columns, the same way to write them) become a file, which the format
reads as any other. What is still wrong with one of them is an error.
"""

from __future__ import annotations

import base64
import bisect
import itertools
import json
import os
import re
import tempfile
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pyarrow as pa

from hygge.arrays import texts
from hygge.connectors.files.source_file import with_partitions
from hygge.connectors.files.uniting import filled
from hygge.errors import UnfitValue

_KEYS, _SCHEMA = "partition", "schema"
OpenBad = Callable[[str, dict[str, Any], pa.Schema], Iterator[pa.Table]]


def with_source(table: pa.Table, keys: Mapping[str, str | None], schema: pa.Schema) -> pa.Table:
    """Return bad lines of which each says what rows of the run look like.

    `keys` is what the folders of its file say, `schema` that of the rows.
    """
    text = base64.b64encode(schema.serialize().to_pybytes()).decode()
    forms = [
        json.dumps({**json.loads(form), _KEYS: dict(keys), _SCHEMA: text})
        for form in table["form"].to_pylist()
    ]
    at = table.schema.get_field_index("form")
    return table.set_column(at, table.schema.field(at), texts(forms))


def read(open_bad: OpenBad, rows: pa.Table) -> Iterator[pa.Table]:
    """Yield bad lines as rows of their run. `open_bad` reads a file of lines of one form."""
    for text in rows["form"].unique().to_pylist():
        form = json.loads(text)
        keys = form[_KEYS]
        schema = pa.ipc.read_schema(pa.py_buffer(base64.b64decode(form[_SCHEMA])))
        inside = pa.schema([field for field in schema if field.name not in keys])
        is_of_form = pa.array([other == text for other in rows["form"].to_pylist()])
        lines = rows.filter(is_of_form)
        with tempfile.TemporaryDirectory(prefix="hygge-bad-") as folder:
            path = os.path.join(folder, "rows")
            with open(path, "wb") as file:
                for line in lines["raw"].to_pylist():
                    file.write(_ended(line))
            try:
                for table in open_bad(path, form, inside):
                    full = filled(with_partitions(table, schema, keys), schema)
                    yield full.select(schema.names)
            except UnfitValue as error:
                raise UnfitValue(_placed(error.message, path, lines), error.hint) from error


def _ended(line: bytes) -> bytes:
    return line.rstrip(b"\r\n") + b"\n"


def _placed(message: str, path: str, lines: pa.Table) -> str:
    """Return an error about the file `path`, which holds `lines`, with the place in their source.

    A line that was set aside may hold line ends within quotes.
    """
    sizes = [_ended(line).count(b"\n") for line in lines["raw"].to_pylist()]
    starts = [*itertools.accumulate(sizes, initial=1)][:-1]

    def place(found: re.Match[str]) -> str:
        row = lines.slice(bisect.bisect_right(starts, int(found[1])) - 1, 1).to_pylist()[0]
        return f"{row['file']}, line {row['line']}"

    message = re.sub(re.escape(path) + r", line (\d+)", place, message)
    return message.replace(path, "the lines that were set aside")
