"""Where a flow's shape meets its Home: what the source does itself, and the plan that comes out."""

from __future__ import annotations

from copy import copy
from dataclasses import replace
from typing import TypeVar

import pyarrow as pa

from hygge.changes import OP
from hygge.encodings import has_notes
from hygge.errors import ConfigError
from hygge.formats.json_columns import to_text, with_json
from hygge.home import Home
from hygge.model import Column, Plan
from hygge.run.driver import DrivenFlow
from hygge.run.engines import schema_of
from hygge.shape.bound import Bound, bind, check_names
from hygge.shape.changes import with_changes
from hygge.shape.settings import Choice, Shape, missing
from hygge.store import Store

End = TypeVar("End", bound=Home)


def shaped_home(home: End, shape: Shape) -> End:
    """Return a copy of a Home that carries a shape, and reads no more than this needs.

    A Home of hygge takes the columns and their types as its own settings. Any other gives all of
    its columns.
    """
    home = copy(home)
    home.shape = shape
    known = getattr(type(home.settings), "model_fields", {})
    if not type(home).__module__.startswith("hygge.") or "columns" not in known:
        return home
    if shape.where is not None and "where" in known:
        if home.settings.where is not None:
            raise ConfigError(
                f"{home.describe()}: its own `where` and that of the shape both choose rows",
                "keep one of them",
            )
        home.settings = home.settings.model_copy(update={"where": shape.where})
        home.shape = shape = shape.model_copy(update={"where": None})
    if home.settings.columns is not None:
        if shape.columns is not None or shape.exclude is not None:
            raise ConfigError(
                f"{home.describe()}: its own `columns` and the flow's shape both choose",
                "keep one of them",
            )
        chosen = [Choice(name=name) for name in home.settings.columns]
        home.shape = shape = shape.model_copy(update={"columns": chosen})
    if shape.columns is None:
        return home
    changed = {"columns": shape.named}
    options = home.settings.options
    if shape.types and "types" in type(options).model_fields:
        types = {**shape.types, **options.types}
        changed["options"] = options.model_copy(update={"types": types})
    home.settings = home.settings.model_copy(update=changed)
    return home


def shaped_plan(flow: DrivenFlow, plan: Plan) -> Plan:
    """Return the plan with the columns that the Store gets, and bind the shape of the flow's home.

    Raises SourceMissing or ConfigError for a shape that the columns do not allow, and for a column
    that the flow names and the plan lacks.
    """
    home, shape, source = flow.home, flow.shape, schema_of(plan)
    home.to_json = flow.store.traits.json
    if source is None:
        return plan
    bound = None
    if shape is not None and home.shape is not None:
        who = home.describe()
        bound = bind(home.shape, source, who, to_text)
        check_names(shape, who, flow.key, flow.cursor, bound.schema.names)
    run = flow.new_run()
    if home.to_json:
        bound = with_json(bound, source, run.key)
    if home.traits.changes:
        if shape is not None and OP in (shape.mask or {}):
            raise ConfigError(
                f"{home.describe()}: '{OP}' is masked, and tells what became of each row",
                "take it out of `mask`: it becomes no column of the store",
            )
        bound = with_changes(bound, source, run.key, run.cursor, home.describe())
    if bound is not None:
        home.bound = bound
        plan = _shaped(home, plan, bound)
    _check_columns(flow, plan, source)
    return plan


def home_for(store: Store, home: Home, schema: pa.Schema | None) -> Home:
    """Return the home as it reads for a Store: with dictionaries, if rows go on as they are."""
    if home.gives_dictionaries is None or not store.takes_dictionaries:
        return home
    if schema is None or has_notes(schema):
        return home
    if home.bound is not None or home.most_bad_rows is not None:
        return home
    home = copy(home)
    home.gives_dictionaries = True
    return home


def _check_columns(flow: DrivenFlow, plan: Plan, source: pa.Schema) -> None:
    """Raise SourceMissing unless the plan has every column that the flow names."""
    # Of one of many tables a column of another one may be meant.
    is_of_many = getattr(flow.home, "only", False)
    run = flow.new_run()
    stored = [*run.key, *([run.cursor] if run.cursor else [])]
    read = [*getattr(flow.home, "own_columns", ())]
    for end, names in () if is_of_many else ((flow.home, read), (flow.store, stored)):
        on_value = getattr(getattr(end.settings, "options", None), "on_value", None)
        names.extend(on_value if isinstance(on_value, dict) else ())
    columns = [column.name for column in plan.columns or ()]
    for names, known in ((stored, columns), (read, source.names)):
        for name in names:
            if name not in known:
                raise missing(flow.home.describe(), name, known)


def _shaped(home: Home, plan: Plan, bound: Bound) -> Plan:
    """Return the plan with the columns that come out."""
    targets = {old: new for new, old in bound.origins.items()}
    key = tuple(targets.get(name, "") for name in plan.key)
    return replace(
        plan,
        columns=_columns(plan, bound),
        key=key if all(key) else (),
        raw=None if plan.raw is None else home.reshaped(plan.raw, bound),
    )


def _columns(plan: Plan, bound: Bound) -> tuple[Column, ...]:
    """Return the columns that come out; one that is as it was keeps its type in the source."""
    before = {column.name: column for column in plan.columns or ()}
    columns = []
    for field in bound.schema:
        origin = before.get(bound.origins.get(field.name, ""))
        if origin is None:
            metadata = field.metadata or {}
            columns.append(
                Column(field.name, field.type, nullable=field.nullable, metadata=metadata)
            )
        else:
            columns.append(replace(origin, name=field.name))
    return tuple(columns)
