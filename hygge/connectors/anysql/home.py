"""Read any database through SQLAlchemy Core and a streaming cursor.

One split is read in one SELECT, so it shows one state; with a cursor that SELECT also asks for the
upper bound, which may be later than the plan's. With `split_by` the ranges are read independently:
each row is as of the read of its split, and the plan says so.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from hygge.batches import reached_table
from hygge.connectors.anysql.cursor import (
    Reached,
    at,
    conditions,
    escaped,
    holds_texts,
    inheritors,
    remembers,
    source_of,
    typed,
    upper_bound,
)
from hygge.connectors.anysql.mysql_columns import exact, kind_of, marked, refuse_floats
from hygge.connectors.anysql.session import connected
from hygge.connectors.anysql.values import decode, refuse_infinity
from hygge.connectors.sql import splits as sql_splits
from hygge.connectors.sql.ask import Ask, column_groups, pack, unpack
from hygge.connectors.sql.connection import split_name
from hygge.connectors.sql.errors import missing_column, missing_table
from hygge.connectors.sql.ties import Ties
from hygge.connectors.sql.types import arrow_for, from_json, to_json
from hygge.errors import ConfigError, HomeError
from hygge.model import Column, Plan, Split, Watermark
from hygge.type_words import word_of

NEEDS: tuple[str, ...] = ("numpy",)
"""Modules that the processes of a Home import, beside this one."""

if TYPE_CHECKING:
    import sqlalchemy as sa
    from sqlalchemy.engine.interfaces import ReflectedColumn

_BUFFERED_ROWS = 2000


@contextmanager
def planned(ask: Ask, since: Watermark) -> Iterator[Plan]:
    """Plan a run: schema, watermark, ranges. Nothing is held afterwards."""
    with _reading(ask) as connection:
        plan = _learn(connection, ask, since)
    yield plan


def read(ask: Ask, split: Split) -> Iterator[pa.Table]:
    """The rows of one split, in batches of the plan's schema."""
    where = split.where
    with _reading(ask) as connection:
        if "schema" not in where:
            yield from _guessed(connection, ask)
            return
        select = _Select(connection, ask, where)
        ties = None
        if ask.remembers_ties and "boundary" in where:
            ties = Ties(ask, where["since"], select.schema)
        if ask.cursor is not None and "key" not in where:
            yield from select.with_upper_bound(ties)
            return
        yield from select.of_range()
        if ties is not None:
            yield from select.boundary(ties)


