"""Whether a type of PostgreSQL holds every value of another one unchanged.

Types are given as `format_type` writes them. What a column of the target does with a value is its
own business: `numeric(5,1)` rounds, `name` cuts, `char(n)` adds blanks, `real[]` rounds each
element; none of that is an error of the server. So a column takes its own type and modifier, or a
narrower one. Texts from elsewhere are also read by types that keep every digit of them.
"""

from __future__ import annotations

import re
from typing import NamedTuple

_FORM = re.compile(
    r"(?P<name>[^()]*?)(?:\((?P<modifiers>-?\d+(?:,-?\d+)*)\))?(?P<tail> with(?:out)? time zone)?"
    r"(?P<array>\[\])?"
)
_DIGITS = {"smallint": 5, "integer": 10, "bigint": 19}
_WIDER = {
    "smallint": ("integer", "bigint", "real", "double precision"),
    "integer": ("bigint", "double precision"),
    "oid": ("bigint",),
    "real": ("double precision",),
    "cidr": ("inet",),
}
_LENGTHS = {"name": 63, '"char"': 1}
"""Types whose texts have at most so many characters."""
_MOST_DIGITS = 6
"""Digits of a second that times have where no modifier says fewer."""
_TIMED = ("time", "timestamp", "interval")
_LOSSY = (
    "time without time zone", "time with time zone", "timestamp without time zone",
    "timestamp with time zone", "interval", "date", "money", "name", '"char"', "oid", "real",
    "double precision", "point", "line", "lseg", "box", "path", "polygon", "circle", "tsrange",
    "tstzrange", "daterange", "tsmultirange", "tstzmultirange", "datemultirange",
)  # fmt: skip
"""Types that may round or cut a text which they read."""
_OF_ARROW = ("boolean", "smallint", "integer", "bigint", "bytea")
"""Types that Arrow has, too: a text is none of these."""

_READ_IN_MANY_WAYS = (
    "bytea", "bit", "bit varying", "cidr", "macaddr8", "tsvector", "tsquery", "xid", "cid",
    "regclass", "regcollation", "regconfig", "regdictionary", "regnamespace", "regoper",
    "regoperator", "regproc", "regprocedure", "regrole", "regtype",
)  # fmt: skip
"""Types that read a text as something else, such as `b` for the bytes of a `b`, or padded."""


class Form(NamedTuple):
    """A type in its parts: `numeric(5,1)[]`."""

    name: str
    modifiers: tuple[int, ...] = ()
    is_array: bool = False

    @property
    def digits(self) -> int:
        """The digits of a second, for a type that has some."""
        return self.modifiers[0] if self.modifiers else _MOST_DIGITS


def form_of(written: str) -> Form:
    """Return a type in its parts; one that is written otherwise is all name."""
    match = _FORM.fullmatch(written)
    if match is None or '"' in written.removeprefix('"char"'):
        return Form(written)
    modifiers = tuple(int(number) for number in (match["modifiers"] or "").split(",") if number)
    return Form(match["name"] + (match["tail"] or ""), modifiers, bool(match["array"]))


def widens(source: str, target: str) -> bool:
    """True if a column of the type `target` keeps every value of `source`, as INSERT casts it."""
    if source == target:
        return True
    one, two = form_of(source), form_of(target)
    if one.is_array != two.is_array:
        return False
    if one.name == two.name:
        return _has_room(one, two)
    if one.name in _DIGITS and two.name == "numeric":
        return not two.modifiers or two.modifiers[0] - two.modifiers[1] >= _DIGITS[one.name]
    if two.name.rpartition(".")[2] in ("text", "citext", "character varying"):
        length = _LENGTHS.get(one.name)
        if one.name == "character varying":
            length = one.modifiers[0] if one.modifiers else None
        elif one.name != "text" and length is None:
            return False
        return not two.modifiers or (length is not None and length <= two.modifiers[0])
    if one.name == "bit" and two.name == "bit varying":
        return not two.modifiers or (bool(one.modifiers) and one.modifiers[0] <= two.modifiers[0])
    if one.name.startswith("interval ") and two.name == "interval":
        return one.digits <= two.digits
    if not two.modifiers and one.name.startswith(f"{two.name}("):  # geometry(Point,4326)
        return True
    return two.name in _WIDER.get(one.name, ())


def _has_room(one: Form, two: Form) -> bool:
    """True if a type with the modifiers of `two` keeps all values of the same type `one`."""
    if one.modifiers == two.modifiers:
        return True
    if one.name.startswith(_TIMED):
        return one.digits <= two.digits
    if one.name in ("character", "bit"):  # blanks would be added, bits are an error
        return False
    if not two.modifiers:
        return True
    if not one.modifiers:
        return False
    if one.name == "numeric":
        (precision, scale), (most, most_scale) = one.modifiers, two.modifiers
        return most_scale >= scale and most - most_scale >= precision - scale
    if one.name in ("character varying", "bit varying"):
        return one.modifiers[0] <= two.modifiers[0]
    return False


def reads_texts(target: str) -> bool:
    """True if a text that the type takes is kept with all its digits, whatever wrote it.

    How long a text may be in `character varying(n)`, and what the types of `own_text_cast` read, is
    looked at value by value.
    """
    form = form_of(target)
    if form.name == "numeric":
        return not form.modifiers
    if form.name in ("character varying", "character"):
        return not form.is_array or not form.modifiers
    if form.name == "bit varying":
        return True
    if form.name in _OF_ARROW and not form.is_array:
        return False
    return form.name not in _LOSSY and not form.name.startswith("interval ")


def own_text_cast(target: str) -> str | None:
    """Return the cast by which to find texts that a type reads as something else.

    The type keeps the texts that it writes itself. None for types that read a text in one way.
    """
    form = form_of(target)
    if form.name not in _READ_IN_MANY_WAYS:
        return None
    name = "bit varying" if form.name == "bit" else form.name  # a cast to `bit` cuts
    return f"{name}[]" if form.is_array else name
