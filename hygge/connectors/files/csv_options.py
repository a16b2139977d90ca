"""The options with which CSV is read, and what they may not say together."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Self

from pydantic import Field, ValidationInfo, field_validator, model_validator

from hygge.connectors.files.file_options import FileOptions, FileOptionsDict
from hygge.formats.text import known_encoding
from hygge.formats.text_forms import Forms, TimeFormat
from hygge.model import MIB
from hygge.type_words import types_of


class CsvOptions(FileOptions):
    """How CSV is read."""

    delimiter: str | None = None
    """One character between values. Default: found in the first lines (`,` `;` `|` or tab)."""
    quote: str | None = None
    """One character around values that hold delimiters or newlines; `none`: nothing is quoted.
    Default: found in the first lines, `"` or `'`."""
    escape: str | None = None
    """One character that takes the next one for itself, such as a backslash before a quote.
    Default: none; a quote within quotes is doubled."""
    comment: str | None = None
    """The character at the beginning of lines that are left out. Default: no line is."""
    skip_lines: int | None = Field(default=None, ge=0)
    """How many lines at the beginning of each file are left out. Default: none."""
    header: bool | None = None
    """Whether the first line names the columns. Default: yes; an error where it may be a row."""
    column_names: list[str] | None = None
    """Names of the columns, in a file without a header."""
    encoding: str = "utf-8"
    """The encoding of the files; a byte order mark is understood."""
    types: dict[str, str] = Field(default_factory=dict)
    """Column → type word; the other columns are inferred from the sample."""
    sample_bytes: int = Field(default=MIB, gt=0)
    """How many bytes of the first file types are inferred from."""
    decimal: str | None = None
    """The sign before the decimals of numbers. Default: a point."""
    thousands: str | None = None
    """The sign between the thousands of numbers. Default: none."""
    date_format: str | None = None
    """How dates are written, such as `%d.%m.%Y`; ISO dates are read beside it. Default: ISO."""
    timestamp_format: str | None = None
    """How timestamps are written, such as `%d.%m.%Y %H:%M`. Default: ISO."""
    null_values: list[str] = Field(default_factory=list)
    """Texts that mean NULL beside the empty value, where they are unquoted."""
    quoted_nulls: bool = False
    """Whether a quoted empty value (and quoted `null_values`) is NULL too."""
    newlines_in_values: bool = True
    """Whether quoted values may hold newlines; only where they never do is a file split."""

    @field_validator("types")
    @classmethod
    def _known_types(cls, types: dict[str, str]) -> dict[str, str]:
        types_of(types)
        return types

    @field_validator("encoding")
    @classmethod
    def _known_encoding(cls, encoding: str) -> str:
        return known_encoding(encoding)

    @field_validator("quote")
    @classmethod
    def _none_is_empty(cls, sign: str | None) -> str | None:
        return "" if sign == "none" else sign

    @field_validator("delimiter", "quote", "escape", "comment")
    @classmethod
    def _one_sign(cls, sign: str | None) -> str | None:
        if sign and (len(sign) != 1 or not sign.isascii() or sign.isalnum() or sign in "\r\n"):
            raise ValueError(f"{sign!r} is not one ASCII character that separates")
        return sign

    @field_validator("decimal", "thousands")
    @classmethod
    def _sign_of_numbers(cls, sign: str | None) -> str | None:
        if sign is not None and (len(sign) != 1 or sign.isalnum() or sign in '+-"\r\n'):
            raise ValueError(f"{sign!r} is not one character that stands within numbers")
        return sign

    @field_validator("date_format", "timestamp_format")
    @classmethod
    def _known_format(cls, text: str | None, info: ValidationInfo) -> str | None:
        if text is not None:
            TimeFormat(text).check(with_time=info.field_name == "timestamp_format")
        return text

    @model_validator(mode="after")
    def _signs_differ(self) -> Self:
        signs = {name: getattr(self, name) for name in ("delimiter", "quote", "escape", "comment")}
        if signs["escape"] == (signs["quote"] or '"'):
            signs["escape"] = None  # another word for quotes that are doubled
        names: dict[str, str] = {}
        for name, sign in signs.items():
            if sign and sign in names:
                raise ValueError(f"'{names[sign]}' and '{name}' are both {sign!r}")
            if sign:
                names[sign] = name
        if self.quote and self.quote in (self.decimal, self.thousands):
            raise ValueError(f"'quote' is {self.quote!r}, and so is a sign within numbers")
        if (self.decimal or ".") == self.thousands:
            raise ValueError(f"'decimal' and 'thousands' are both {self.thousands!r}")
        for name in ("decimal", "thousands"):
            sign = getattr(self, name)
            if sign and sign == self.delimiter and self.quote == "":
                raise ValueError(
                    f"'{name}' and 'delimiter' are both {sign!r}, and no value is quoted: nobody "
                    "can tell them apart"
                )
        return self

    @model_validator(mode="after")
    def _nulls_can_occur(self) -> Self:
        for null in self.null_values:
            if self.comment and null.startswith(self.comment):
                raise ValueError(
                    f"the null value {null!r} begins with 'comment', so that lines which begin "
                    "with it would be left out"
                )
            never = ("\n", "\r", *([self.delimiter] if self.delimiter else ()))
            if not self.quoted_nulls and any(sign in null for sign in never):
                raise ValueError(
                    f"the null value {null!r} holds a delimiter or a line end, so that it can "
                    "never stand unquoted"
                )
        return self

    @model_validator(mode="after")
    def _names_from_somewhere(self) -> Self:
        if self.delimiter == "":
            raise ValueError("'delimiter' is empty")
        if (self.header is not False) == (self.column_names is not None):
            raise ValueError(
                "'column_names' and 'header: false' need each other: names come from the header, "
                "or from column_names"
            )
        return self

    def forms(self) -> Forms:
        """Return the forms of numbers, dates and timestamps."""
        date, timestamp = self.date_format, self.timestamp_format
        return Forms(
            self.decimal,
            self.thousands,
            None if date is None else TimeFormat(date),
            None if timestamp is None else TimeFormat(timestamp),
        )


class CsvOptionsDict(FileOptionsDict, total=False):
    """`CsvOptions` as a dict."""

    delimiter: str | None
    quote: str | None
    escape: str | None
    comment: str | None
    skip_lines: int | None
    header: bool | None
    column_names: list[str] | tuple[str, ...] | None
    encoding: str
    types: Mapping[str, str]
    sample_bytes: int
    decimal: str | None
    thousands: str | None
    date_format: str | None
    timestamp_format: str | None
    null_values: list[str] | tuple[str, ...]
    quoted_nulls: bool
    newlines_in_values: bool
