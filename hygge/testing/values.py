"""Values that connectors often lose, one array for each Arrow type, and an exact comparison.

`every_type()` names each array by the text of its type. Where a type has several arrays, the name
goes on with what the array holds: a connector that keeps `string` but not the character NUL
declares `lossy=("string holding NUL",)`. Every array contains a NULL.
"""

from __future__ import annotations

import math
import struct
from collections import Counter
from collections.abc import Hashable, Iterable, Iterator
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Any

import pyarrow as pa

from hygge.batches import widens
from hygge.type_words import words_of

_UNITS = ("s", "ms", "us", "ns")
_TEXTS = [
    "",
    None,
    "plain",
    "007",
    " both ends ",
    "NULL",
    "null",
    "NaN",
    "true",
    "1e5",
    "2024-01-01",
    "house 🏡, family 👩‍👩‍👧, e\u0301",
    "two\nlines",
    "mac\rwin\r\ntab\t",
    "quote \" and ' and ` and ,;|",
    "back\\slash \\N \\n \\",
    '{"a": [1]}',
    "%s ${HOME} {x}",
    "zero\u200bwidth\ufeff",
    "\x1b\x7f",
]
_LARGE = Decimal(f"{'9' * 28}.{'9' * 10}")


def every_type() -> dict[str, pa.Array[Any]]:
    """Return name → array. First come the types that must be exact wherever they exist."""
    return {**_must_be_exact(), **_numbers(), **_times(), **_nested()}


def table_of(array: pa.Array[Any]) -> pa.Table:
    """Return a table to move: `n` numbers the rows, `v` holds the values."""
    return pa.table({"n": pa.array(range(len(array)), pa.int64()), "v": array})


def is_lossy(name: str, kind: pa.DataType, lossy: Iterable[str]) -> bool:
    """Return whether `lossy` names this array, by a prefix of its name or of its type's text."""
    return any(name.startswith(prefix) or str(kind).startswith(prefix) for prefix in lossy)


def same(came: pa.Table, sent: pa.Table) -> bool:
    """Return whether `came` holds the rows of `sent`, in any order; see `difference`."""
    return difference(came, sent) is None


def difference(came: pa.Table | None, sent: pa.Table) -> str | None:
    """Return how `came` differs from `sent`, in words; None where every value survived.

    NaN equals NaN; -0.0, 0.0, NULL and '' are four values. The order of rows does not matter. A
    type that holds every value of the sent one (large_string for string, int64 for int32, a finer
    unit) is as good.
    """
    if came is None:
        return f"nothing is there; {sent.num_rows} rows were expected"
    if sorted(came.column_names) != sorted(sent.column_names):
        return f"columns are {came.column_names}, not {sent.column_names}"
    columns = []
    for name in sent.column_names:
        kind, sent_kind = came.schema.field(name).type, sent.schema.field(name).type
        words = words_of(kind, sent_kind)
        if not _holds(kind, sent_kind):
            return f"column '{name}' came as {words[0]}, not {words[1]}"
        try:
            columns.append(came.column(name).cast(sent_kind))
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
            return f"column '{name}' came as {words[0]}, which does not become {words[1]}: {error}"
    got = Counter(_rows(columns))
    wanted = Counter(_rows([sent.column(name) for name in sent.column_names]))
    if got == wanted:
        return None
    lost, more = list((wanted - got).elements()), list((got - wanted).elements())
    return (
        f"{came.num_rows} rows came, {sent.num_rows} were expected; {len(lost)} are missing"
        f"{_shown(lost)}, {len(more)} are there too often or changed{_shown(more)}"
    )


def _shown(rows: list[tuple[Hashable, ...]]) -> str:
    return f" ({', '.join(repr(row)[:200] for row in rows[:3])})" if rows else ""


def _holds(kind: Any, sent: Any) -> bool:
    """Return whether the type `kind` holds every value of the type `sent`."""
    t: Any = pa.types
    if kind == sent or widens(sent, kind):
        return True
    if t.is_date(sent) and t.is_date(kind):
        return True  # both count days
    if t.is_fixed_size_binary(sent) and widens(kind, pa.binary()):
        return True
    if t.is_fixed_size_list(sent) and (t.is_list(kind) or t.is_large_list(kind)):
        return _holds(kind.value_type, sent.value_type)
    lists = t.is_list(sent) or t.is_large_list(sent)
    if lists and (t.is_list(kind) or t.is_large_list(kind)):
        return _holds(kind.value_type, sent.value_type)
    for same_kind in (t.is_timestamp, t.is_duration, t.is_time):
        if same_kind(sent) and same_kind(kind):
            zones = getattr(sent, "tz", None) == getattr(kind, "tz", None)
            return bool(zones and _UNITS.index(kind.unit) >= _UNITS.index(sent.unit))
    if t.is_struct(sent) and t.is_struct(kind) and sent.num_fields == kind.num_fields:
        pairs = [(kind.field(i), sent.field(i)) for i in range(sent.num_fields)]
        return all(one.name == two.name and _holds(one.type, two.type) for one, two in pairs)
    if t.is_map(sent) and t.is_map(kind):
        return _holds(kind.key_type, sent.key_type) and _holds(kind.item_type, sent.item_type)
    return False


