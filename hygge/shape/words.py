"""What a shape does, in sentences for `hygge plan`."""

from __future__ import annotations

from hygge.shape.settings import KEY_VARIABLE, KeepLast, Shape


def sentences(shape: Shape) -> list[str]:
    """Return what happens to the rows, step by step."""
    lines = [f"where {shape.where}"] if shape.where else []
    changes = []
    for choice in shape.columns or ():
        words = [choice.target and f"'{choice.target}'", choice.type]
        if any(words):
            changes.append(f"'{choice.name}' as {' and '.join(filter(None, words))}")
    if changes:
        lines.append("; ".join(changes))
    if shape.exclude:
        lines.append(f"without {', '.join(shape.exclude)}")
    if shape.flatten:
        deep = "" if shape.flatten == 1 else f", {shape.flatten} levels deep"
        lines.append(f"the fields of objects are columns of their own, a__b{deep}")
    for name, way in (shape.mask or {}).items():
        if isinstance(way, KeepLast):
            characters = "character" if way.keep_last == 1 else f"{way.keep_last} characters"
            lines.append(f"'{name}' shows its last {characters}")
        elif way == "null":
            lines.append(f"'{name}' is NULL")
        else:
            lines.append(f"'{name}' is its HMAC-SHA-256, by the key in {KEY_VARIABLE}")
    if shape.names == "snake":
        lines.append("names in snake_case")
    for name, value in (shape.add or {}).items():
        word = {"now": "the time when the run began", "run_id": "the id of the run",
                "file_name": "the name of the file"}.get(str(value), str(value))  # fmt: skip
        lines.append(f"'{name}' is added: {word}")
    if shape.transform is not None:
        lines.append(
            f"{shape.transform.name} makes the rows, each batch a DataFrame of "
            f"{shape.transform.form}"
            if shape.transform.form != "pyarrow"
            else f"{shape.transform.name} makes the rows"
        )
    return lines
