"""`mask`: values that must not leave the house become a keyed hash, their last characters, or NULL.

A hash is HMAC-SHA-256 in 64 hexadecimal digits, of the UTF-8 bytes of a text, of the bytes of a
binary value, or of the digits of a whole number. Its key stays the same over runs, so that the same
value always has the same hash, and joins on it go on. NULL stays NULL.
"""

from __future__ import annotations

import hashlib
from binascii import hexlify
from collections.abc import Mapping
from dataclasses import dataclass, field

import pyarrow as pa

from hygge.errors import ConfigError
from hygge.shape.settings import KEY_VARIABLE, KeepLast, Shape, Way, missing
from hygge.shape.step import Reading
from hygge.type_words import word_of

_BLOCK_BYTES, _HEX_DIGITS = 64, 64
_LEAST_KEY_BYTES = 16
_SAMPLE = 1_000
"""Values that tell whether a batch has most of its values more than once."""
_AT_ONCE = 4_096
"""Values whose hashes are made one after the other: they stay in the processor's cache."""


@dataclass(frozen=True)
class Mask:
    """The step that masks columns."""

    schema: pa.Schema
    ways: Mapping[str, Way]
    key: str | None = field(repr=False)

    def apply(self, table: pa.Table, reading: Reading) -> pa.Table:
        columns = [
            self._masked(name, column) if name in self.ways else column
            for name, column in zip(table.column_names, table.columns, strict=True)
        ]
        return pa.Table.from_arrays(columns, schema=self.schema)

    def _masked(self, name: str, column: pa.ChunkedArray) -> pa.ChunkedArray:
        way = self.ways[name]
        if isinstance(way, KeepLast):
            chunks = [_last_characters(chunk, way.keep_last) for chunk in column.chunks]
        elif way == "null":
            chunks = [pa.nulls(len(chunk), column.type) for chunk in column.chunks]
        else:
            assert self.key is not None  # `mask` has checked it
            chunks = [_hashes(chunk, self.key.encode()) for chunk in column.chunks]
        return pa.chunked_array(chunks, self.schema.field(name).type)


def mask(shape: Shape, source: pa.Schema, who: str) -> Mask:
    """Return the step for rows of `source`; raise for a column or a type that cannot be masked."""
    ways = {}
    fields = list(source)
    for name, way in (shape.mask or {}).items():
        index = source.get_field_index(name)
        if index < 0:
            if shape.must_have(name):
                raise missing(f"{who}: 'mask'", name, source.names)
            continue
        ways[name] = way
        fields[index] = _field(source.field(index), way, who)
    if "hash" in ways.values() and len((shape.mask_key or "").encode()) < _LEAST_KEY_BYTES:
        said = "too short" if shape.mask_key else "not set"
        raise ConfigError(
            f"{who}: `mask: hash` needs a key of at least {_LEAST_KEY_BYTES} bytes, and "
            f"{KEY_VARIABLE} is {said}",
            f"put {KEY_VARIABLE} into the environment, or into .env beside the file, and keep it: "
            "with another key the same values get other hashes (openssl rand -hex 32 makes one)",
        )
    return Mask(pa.schema(fields, source.metadata), ways, shape.mask_key)


def _field(column: pa.Field, way: Way, who: str) -> pa.Field:
    kind, t = column.type, pa.types
    is_text = t.is_string(kind) or t.is_large_string(kind)
    is_binary = t.is_binary(kind) or t.is_large_binary(kind) or t.is_fixed_size_binary(kind)
    if way == "null":
        return column.with_nullable(True)
    if is_text or (way == "hash" and (is_binary or t.is_integer(kind))):
        return column.remove_metadata().with_type(pa.string() if way == "hash" else kind)
    shown = "hash" if way == "hash" else "keep_last"
    raise ConfigError(
        f"{who}: column '{column.name}' is {word_of(kind)}, which `{shown}` cannot mask",
        'mask it as `"null"`, leave it out with `exclude`, or give it `type: string` in `columns`',
    )


def _hashes(chunk: pa.Array, key: bytes) -> pa.Array:
    """Return the HMAC-SHA-256 of each value as text."""
    import pyarrow.compute as pc

    if 2 * pc.count_distinct(chunk.slice(0, _SAMPLE)).as_py() < min(len(chunk), _SAMPLE):
        encoded = chunk.dictionary_encode()  # each value is hashed once
        return _each_hash(encoded.dictionary, key).take(encoded.indices)
    return _each_hash(chunk, key)


def _each_hash(chunk: pa.Array, key: bytes) -> pa.Array:
    import numpy as np
    import pyarrow.compute as pc

    if pa.types.is_integer(chunk.type):
        chunk = chunk.cast(pa.string())
    sha256 = hashlib.sha256
    if len(key) > _BLOCK_BYTES:
        key = sha256(key).digest()
    key = key.ljust(_BLOCK_BYTES, b"\0")
    # By hand, as RFC 2104 has it, and each key hashed once: `hmac` takes twice the time.
    inner = sha256(bytes(byte ^ 0x36 for byte in key))
    outer = sha256(bytes(byte ^ 0x5C for byte in key))
    values = chunk.cast(pa.large_binary())
    if values.null_count:
        values = pc.fill_null(values, b"")
    text = bytearray()
    for start in range(0, len(values), _AT_ONCE):
        digests = []
        for value in values.slice(start, _AT_ONCE).to_pylist():
            within = inner.copy()
            within.update(value)
            around = outer.copy()
            around.update(within.digest())
            digests.append(around.digest())
        text += hexlify(b"".join(digests))
    ends = np.arange(0, _HEX_DIGITS * (len(chunk) + 1), _HEX_DIGITS, dtype=np.int32)
    hashes = pa.StringArray.from_buffers(len(chunk), pa.py_buffer(ends), pa.py_buffer(text))
    if chunk.null_count == 0:
        return hashes
    return pc.if_else(chunk.is_valid(), hashes, pa.scalar(None, pa.string()))


def _last_characters(chunk: pa.Array, count: int) -> pa.Array:
    """Return texts with `*` for all but the last `count` characters; for all of a short one."""
    import pyarrow.compute as pc

    lengths = pc.utf8_length(chunk)
    is_long = pc.greater(lengths, count)
    stars = pc.binary_repeat(
        pa.scalar("*", chunk.type), pc.if_else(is_long, pc.subtract(lengths, count), lengths)
    )
    empty = pa.scalar("", chunk.type)
    tail = (
        pc.utf8_slice_codeunits(chunk, -count, None) if count else pc.if_else(is_long, empty, empty)
    )
    kept = pc.if_else(is_long, tail, empty)
    return pc.binary_join_element_wise(stars, kept, empty)