def _rows(columns: list[pa.ChunkedArray[Any]]) -> Iterator[tuple[Hashable, ...]]:
    return zip(*[[_token(value) for value in column] for column in columns], strict=True)


def _token(scalar: Any) -> Hashable:
    """Return a value that is equal for two scalars of one type exactly where they hold the same."""
    if not scalar.is_valid:
        return None
    kind: Any = scalar.type
    t: Any = pa.types
    if t.is_floating(kind):
        number = float(scalar.as_py())
        return "NaN" if math.isnan(number) else struct.pack(">d", number)
    if t.is_map(kind) or t.is_list(kind) or t.is_large_list(kind) or t.is_fixed_size_list(kind):
        return tuple(_token(item) for item in scalar.values)
    if t.is_struct(kind):
        return tuple(_token(scalar[at]) for at in range(kind.num_fields))
    if t.is_temporal(kind) and not t.is_interval(kind):
        return ("at", scalar.value)
    value: Hashable = scalar.as_py()
    return value


def _must_be_exact() -> dict[str, pa.Array[Any]]:
    first, last = datetime(1, 1, 1, tzinfo=UTC), datetime(9999, 12, 31, 23, 59, 59, 999999, UTC)
    # The two moments that were 02:30 in Berlin on that day, one in summer, one before 1970.
    moments = [
        datetime(2024, 10, 27, 0, 30, tzinfo=UTC),
        datetime(2024, 10, 27, 1, 30, tzinfo=UTC),
        None,
        datetime(2024, 7, 1, 12, 0, 0, 1, UTC),
        datetime(1969, 12, 31, 23, 59, 59, 999999, UTC),
    ]
    inside_berlin = [datetime(1, 1, 2, tzinfo=UTC), datetime(9999, 12, 31, 12, tzinfo=UTC)]
    naive = [
        first.replace(tzinfo=None),
        None,
        last.replace(tzinfo=None),
        datetime(2024, 3, 31, 2, 30),
    ]
    return {
        "decimal128(38, 10)": pa.array(
            [_LARGE, _LARGE.copy_negate(), Decimal("0"), Decimal("-1E-10"), Decimal("1.10"), None],
            pa.decimal128(38, 10),
        ),
        "timestamp[us, tz=UTC]": pa.array([*moments, first, last], pa.timestamp("us", "UTC")),
        "timestamp[us, tz=Europe/Berlin]": pa.array(
            [*moments, *inside_berlin], pa.timestamp("us", "Europe/Berlin")
        ),
        "timestamp[us]": pa.array(naive, pa.timestamp("us")),
        "date32[day]": pa.array(
            [date(1, 1, 1), date(9999, 12, 31), date(1970, 1, 1), date(1582, 10, 10), None],
            pa.date32(),
        ),
        "uint64": pa.array([0, 2**63, 2**64 - 1, 2**53 + 1, None], pa.uint64()),
        "int64": pa.array([-(2**63), 2**63 - 1, 2**53 + 1, 0, None], pa.int64()),
        "binary": pa.array(
            [bytes(range(256)), b"", b"\0", None, b"\xff\xfe", b"text"], pa.binary()
        ),
        "double": pa.array(
            [0.1, -0.0, 0.0, 5e-324, 1.7976931348623157e308, 1e22, None], pa.float64()
        ),
        "double holding NaN and infinities": pa.array(
            [math.nan, math.inf, -math.inf, 1.0, None], pa.float64()
        ),
        "string": pa.array(_TEXTS, pa.string()),
        "string holding NUL": pa.array(["a\0b", "\0", "", None], pa.string()),
        "large_string": pa.array([*_TEXTS, "x" * 70_000], pa.large_string()),
        "bool": pa.array([True, False, None], pa.bool_()),
        "time64[us]": pa.array(
            [time(0), time(23, 59, 59, 999999), None, time(1, 2, 3)], pa.time64("us")
        ),
    }


