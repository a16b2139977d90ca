"""The watermark that a run starts from: that of the store's head, or one that a person states."""

from __future__ import annotations

from hygge.errors import ConfigError
from hygge.model import Head, Watermark
from hygge.run.driver import DrivenFlow


def watermark_of(flow: DrivenFlow, base: Head | None, stated: str | None) -> Watermark:
    """Return the watermark to read from, or None to read everything.

    `base` is the head of the store, `stated` what a person wrote. Raises ConfigError where reading
    everything would append rows that are there already.
    """
    # A head has the name of the cursor in the store; before a rename it was that of the source.
    names = (flow.cursor, flow.new_run().cursor)
    is_known = base is not None and base.cursor in names and flow.mode != "replace"
    if stated is not None and flow.cursor is not None:
        if base is not None and is_known and base.watermark is not None:
            raise ConfigError(
                f"{flow.store.describe()} holds the watermark {base.watermark!r} of this flow, and "
                f"--from says {stated!r}",
                "take --from out: the flow goes on from its watermark",
            )
        return _parsed(flow, flow.cursor, stated)
    if base is not None and base.cursor and flow.lacks_cursor:
        raise ConfigError(
            f"{flow.home.describe()} has no column '{flow.lacks_cursor}', so it would be replaced; "
            f"until now its rows were added by the cursor '{base.cursor}', and rows that are no "
            "longer in the source would be lost",
            "give the table a cursor of its own under `tables:`; or leave it out with `exclude`, "
            "and replace it in a flow of its own",
        )
    if base is None or flow.mode == "replace":
        return None
    if is_known and (base.watermark is not None or not base.rows):
        return base.watermark
    if flow.mode == "merge" or not (flow.cursor or base.cursor):
        return None  # every row again: merge is the same twice, and a plain append asks for it
    was = f"the watermark of '{base.cursor}'" if base.cursor else "rows without a watermark"
    hint = "keep the cursor, use `mode: merge` with a key, or give the flow another name"
    if flow.cursor:
        hint = (
            "say once where it goes on: --from VALUE reads what is above that value of "
            f"'{flow.cursor}' (the highest that the store holds); or {hint}"
        )
    raise ConfigError(
        f"{flow.store.describe()} holds {was} of this flow, and now the "
        f"cursor is {repr(flow.cursor) if flow.cursor else 'gone'}: rows would come twice",
        hint,
    )


def _parsed(flow: DrivenFlow, cursor: str, text: str) -> Watermark:
    """Return the watermark that a person wrote as `text`, of the kind that the Home gives."""
    with flow.home.open(None) as plan:
        kind = type(plan.watermark)
        if plan.watermark is None:
            types = {column.name: str(column.type) for column in plan.columns or ()}
            kind = int if "int" in types.get(cursor, "") else str
    if kind not in (int, float):
        return text
    try:
        return int(text) if kind is int else float(text)
    except ValueError:
        raise ConfigError(
            f"flow '{flow.name}': --from says {text!r}, and '{cursor}' is a number",
            "write a value of that column",
        ) from None
