"""What a store holds before a run, and what becomes of it, as `hygge plan` says it."""

from __future__ import annotations

from hygge.model import Mode, TargetState


def state_text(state: TargetState, mode: Mode) -> str:
    """Return what a store holds now, and what a run of `mode` does with it."""
    if not state.exists:
        return "nothing: it is new, and the run makes it"
    if state.is_adopted:
        rows = "rows" if state.rows is None else _rows_held(state)
        are = "is" if state.rows == 1 and state.is_exact else "are"
        return f"adopted: its {rows} {are} replaced, table, grants, indexes and views stay"
    then = {
        "replace": "which the run replaces",
        "append": "which stay; the run adds its own",
        "merge": "which stay, unless a row with the same key comes",
    }[mode]
    if state.rows is None:
        return f"rows, {then}; how many is not known"
    return f"{_rows_held(state)}, {then}"


def _rows_held(state: TargetState) -> str:
    rows = f"{state.rows:,} row{'s'[: state.rows != 1]}"
    return f"{'' if state.is_exact else 'more than '}{rows}"