def _numbers() -> dict[str, pa.Array[Any]]:
    arrays: dict[str, pa.Array[Any]] = {}
    for bits, signed, unsigned in (
        (8, pa.int8(), pa.uint8()),
        (16, pa.int16(), pa.uint16()),
        (32, pa.int32(), pa.uint32()),
    ):
        half = 2 ** (bits - 1)
        arrays[str(signed)] = pa.array([-half, half - 1, 0, None], signed)
        arrays[str(unsigned)] = pa.array([0, 2 * half - 1, half, None], unsigned)
    huge = Decimal(f"{'9' * 56}.{'9' * 20}")
    arrays |= {
        "float": pa.array(
            [0.5, -0.0, math.nan, math.inf, 3.4028234663852886e38, None], pa.float32()
        ),
        "halffloat": pa.array([0.5, -0.0, 65504.0, None], pa.float16()),
        "decimal128(38, 0)": pa.array(
            [Decimal(10**38 - 1), Decimal(1 - 10**38), None], pa.decimal128(38, 0)
        ),
        "decimal128(9, 2)": pa.array(
            [Decimal("9999999.99"), Decimal("-0.01"), None], pa.decimal128(9, 2)
        ),
        "decimal256(76, 20)": pa.array([huge, huge.copy_negate(), None], pa.decimal256(76, 20)),
        "fixed_size_binary[4]": pa.array([b"\0\1\2\3", b"\xff" * 4, None], pa.binary(4)),
        "large_binary": pa.array([bytes(range(256)), b"", None, b"\0" * 70_000], pa.large_binary()),
    }
    return arrays


def _times() -> dict[str, pa.Array[Any]]:
    arrays: dict[str, pa.Array[Any]] = {}
    arrow: Any = pa  # its stubs accept a unit only as a literal
    for unit in _UNITS:
        per_s: int = 1000 ** _UNITS.index(unit)
        counts = [0, -1, 1_700_000_000 * per_s + 1, None]
        for kind in (arrow.timestamp(unit), arrow.timestamp(unit, "UTC"), arrow.duration(unit)):
            if str(kind) not in ("timestamp[us]", "timestamp[us, tz=UTC]"):
                arrays[str(kind)] = pa.array(counts, pa.int64()).cast(kind)
    plus_two = pa.timestamp("us", "+02:00")
    long = timedelta(days=40_000, microseconds=1)
    arrays |= {
        str(plus_two): pa.array([0, None, 1_700_000_000_000_001], pa.int64()).cast(plus_two),
        "duration[us]": pa.array([long, -long, timedelta(0), None], pa.duration("us")),
        "date64[ms]": pa.array([date(1, 1, 1), date(9999, 12, 31), None], pa.date64()),
        "time32[s]": pa.array([time(0), time(23, 59, 59), None], pa.time32("s")),
        "time32[ms]": pa.array([time(0), time(23, 59, 59, 999000), None], pa.time32("ms")),
        "time64[ns]": pa.array([0, 86_399_999_999_999, None], pa.int64()).cast(pa.time64("ns")),
    }
    return arrays


def _nested() -> dict[str, pa.Array[Any]]:
    pair = pa.struct([("a", pa.int64()), ("b", pa.string())])
    price = pa.decimal128(38, 10)
    kinds: list[tuple[Any, list[Any]]] = [
        (pa.list_(pa.int64()), [[1, None, -(2**63)], [], None]),
        (pa.list_(pa.string()), [["", None, "a,b", "{}"], [], None]),
        (pa.list_(price), [[_LARGE, None], [], None]),
        (pa.list_(pa.list_(pa.int32())), [[[1], [], None], [], None]),
        (pa.large_list(pa.string()), [["x", None], [], None]),
        (pa.list_(pa.float64(), 2), [[-0.0, math.nan], None, [1.0, None]]),
        (pair, [{"a": 1, "b": ""}, {"a": None, "b": None}, None]),
        (pa.list_(pair), [[{"a": 1, "b": "x"}, None], [], None]),
        (
            pa.struct([("t", pa.timestamp("us", "UTC")), ("d", price)]),
            [{"t": datetime(9999, 1, 1, tzinfo=UTC), "d": _LARGE}, None],
        ),
        (pa.map_(pa.string(), pa.int64()), [[("a", 1), ("", None)], [], None]),
    ]
    return {str(kind): pa.array(values, kind) for kind, values in kinds}
