"""Types that users made: enum, domain, composite. A Home describes them, a Store makes them.

The description of a type names it as `format_type` does, and has all that its CREATE statement
needs. Types that it is made of come before it. A type that belongs to an extension, a range and a
base type are described too, so that they can be named; but they are not made.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, NotRequired, TypedDict

from hygge.connectors.postgres import session
from hygge.connectors.postgres.session import literal, quoted

if TYPE_CHECKING:
    from hygge.connectors.postgres.session import AnyConnection

FIRST_USER_OID = 16384
_CREATABLE = ("enum", "domain", "composite")
_KINDS = {"e": "enum", "d": "domain", "c": "composite", "r": "range", "b": "base"}
# A row: the type, its name, schema, kind, the type of its elements if it is an array, base type of
# a domain with its modifier, table of a composite, whether that is a table of people, extension.
_TYPES = """
SELECT t.oid::int8, format_type(t.oid, NULL), n.nspname, t.typtype::text,
  CASE WHEN t.typcategory = 'A' THEN t.typelem::int8 ELSE 0 END, t.typbasetype::int8,
  format_type(nullif(t.typbasetype, 0), t.typtypmod), t.typrelid::int8,
  coalesce(c.relkind <> 'c', false),
  (SELECT e.extname FROM pg_depend d JOIN pg_extension e ON e.oid = d.refobjid
   WHERE d.classid = 'pg_type'::regclass AND d.objid = t.oid AND d.deptype = 'e'
     AND d.refclassid = 'pg_extension'::regclass),
  t.typdefault, t.typnotnull,
  (SELECT quote_ident(l.collname) FROM pg_collation l JOIN pg_type b ON b.oid = t.typbasetype
   WHERE l.oid = t.typcollation AND t.typcollation <> b.typcollation)
FROM pg_type t JOIN pg_namespace n ON n.oid = t.typnamespace
LEFT JOIN pg_class c ON c.oid = t.typrelid
WHERE t.oid = ANY ('{{{oids}}}'::oid[])
"""
_LABELS = "SELECT enumlabel FROM pg_enum WHERE enumtypid = {oid} ORDER BY enumsortorder"
_CHECKS = """
SELECT pg_get_constraintdef(oid) FROM pg_constraint WHERE contypid = {oid} AND contype = 'c'
ORDER BY conname
"""
_FIELDS = """
SELECT a.attname, format_type(a.atttypid, a.atttypmod), a.atttypid::int8,
  CASE WHEN a.attcollation <> t.typcollation THEN quote_ident(l.collname) END
FROM pg_attribute a JOIN pg_type t ON t.oid = a.atttypid
LEFT JOIN pg_collation l ON l.oid = a.attcollation
WHERE a.attrelid = {oid} AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum
"""
_SUBTYPE = """
SELECT format_type(rngsubtype, NULL), rngsubtype::int8 FROM pg_range
WHERE rngtypid = {oid} OR rngmultitypid = {oid}
"""


class MadeType(TypedDict):
    """A type that somebody made, as a Home describes it."""

    name: str
    """As `format_type` writes it."""
    schema: str
    kind: str
    """`enum`, `domain`, `composite`, `range`, or `base`."""
    extension: str | None
    """The extension that it belongs to."""
    creatable: bool
    labels: NotRequired[list[str]]
    fields: NotRequired[list[list[str | None]]]
    """Name, type and collation of each field of a composite."""
    base: NotRequired[str]
    """The type that a domain or a range is made of."""
    rules: NotRequired[list[str]]
    """What stands behind the base type in CREATE DOMAIN."""


def describe(connection: AnyConnection, oids: Iterable[int]) -> dict[int, list[MadeType]]:
    """Return, for each of these types, the made types that it needs: those it is made of first."""
    known: dict[int, list[MadeType]] = {}
    for oid in oids:
        _describe(connection, oid, known)
    return known


def _describe(
    connection: AnyConnection, oid: int, known: dict[int, list[MadeType]]
) -> list[MadeType]:
    if oid in known:
        return known[oid]
    known[oid] = []
    if oid < FIRST_USER_OID:
        return []
    rows = session.fetch_all(connection, _TYPES.format(oids=oid))
    if not rows:
        return []
    (_, name, schema, kind, element, base, base_name, relation, is_table, extension,
     default, not_null, collation) = rows[0]  # fmt: skip
    needed: list[MadeType] = []

    def need(other: int) -> None:
        for made in _describe(connection, other, known):
            if made not in needed:
                needed.append(made)

    if element:
        need(element)
        known[oid] = needed
        return needed
    made: MadeType = {
        "name": name, "schema": schema, "kind": _KINDS.get(kind, "base"), "extension": extension,
        "creatable": extension is None and not is_table,
    }  # fmt: skip
    if kind == "e":
        made["labels"] = [
            label for (label,) in session.fetch_all(connection, _LABELS.format(oid=oid))
        ]
    elif kind == "d":
        need(base)
        rules = [f"COLLATE {collation}"] if collation else []
        rules += [f"DEFAULT {default}"] if default is not None else []
        rules += ["NOT NULL"] if not_null else []
        rules += [check for (check,) in session.fetch_all(connection, _CHECKS.format(oid=oid))]
        made |= {"base": base_name, "rules": rules}
    elif kind == "c":
        fields = session.fetch_all(connection, _FIELDS.format(oid=relation))
        for *_, field_type, _ in fields:
            need(field_type)
        made["fields"] = [
            [field, type_name, collation] for field, type_name, _, collation in fields
        ]
    elif kind in ("r", "m"):
        for subtype, number in session.fetch_all(connection, _SUBTYPE.format(oid=oid)):
            need(number)
            made["base"] = subtype
    if made["kind"] not in _CREATABLE or not all(other["creatable"] for other in needed):
        made["creatable"] = False
    known[oid] = [*needed, made]
    return known[oid]


def is_here(connection: AnyConnection, name: str) -> bool:
    """True if a column here can have a type of this name; the name may have modifiers."""
    import psycopg

    try:
        # to_regtype takes the whole name of one type; anything behind it is an error.
        rows = session.fetch_all(
            connection, "SELECT 1 FROM pg_type WHERE oid = to_regtype(%s) AND typtype <> 'p'", name
        )
    except psycopg.Error as error:
        if (error.sqlstate or "")[:2] in ("42", "22", "0A", "3F"):
            session.driver_connection(connection).rollback()
            return False
        raise
    return bool(rows)


def described_here(connection: AnyConnection, name: str) -> MadeType | None:
    """Return this database's own description of a made type; None if it has none."""
    if not is_here(connection, name):
        return None
    (oid,) = session.fetch_one(connection, "SELECT to_regtype(%s)::oid::int8", name)
    needed = describe(connection, [oid])[oid]
    return needed[-1] if needed else None