class _Select:
    """The SELECTs of one split."""

    def __init__(self, connection: sa.Connection, ask: Ask, where: dict[str, Any]) -> None:
        import sqlalchemy as sa

        self.connection, self.ask, self.where = connection, ask, where
        self.schema, texts = unpack(where["schema"]), set(where["texts"])
        self.kinds = unpack(where["types"])
        self.dialect = connection.dialect.name
        self.chosen = []
        for name in self.schema.names:
            column = exact(sa.column(name), self.kinds.field(name))
            column = sa.cast(column, sa.Text) if name in texts else column
            self.chosen.append(column.label(name))

    def with_upper_bound(self, ties: Ties | None) -> Iterator[pa.Table]:
        """Yield the rows beyond the watermark, and at the end what they reach, in one SELECT."""
        ask, since = self.ask, self.where["since"]
        reached = Reached(ask, since, self.where["is_text"])
        reads_ties = ask.reads_ties if ties is None else ties.reads_since
        filters = conditions(ask, self.kinds, self.dialect, since, None, reads_ties)
        chosen = [*self.chosen]
        if ties is not None:
            chosen += reached.marks(self.kinds, self.dialect, self.where["upper"])
        chosen.append(reached.column(self.connection, self.kinds))
        for columns in self._columns(chosen, filters):
            reached.add(columns.pop())
            marks = [] if ties is None else [columns.pop(-2), columns.pop()]
            table = self._table(columns)
            if ties is not None:
                table = ties.keep(table, *_are_set(marks))
            yield table
            del table
        if ties is not None:
            yield ties.end(reached.upper)
        else:
            yield reached_table(self.schema, {"watermark": reached.upper})

    def of_range(self) -> Iterator[pa.Table]:
        """Yield the rows of a range of `split_by`; of all rows, if there is none."""
        where, kinds = self.where, self.kinds
        bounds = (where.get("since"), where.get("upper"))
        leaves_upper = where.get("leaves_upper", False)
        filters = conditions(
            self.ask, kinds, self.dialect, *bounds, self.ask.reads_ties, leaves_upper
        )
        if "key" in where:
            low, high = (
                from_json(where[end], kinds.field(where["key"]).type) for end in ("low", "high")
            )
            ranged = _between(typed(where["key"], kinds, self.dialect), low, high)
            filters += [] if ranged is None else [ranged]
        return self._tables(filters)

    def boundary(self, ties: Ties) -> Iterator[pa.Table]:
        """Yield the rows at the watermarks, which the ranges leave out."""
        upper = self.where["upper"]
        if ties.reads_since:
            yield from ties.at_since(self._at(ties.since, None))
        if self.where["leaves_upper"]:
            yield from ties.at_upper(self._at(upper, ties.since))
        elif upper != ties.since:
            ties.forget_upper()
        yield ties.end(upper)

    def _at(self, value: Watermark, since: Watermark) -> Iterator[pa.Table]:
        return self._tables(at(self.ask, self.kinds, self.dialect, value, since))

    def _tables(self, filters: Sequence[Any]) -> Iterator[pa.Table]:
        for columns in self._columns(self.chosen, filters):
            yield self._table(columns)

    def _table(self, columns: list[list[Any]]) -> pa.Table:
        arrays = [
            decode(values, field.type, self.ask.who, field.name)
            for values, field in zip(columns, self.schema, strict=True)
        ]
        columns.clear()
        return pa.Table.from_arrays(arrays, schema=self.schema)

    def _columns(self, chosen: Sequence[Any], filters: Sequence[Any]) -> Iterator[list[list[Any]]]:
        import sqlalchemy as sa

        options = self.ask.options
        source = source_of(self.connection, self.ask, self.kinds.names)
        statement = sa.select(*chosen).select_from(source).where(*filters)
        streaming = self.connection.execution_options(
            stream_results=True, max_row_buffer=min(options.batch_size, _BUFFERED_ROWS)
        )
        # Closed here: SQLAlchemy forgets the cursor of a connection that broke.
        with closing(streaming.execute(statement)) as result:
            yield from column_groups(result.fetchmany, options)


def _are_set(marks: Sequence[Sequence[Any]]) -> list[list[bool]]:
    return [[mark is not None for mark in marked] for marked in marks]


@contextmanager
def _reading(ask: Ask) -> Iterator[sa.Connection]:
    """Open a connection in a read-only transaction of one state, where the dialect has that."""
    options: dict[str, Any] = {}
    if ask.url.startswith("postgresql"):
        options = {"isolation_level": "REPEATABLE READ", "postgresql_readonly": True}
    with connected(ask.url, ask.who, HomeError, **options) as connection:
        yield connection


def _guessed(connection: sa.Connection, ask: Ask) -> Iterator[pa.Table]:
    """Read a query, whose column types the driver does not name, by the types of its values."""
    import sqlalchemy as sa

    streaming = connection.execution_options(stream_results=True)
    with closing(streaming.execute(sa.text(escaped(ask.query or "")))) as result:
        yield from _typed_by_values(result, connection, ask)


