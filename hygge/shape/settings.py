"""The settings of a flow's shape, as `flows.yml` and `Flow(shape=…)` state them.

A `Shape` knows names alone. `hygge.shape.bound.bind` makes of it, and of the columns that a Home
gives, what the Home's process does with each batch.
"""

from __future__ import annotations

import hmac
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal, TypedDict

from pydantic import ConfigDict, Field, field_validator, model_validator

from hygge.changes import OP
from hygge.errors import ConfigError, HyggeError, SourceMissing, one_of
from hygge.settings import Settings
from hygge.shape.names import snake
from hygge.shape.own_code import Transform
from hygge.shape.where_text import columns_in, literal, parsed
from hygge.type_words import type_of


class Choice(Settings):
    """One column to move: `{name: e_mail, as: email, type: string}`."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)

    name: str
    """Its name in the source."""
    target: str | None = Field(default=None, alias="as")
    """Its name in the store. Default: the same."""
    type: str | None = None
    """Its type in the store, in the words of `types`. Default: that of the source."""

    @field_validator("type")
    @classmethod
    def _known_word(cls, word: str | None) -> str | None:
        if word is not None:
            type_of(word)
        return word


class KeepLast(Settings):
    """A way to mask a text: `{keep_last: 4}` shows its last four characters."""

    keep_last: int = Field(ge=0)
    """Characters that stay. Of a text that has no more of them, none stays."""


Way = Literal["hash", "null"] | KeepLast
"""The way to mask a column."""
MASK_AND_BAD_ROWS = (
    "`mask` hides values, and the rows that `on_bad_row: set_aside` sets aside would keep them as "
    "they are"
)
MASK_HINT = "take one of the two out: with `on_bad_row: fail` no value is kept"
KEY_VARIABLE = "HYGGE_MASK_KEY"
"""The environment variable with the key of `mask: hash`."""


FILE_NAME = "hygge.file_name"
"""The column in which a Home of files gives the name of the file, where `add` asks for it."""
WORDS = ("now", "run_id", "file_name")
"""What `add` knows beside literals."""


class ShapeDict(TypedDict, total=False):
    """`Shape` as a dict."""

    columns: Sequence[str | dict[str, str]]
    exclude: Sequence[str]
    where: str | None
    mask: Mapping[str, str | dict[str, int]]
    add: Mapping[str, str | int | float | bool]
    names: Literal["snake", "as_is"]
    flatten: int
    transform: Any


class Shape(Settings):
    """What becomes of the Home's rows before the Store gets them.

    Steps in order: `where` keeps rows; `columns` and `exclude` choose, name and
    cast, `names` names the rest; `flatten` spreads objects; `mask` hides values;
    `add` adds columns; `transform` has a function of the user's make the rows.
    """

    columns: list[Choice] | None = None
    """The columns to move, in this order. Default: all."""
    exclude: list[str] | None = None
    """Columns that are not moved, and not read where the source can leave them out."""
    where: str | None = None
    """A condition in a subset of SQL, on the columns of the source: which rows are moved."""
    mask: dict[str, Way] | None = None
    """Columns whose values are hidden, by their names in the store: `hash`, `"null"` or
    `{keep_last: 4}`."""
    add: dict[str, str | int | float | bool] | None = None
    """Columns to add: `now`, `run_id`, `file_name`, or a literal of SQL such as `'shop'`."""
    names: Literal["snake", "as_is"] | None = None
    """`snake` makes `order_id` of `OrderID` and of `Order ID`. Default: names stay as they are."""
    flatten: int | None = Field(default=None, ge=1, le=100)
    """How many levels of objects become columns, `a__b`: 1 for their fields. Default: none."""
    transform: Transform | None = None
    """A function that makes of each batch the rows that are moved: `module:function`."""
    mask_key: str | None = Field(
        default_factory=lambda: os.environ.get(KEY_VARIABLE), repr=False, exclude=True
    )
    """The key of `hash`; from HYGGE_MASK_KEY."""
    is_of_many: bool = Field(default=False, repr=False)
    """Whether the flow is one of many tables: then a column that is not there may be meant for
    another table."""
    required: tuple[str, ...] = Field(default=(), repr=False)
    """Columns of the source that must be there although it is one of many tables."""

    def check_bad_rows(self, sets_aside: bool) -> None:
        """Raise ConfigError where rows that are set aside would keep what `mask` hides."""
        if sets_aside and self.mask:
            raise ConfigError(MASK_AND_BAD_ROWS, MASK_HINT)

    @field_validator("columns", mode="before")
    @classmethod
    def _names_are_choices(cls, columns: Any) -> Any:
        if not isinstance(columns, list | tuple):
            return columns
        return [{"name": each} if isinstance(each, str) else each for each in columns]

    @field_validator("transform", mode="before")
    @classmethod
    def _call_is_transform(cls, given: Any) -> Any:
        is_call = given is not None and not isinstance(given, dict | Transform)
        return {"call": given} if is_call else given

    @field_validator("mask", mode="before")
    @classmethod
    def _ways_are_known(cls, ways: Any) -> Any:
        for name, way in ways.items() if isinstance(ways, dict) else ():
            is_last = isinstance(way, dict) and [*way] == ["keep_last"]
            if way not in ("hash", "null") and not is_last and not isinstance(way, KeepLast):
                said = 'empty; NULL is "null" in quotes' if way is None else repr(way)
                raise ValueError(f"'{name}' is {said}: hash, \"null\" or {{keep_last: 4}}")
        return ways

    @field_validator("add")
    @classmethod
    def _are_words_or_literals(cls, add: dict[str, Any] | None) -> dict[str, Any] | None:
        for name, value in (add or {}).items():
            if isinstance(value, str) and value not in WORDS and literal(value) is None:
                raise ValueError(
                    f"'{name}' is {value}: now, run_id, file_name or a literal, a text in quotes "
                    f"of its own: \"'{value}'\""
                )
        return add

    @field_validator("where")
    @classmethod
    def _is_of_the_subset(cls, where: str | None) -> str | None:
        if where is not None:
            parsed(where)
        return where

    @model_validator(mode="after")
    def _is_possible(self) -> Shape:
        if self.columns is not None and self.exclude is not None:
            raise ValueError("'columns' and 'exclude' both choose; keep one of them")
        if self.columns is not None and not self.columns:
            raise ValueError("'columns' is empty; leave it away to move every column")
        names = [choice.target or choice.name for choice in self.columns or ()]
        if double := _first_double(names):
            raise ValueError(f"'columns' has the name '{double}' twice")
        return self

    @property
    def named(self) -> list[str] | None:
        """The columns of the source that are needed, each once; None: `columns` names none."""
        if self.columns is None:
            return None
        chosen = (choice.name for choice in self.columns)
        return list(dict.fromkeys([*chosen, *self.conditions]))

    @property
    def conditions(self) -> list[str]:
        """The columns that `where` looks at."""
        return [] if self.where is None else columns_in(self.where)

    @property
    def left_out(self) -> frozenset[str]:
        """The columns that a Home need not read."""
        return frozenset(self.exclude or ()).difference(self.conditions)

    @property
    def types(self) -> dict[str, str]:
        """Stated types of columns of the source, where each of them is moved once."""
        columns = self.columns or ()
        names = [choice.name for choice in columns]
        return {c.name: c.type for c in columns if c.type is not None and names.count(c.name) == 1}

    def target(self, name: str) -> str:
        """Return the name in the store of a column of the source; of any other its own name."""
        for choice in self.columns or ():
            if choice.name == name:
                return choice.target or self.renamed(name)
        return self.renamed(name)

    def renamed(self, name: str) -> str:
        """Return what `names` makes of the name of a column that has no `as`."""
        is_kept = self.names != "snake" or name in (FILE_NAME, OP)
        return name if is_kept else snake(name)

    @property
    def wants_file_name(self) -> bool:
        """Whether `add` asks for the name of the file of each row."""
        return "file_name" in (self.add or {}).values()

    def must_have(self, name: str) -> bool:
        """Return whether it is an error that the source has no such column."""
        return not self.is_of_many or name in self.required

    def check_there(self, who: str, names: Iterable[str], known: Sequence[str]) -> None:
        """Raise SourceMissing for a name that the columns `known` of `who` lack."""
        for name in names:
            if name not in known and self.must_have(name):
                raise missing(who, name, known)

    def facts(self) -> dict[str, str]:
        """Return what is set, for the fingerprint of a run."""
        given = self.model_dump(exclude_none=True, exclude={"is_of_many", "required", "transform"})
        facts = {f"shape.{name}": json.dumps(v, sort_keys=True) for name, v in given.items()}
        if self.transform is not None:
            facts["shape.transform"] = self.transform.facts()
        if self.mask_key is not None and "hash" in (self.mask or {}).values():
            # It tells two keys apart, and does not give the key away.
            digest = hmac.new(self.mask_key.encode(), b"hygge: which key is it", "sha256")
            facts["shape.mask_key"] = digest.hexdigest()[:8]
        return facts


def missing(who: str, name: str, known: Sequence[str]) -> HyggeError:
    """Return the error for a column that is named and is not there."""
    return SourceMissing(f"{who} has no column '{name}'", one_of("its columns", name, known))


def as_shape(given: Shape | ShapeDict | None) -> Shape | None:
    """Return a shape that was given as a dict or as one; None where it changes nothing."""
    if given is None or isinstance(given, Shape):
        return given
    if not isinstance(given, dict):
        raise ConfigError(f"shape= is {type(given).__name__}", "shape=Shape(exclude=['ssn'])")
    return Shape.read("shape", dict(given))


def _first_double(names: Sequence[str]) -> str | None:
    return next((name for name in names if names.count(name) > 1), None)