def difference(source: MadeType, here: MadeType) -> str:
    """Return how a type of the same name differs, so that values could change; "" if it does not.

    Labels that an enum here lacks are found by the server when a row has one.
    """
    if source["kind"] != here["kind"]:
        return f"is a type of kind {here['kind']}, and of kind {source['kind']} at the source"
    if source.get("base") != here.get("base"):
        return f"is made of {here.get('base')}, and of {source.get('base')} at the source"
    if source.get("fields") != here.get("fields"):
        return f"has the fields {_fields(here)}, and {_fields(source)} at the source"
    return ""


def _fields(made: MadeType) -> str:
    return ", ".join(f"{name} {kind}" for name, kind, _ in made.get("fields") or ()) or "none"


def create_statements(connection: AnyConnection, types: Sequence[MadeType]) -> list[str]:
    """Return the statements that make what is missing of these types, also labels of an enum."""
    statements = []
    for made in types:
        here = described_here(connection, made["name"])
        if here is None and made["creatable"]:
            schema = quoted(made["schema"])
            if made["name"].startswith(f"{schema}.") or made["name"].startswith(
                f"{made['schema']}."
            ):
                statements.append(f"CREATE SCHEMA IF NOT EXISTS {schema}")
            statements.append(_create(made))
        elif here is not None and made["kind"] == here["kind"] == "enum":
            statements += _added_labels(made, here.get("labels") or [])
    return statements


def _create(made: MadeType) -> str:
    if made["kind"] == "enum":
        labels = ", ".join(literal(label).strip() for label in made.get("labels") or ())
        return f"CREATE TYPE {made['name']} AS ENUM ({labels})"
    if made["kind"] == "domain":
        return f"CREATE DOMAIN {made['name']} AS {' '.join([made['base'], *made['rules']])}"
    fields = ", ".join(
        f"{quoted(str(name))} {kind}{f' COLLATE {collation}' if collation else ''}"
        for name, kind, collation in made.get("fields") or ()
    )
    return f"CREATE TYPE {made['name']} AS ({fields})"


def _added_labels(made: MadeType, here: list[str]) -> list[str]:
    """Return the statements that give an enum the labels of the source, in their order."""
    statements, before = [], None
    for label in made.get("labels") or ():
        if label not in here:
            place = f" AFTER {literal(before).strip()}" if before is not None else ""
            statements.append(
                f"ALTER TYPE {made['name']} ADD VALUE IF NOT EXISTS {literal(label).strip()}{place}"
            )
        before = label
    return statements


def closure(types: Mapping[str, MadeType], names: Iterable[str]) -> list[MadeType]:
    """Return the descriptions of these names, in the order in which they are made."""
    wanted = set(names)
    return [made for name, made in types.items() if name in wanted]
