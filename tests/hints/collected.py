"""Every hint that the source can print, found by reading it: `python -m tests.hints.collected`."""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path

from tests import ROOT

LIST = Path(__file__).parent / "hints.txt"
_ERRORS = re.compile(
    r"\w*(Error|Missing|Changed|Unfit\w*|NotOurs|DiskFull|Rejected|Superseded|Unknown|Transient"
    r"|Problem)"
)
_FACTORIES = ("side",)
_CONSTANTS = re.compile(
    r"_?(ADVICE|STOPS|HINTS?|REMEDY|ROW_SECURITY|PERMIT|IN_THE_WAY|OR_REPLACE|SAME_VERSIONS)"
    r"|\w+_HINT"
)
_FUNCTIONS = re.compile(r"_?(hint\w*|\w*_hint|suggest\w*|\w*remedy|explain_unknown|remedies)")


def all_hints() -> dict[str, str]:
    """Return each hint, with `{}` for what is filled in → one place where it stands."""
    hints: dict[str, str] = {}
    for file in sorted((ROOT / "hygge").rglob("*.py")):
        if "testing" in file.parts:
            continue
        tree = ast.parse(file.read_text())
        for line, node in _hint_nodes(tree):
            for text in _texts(node):
                hints.setdefault(text, f"{file.relative_to(ROOT)}:{line}")
    return hints


def _hint_nodes(tree: ast.AST) -> Iterator[tuple[int, ast.expr]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            hint = _hint_of(node)
            if hint is not None:
                yield node.lineno, hint
        elif isinstance(node, ast.Assign | ast.AnnAssign) and node.value is not None:
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            names = [target.id for target in targets if isinstance(target, ast.Name)]
            if any(name == "hint" or _CONSTANTS.fullmatch(name) for name in names):
                yield node.lineno, node.value
        elif isinstance(node, ast.FunctionDef) and _FUNCTIONS.fullmatch(node.name):
            for inner in ast.walk(node):
                if isinstance(inner, ast.Return) and inner.value is not None:
                    yield inner.lineno, inner.value


def _hint_of(call: ast.Call) -> ast.expr | None:
    name = getattr(call.func, "id", getattr(call.func, "attr", ""))
    at = {"Problem": 2, "add": 2}.get(name, 1)
    if name == "add" and "problems" not in ast.unparse(call.func):
        return None
    by_name = {keyword.arg: keyword.value for keyword in call.keywords}
    if "hint" in by_name:
        return by_name["hint"]
    is_error = _ERRORS.fullmatch(name) or name in _FACTORIES or name == "add"
    return call.args[at] if is_error and len(call.args) > at else None


def _texts(node: ast.expr) -> Iterator[str]:
    """Yield the texts that an expression may be; nothing for names and calls."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        if len(node.value) > 3:
            yield node.value
    elif isinstance(node, ast.JoinedStr):
        yield "".join(
            str(part.value) if isinstance(part, ast.Constant) else "{}" for part in node.values
        )
    elif isinstance(node, ast.IfExp):
        yield from _texts(node.body)
        yield from _texts(node.orelse)
    elif isinstance(node, ast.Dict):
        for value in node.values:
            yield from _texts(value)
    elif isinstance(node, ast.Tuple | ast.List):
        for value in node.elts:
            yield from _texts(value)
    elif isinstance(node, ast.BinOp):
        left, right = list(_texts(node.left)) or ["{}"], list(_texts(node.right)) or ["{}"]
        yield from (first + second for first in left for second in right)


def listed() -> dict[str, str]:
    """Return the hints of `hints.txt` → the word before them: how they are followed."""
    entries = {}
    for line in LIST.read_text().splitlines():
        if line and not line.startswith("#"):
            word, _, text = line.partition("  ")
            entries[text.lstrip()] = word
    return entries


def one_line(text: str) -> str:
    """Return a hint as `hints.txt` writes it."""
    return text.replace("\n", "\\n")


if __name__ == "__main__":
    known = listed()
    for text, place in all_hints().items():
        if one_line(text) not in known:
            sys.stdout.write(f"?  {one_line(text)}    # {place}\n")