def _typed_by_values(
    result: sa.CursorResult[Any], connection: sa.Connection, ask: Ask
) -> Iterator[pa.Table]:
    names = list(result.keys())
    if result.cursor is not None:
        refuse_floats(connection.dialect.name, result.cursor.description, ask.who)
    _check_once(names, ask)
    for columns in column_groups(result.fetchmany, ask.options):
        arrays = []
        for name, values in zip(names, columns, strict=True):
            stated = ask.stated.get(name)
            refuse_infinity(values, ask.who, name)
            array = decode(values, stated, ask.who, name) if stated else pa.array(values)
            if stated is None and pa.types.is_decimal(array.type):
                raise ConfigError(
                    f"{ask.who}: nobody says how precise column '{name}' is",
                    f'state it: options: {{types: {{{name}: "decimal(38,10)"}}}}',
                )
            arrays.append(array)
        yield pa.Table.from_arrays(arrays, names=names)


def _learn(connection: sa.Connection, ask: Ask, since: Watermark) -> Plan:
    if ask.query is not None:
        if ask.columns or ask.cursor or ask.split_by or ask.where:
            raise ConfigError(
                f"{ask.who}: this driver does not name the types of a query, so columns, where, "
                "cursor and split_by cannot be used beside it",
                "write them into the query, or make it a view",
            )
        return Plan(None, (Split(0, ""),), reason="one split: a query")
    everything, texts, kinds, primary = _catalog(connection, ask)
    by_name = {column.name: column for column in everything}
    for name in ask.named:
        if name not in by_name:
            raise missing_column(ask.who, name, list(by_name))
    chosen = ask.chosen(by_name)
    schema = pa.schema([pa.field(c.name, c.type, c.nullable) for c in chosen])
    native = "" if ask.cursor is None else (by_name[ask.cursor].native or "").upper()
    if native in ("UUID", "UNIQUEIDENTIFIER"):
        raise ConfigError(
            f"{ask.who}: cursor '{ask.cursor}' is a {native.lower()}, which databases sort in ways "
            "of their own",
            "use a column that only grows, a timestamp for example",
        )
    if native == "TIME" and connection.dialect.name in ("mysql", "mariadb"):
        raise ConfigError(
            f"{ask.who}: cursor '{ask.cursor}' is a time, and those of MySQL go beyond a day",
            "use a column that only grows, a timestamp for example",
        )
    upper, notes = upper_bound(connection, ask, kinds, texts, since)
    base: dict[str, Any] = {
        "schema": pack(schema),
        "types": pack(kinds),
        "texts": sorted(texts & set(schema.names)),
    }
    if ask.cursor:
        is_text = holds_texts(ask, kinds, texts)
        base |= {"since": since, "upper": upper, "is_text": is_text}
        base["leaves_upper"] = remembers(connection, ask, kinds, since, upper)
    bounds: list[Any] = []
    if ask.split_by is None:
        notes.insert(0, "one split, of one state: name `split_by` to read ranges side by side")
    else:
        bounds = _bounds(connection, ask, kinds, since, upper)
        notes.insert(
            0,
            f"{len(bounds) + 1} splits by {ask.split_by}: each row is as of its split's read, "
            "since no state is shared",
        )
    splits = []
    for index, part in enumerate(sql_splits.ranges([to_json(bound) for bound in bounds])):
        where = {**base, **part, "key": ask.split_by} if bounds else base
        splits.append(Split(index, "", where, sql_splits.label(part, ask.split_by or "")))
    if ask.remembers_ties:
        notes += Ties(ask, since, schema).notes
        splits[0] = replace(splits[0], where={**splits[0].where, "boundary": True})
    return Plan(tuple(chosen), tuple(splits), primary, watermark=upper, reason="; ".join(notes))


def _catalog(
    connection: sa.Connection, ask: Ask
) -> tuple[list[Column], set[str], pa.Schema, tuple[str, ...]]:
    """The columns, the names of those read as text, how each is read, and the primary key."""
    reflected, primary = reflect(connection, ask.table or "", ask.who)
    # Tables that inherit may do without the NOT NULL of their parent.
    is_checked = ask.only or not inheritors(connection, ask)
    columns, texts, kinds = [], set(), []
    dialect = connection.dialect.name
    for column in reflected:
        name = column["name"]
        kind, as_text = arrow_for(column["type"], dialect)
        if (better := kind_of(column["type"], dialect)) is not None:
            kind = better
        stated = ask.stated.get(name)
        if stated is not None:
            as_text = stated == pa.string() and (as_text or kind != pa.string())
            kind = stated
        if as_text:
            texts.add(name)
        kinds.append(marked(pa.field(name, kind), column["type"], dialect))
        columns.append(
            Column(
                name,
                kind,
                str(column["type"]),
                nullable=not is_checked or column.get("nullable", True),
                collation=getattr(column["type"], "collation", None),
            )
        )
    return columns, texts, pa.schema(kinds), primary


