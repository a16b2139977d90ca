"""Forms in which people write numbers, dates and timestamps, beside the plain ones.

`Forms` holds what was stated: the sign before decimals, the sign between thousands, the formats of
dates and timestamps. It turns texts of these forms into the plain form that `text_values` converts.
A text has one meaning: what has the stated form means that, and a number in another form is none
(with `decimal: ","`, 1.5 is no number). Dates and timestamps in ISO form are read beside a stated
format that they do not have.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property

import pyarrow as pa

from hygge.formats import text_values
from hygge.formats.text_values import ArrowColumn

_MONTHS = ("january", "february", "march", "april", "may", "june", "july", "august",
           "september", "october", "november", "december")  # fmt: skip
_SHORT = tuple(month[:3] for month in _MONTHS)
_DIRECTIVES = {
    "Y": r"\d{4}", "y": r"\d{2}", "m": r"\d{1,2}", "d": r"\d{1,2}", "H": r"\d{1,2}",
    "I": r"\d{1,2}", "M": r"\d{1,2}", "S": r"\d{1,2}", "f": r"\d{1,9}", "p": "(?i:AM|PM)",
    "b": f"(?i:{'|'.join(_SHORT)})", "B": f"(?i:{'|'.join(_MONTHS)})",
    "z": r"(?:Z|[+-]\d{2}(?::?\d{2})?)",
}  # fmt: skip
_SHORTHANDS = {"%T": "%H:%M:%S", "%F": "%Y-%m-%d", "%D": "%m/%d/%y", "%R": "%H:%M"}
_OF_TIME = set("HIMSfpz")


@dataclass(frozen=True)
class TimeFormat:
    """A format of dates or timestamps, such as %d.%m.%Y."""

    text: str

    @cached_property
    def pattern(self) -> str:
        """The regular expression of the format, with a group for each directive."""
        pattern, names = "", []
        parts = re.split("(%.)", self._long)
        for index, part in enumerate(parts):
            if not re.fullmatch("%.", part):
                pattern += re.escape(part)
                continue
            name = part[1]
            if name == "%":
                pattern += "%"
                continue
            inner = _DIRECTIVES[name]
            neighbours = (parts[index - 1] or parts[max(0, index - 2)] if index > 1 else "",
                          parts[index + 1] or "".join(parts[index + 2 : index + 3]))  # fmt: skip
            if any(re.fullmatch("%[a-zA-Z]", each) for each in neighbours):
                inner = inner.replace("{1,2}", "{2}")  # %Y%m%d has nothing between
            pattern += f"(?P<{name}>{inner})"
            names.append(name)
        return f"^(?:{pattern})$"

    @property
    def _long(self) -> str:
        long = self.text
        for short, meaning in _SHORTHANDS.items():
            long = long.replace(short, meaning)
        return long

    def check(self, with_time: bool) -> None:
        """Raise ValueError where the format is none of a date, or of a timestamp `with_time`."""
        names = re.findall("%(.)", self._long.replace("%%", ""))
        if unknown := [name for name in names if name not in _DIRECTIVES]:
            known = ", ".join(f"%{name}" for name in (*_DIRECTIVES, *"TFDR"))
            raise ValueError(f"'{self.text}': %{unknown[0]} is not known; {known} are")
        if repeated := [name for name in names if names.count(name) > 1]:
            raise ValueError(f"'{self.text}' has %{repeated[0]} more than once")
        has = set(names)
        if not ("d" in has and len(has & set("Yy")) == 1 and len(has & set("mbB")) == 1):
            raise ValueError(f"'{self.text}' needs one year, one month and %d, as in %d.%m.%Y")
        if not with_time and has & _OF_TIME:
            raise ValueError(f"'{self.text}' has a time of day: say it as `timestamp_format`")
        if with_time and (len(has & set("HI")) != 1 or ("I" in has) != ("p" in has)):
            raise ValueError(f"'{self.text}' needs one hour: %H, or %I with %p")

    def in_iso_form(self, texts: ArrowColumn) -> ArrowColumn:
        """Return the texts that have this format in ISO form, and the others as they are."""
        import pyarrow.compute as pc

        parts = pc.extract_regex(texts, self.pattern)
        has = {field.name for field in parts.type}

        def part(name: str, width: int = 2) -> ArrowColumn:
            return pc.utf8_lpad(pc.struct_field(parts, name), width, "0")

        if "Y" in has:
            year = part("Y", 4)
        else:  # as POSIX has it: 69 is 1969, and 68 is 2068
            short = part("y")
            century = pc.if_else(pc.greater_equal(short, pa.scalar("69")), "19", "20")
            year = pc.binary_join_element_wise(century, short, "")
        if "m" in has:
            month = part("m")
        else:
            name = pc.utf8_slice_codeunits(
                pc.utf8_lower(pc.struct_field(parts, "b" if "b" in has else "B")), 0, 3
            )
            number = pc.add(pc.index_in(name, value_set=pa.array(_SHORT)), 1)
            month = pc.utf8_lpad(number.cast(pa.string()), 2, "0")
        iso = pc.binary_join_element_wise(year, month, part("d"), "-")
        if has & {"H", "I"}:
            hour = part("H") if "H" in has else _of_24(part("I"), pc.struct_field(parts, "p"))
            clock = [hour, part("M") if "M" in has else "00", part("S") if "S" in has else "00"]
            iso = pc.binary_join_element_wise(iso, pc.binary_join_element_wise(*clock, ":"), " ")
            if "f" in has:
                iso = pc.binary_join_element_wise(iso, pc.struct_field(parts, "f"), ".")
            if "z" in has:
                iso = pc.binary_join_element_wise(iso, pc.struct_field(parts, "z"), "")
        return pc.coalesce(iso, texts)


def _of_24(hour: ArrowColumn, half: ArrowColumn) -> ArrowColumn:
    """Return hours of 12 as hours of 24; one that is none becomes 99, which is no hour."""
    import pyarrow.compute as pc

    names = [f"{n:02}" for n in range(1, 13)]
    index = pc.index_in(hour, value_set=pa.array(names))
    hours = pa.array([*(f"{n % 12:02}" for n in range(1, 13)),
                      *(f"{n % 12 + 12:02}" for n in range(1, 13))])  # fmt: skip
    is_later = pc.equal(pc.utf8_upper(half), "PM")
    index = pc.if_else(is_later, pc.add(index, 12), index)
    return pc.if_else(
        pc.is_valid(index), hours.take(index), pc.if_else(pc.is_valid(half), "99", None)
    )


@dataclass(frozen=True)
class Forms:
    """The stated forms of numbers, dates and timestamps; None: the plain one alone."""

    decimal: str | None = None
    thousands: str | None = None
    date: TimeFormat | None = None
    timestamp: TimeFormat | None = None

    @property
    def has_numbers(self) -> bool:
        return self.decimal not in (None, ".") or self.thousands is not None

    def applies_to(self, kind: pa.DataType) -> bool:
        """Whether texts of this type may have a stated form."""
        if pa.types.is_date(kind):
            return self.date is not None
        if pa.types.is_timestamp(kind):
            return self.date is not None or self.timestamp is not None
        return self.has_numbers and _is_number(kind)

    def infer(self, texts: ArrowColumn) -> pa.DataType:
        """Return the type of a sample, as `text_values.infer`."""
        import pyarrow.compute as pc

        texts = pc.unique(texts.drop_null())
        if self.date is not None or self.timestamp is not None:
            kind = text_values.infer(self._in_iso_form(texts, pa.timestamp("us")), only_times=True)
            if not pa.types.is_string(kind):
                return kind
        if self.has_numbers:
            plain = self._plain_numbers(texts, pa.float64())
            kind = text_values.infer(plain)
            if _is_number(kind):
                return kind
        kind = text_values.infer(texts)
        return pa.string() if self.has_numbers and _is_number(kind) else kind

    def plain(self, texts: ArrowColumn, kind: pa.DataType, inferred: bool) -> ArrowColumn:
        """Return texts of a type in their plain form; what has none cannot be converted."""
        import pyarrow.compute as pc

        if not self.applies_to(kind):
            return texts
        if not inferred:
            texts = pc.utf8_trim_whitespace(texts)
        if _is_number(kind):
            return self._plain_numbers(texts, kind)
        return self._in_iso_form(texts, kind)

    def _in_iso_form(self, texts: ArrowColumn, kind: pa.DataType) -> ArrowColumn:
        if self.timestamp is not None and pa.types.is_timestamp(kind):
            texts = self.timestamp.in_iso_form(texts)
        return texts if self.date is None else self.date.in_iso_form(texts)

    @cached_property
    def _number(self) -> str:
        point = re.escape(self.decimal or ".")
        whole = r"\d+"
        if self.thousands is not None:
            whole = rf"(?:\d{{1,3}}(?:{re.escape(self.thousands)}\d{{3}})+|\d+)"
        return rf"^[+-]?(?:{whole}(?:{point}\d+)?|{point}\d+)(?:[eE][+-]?\d+)?$"

    def _plain_numbers(self, texts: ArrowColumn, kind: pa.DataType) -> ArrowColumn:
        import pyarrow.compute as pc

        is_number = pc.match_substring_regex(texts, self._number)
        plain = texts
        if self.thousands is not None:
            plain = pc.replace_substring(plain, self.thousands, "")
        if self.decimal is not None:
            plain = pc.replace_substring(plain, self.decimal, ".")
        other = texts
        if pa.types.is_floating(kind):
            is_finite = pc.invert(pc.match_substring_regex(texts, text_values.NOT_FINITE))
            other = pc.if_else(is_finite, _NO_NUMBER, texts)
        else:
            other = pc.if_else(pc.is_valid(texts), _NO_NUMBER, texts)
        return pc.if_else(is_number, plain, other)


_NO_NUMBER = "no number"
_WITH_COMMA = re.compile(r"[+-]?[\d.' \u00a0\u202f]*\d,\d+")
_WITH_GROUPS = re.compile(r"[+-]?\d{1,3}([,.' \u00a0\u202f]\d{3})+([.,]\d+)?")
_LIKE_A_DATE = re.compile(r"\d{1,4}[./-]\d{1,2}[./-]\d{1,4}\b.*|\d{8}")


def hint_for(value: str, kind: pa.DataType) -> str:
    """Return the option that may say how a value of `kind` is written, with "; "; "": none."""
    if _is_number(kind) and (_WITH_COMMA.fullmatch(value) or _WITH_GROUPS.fullmatch(value)):
        return "`decimal` and `thousands` say how numbers are written; "
    if pa.types.is_date(kind) and _LIKE_A_DATE.fullmatch(value):
        return "`date_format` says how dates are written; "
    if pa.types.is_timestamp(kind) and _LIKE_A_DATE.fullmatch(value):
        return "`timestamp_format` says how timestamps are written; "
    return ""


def _is_number(kind: pa.DataType) -> bool:
    t = pa.types
    return bool(t.is_integer(kind) or t.is_floating(kind) or t.is_decimal(kind))