def reflect(
    connection: sa.Connection, table: str, who: str
) -> tuple[list[ReflectedColumn], tuple[str, ...]]:
    """The columns of a table or view as SQLAlchemy reflects them, and its primary key.

    Raises SourceMissing if there is none of this name.
    """
    import sqlalchemy as sa

    schema, name = split_name(table)
    inspector = sa.inspect(connection)
    if not inspector.has_table(name, schema=schema):
        known = [*inspector.get_table_names(schema), *inspector.get_view_names(schema)]
        raise missing_table(who, name, [each for each in known if not each.startswith("_hygge_")])
    primary = inspector.get_pk_constraint(name, schema).get("constrained_columns") or ()
    with warnings.catch_warnings():
        # Of types that SQLAlchemy does not know it says so, and gives NullType.
        warnings.filterwarnings("ignore", "Did not recognize type", sa.exc.SAWarning)
        return list(inspector.get_columns(name, schema)), tuple(primary)


def _check_once(names: list[str], ask: Ask) -> None:
    again = sorted({name for name in names if names.count(name) > 1})
    if again:
        raise HomeError(
            f"{ask.who}: the query gives more than one column named '{again[0]}'",
            "name each one: SELECT a.id AS a_id, b.id AS b_id",
        )


def _between(column: Any, low: Any, high: Any) -> Any:
    import sqlalchemy as sa

    if low is None:
        return None if high is None else sa.or_(column < high, column.is_(None))
    return column >= low if high is None else sa.and_(column >= low, column < high)


def _bounds(
    connection: sa.Connection, ask: Ask, kinds: pa.Schema, since: Watermark, upper: Watermark
) -> list[Any]:
    """The inner bounds of the ranges of `split_by`, in the order of the database."""
    import sqlalchemy as sa

    t: Any = pa.types
    assert ask.split_by is not None  # asked only then
    dialect = connection.dialect.name
    kind = kinds.field(ask.split_by).type
    column = typed(ask.split_by, kinds, dialect)
    whole = t.is_integer(kind)
    if not (whole or t.is_date(kind) or t.is_timestamp(kind) or kind == pa.string()):
        raise ConfigError(
            f"{ask.who}: split_by '{ask.split_by}' is {word_of(kind)}",
            "split by an integer, date, timestamp or text column",
        )

    def over(*what: Any) -> Any:
        found = (
            sa.select(*what)
            .select_from(source_of(connection, ask, kinds.names))
            .where(column.is_not(None))
        )
        for condition in conditions(ask, kinds, dialect, since, upper, ask.reads_ties):
            found = found.where(condition)
        return found

    rows, low, high = connection.execute(
        over(sa.func.count(), sa.func.min(column), sa.func.max(column))
    ).one()
    count = sql_splits.how_many(ask.options.splits, rows, 0)
    if count < 2 or rows < 2:
        return []
    if whole and sql_splits.dense(int(low), int(high), rows):
        return sql_splits.even(int(low), int(high), count)
    number = sa.func.row_number().over(order_by=column).label("n")
    numbered = over(column.label("k"), number).subquery()
    at = sql_splits.places(rows, count)
    picked = sa.select(numbered.c.k).where(numbered.c.n.in_(at)).order_by(numbered.c.n)
    found = [bound for (bound,) in connection.execute(picked)]
    refuse_infinity(found, ask.who, ask.split_by)
    return sql_splits.bounds_of(found)
