"""Variables in flows.yml: `${VAR}`, `${VAR:-default}`, `${file:/run/secrets/x}`, and `.env`.

The process's environment wins over the `.env` beside the file. An empty variable takes the default,
as in a shell. `$${` writes `${`. Every value that is filled in is remembered, so that messages show
`${VAR}` in its place.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

from hygge.config.document import Node
from hygge.config.problems import Problem, Problems
from hygge.errors import nearest, without_password
from hygge.places.shipped import SHIPPED

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_ASSIGNMENT = re.compile(r"\s*(?:export\s+)?([A-Za-z_][A-Za-z0-9_.]*)\s*=\s*(.*)", re.S)
_FORMS = "the forms are ${VAR}, ${VAR:-default} and ${file:/path}"


class Environment:
    """The variables of one flows.yml, and those that were filled in."""

    def __init__(self, folder: str, environ: Mapping[str, str], problems: Problems) -> None:
        self.folder = folder
        # No .env is read from an object store, since secrets do not belong there.
        dotenv = {} if "://" in folder else _read_dotenv(Path(folder, ".env"), problems)
        self.values = {**dotenv, **environ}
        self.hidden: dict[str, str] = {}
        """Each value that was filled in → the variable, as the file writes it."""
        self.used: dict[str, str] = {}
        """Variables that the file names → their values; empty where one is not set."""

    def fill(self, node: Node, problems: Problems, flow: str | None = None) -> Node:
        """Return `node` with every variable replaced by its value.

        A variable that is missing is a problem, and its node is marked as broken.
        """
        if node.is_mapping:
            filled = {key: self.fill(child, problems, flow) for key, child in node.mapping.items()}
            return replace(node, value=filled)
        if node.is_list:
            items = [self.fill(child, problems, flow) for child in node.elements]
            return replace(node, value=items)
        if not isinstance(node.value, str) or "${" not in node.value:
            return node
        try:
            return replace(node, value=self.fill_text(node.value, node.line))
        except Problem as problem:
            problems.add(problem.line, problem.message, problem.hint, flow)
            return replace(node, broken=True)

    def fill_text(self, text: str, line: int) -> str:
        """Return a text with every variable replaced by its value. Raises Problem."""
        parts: list[str] = []
        for part, is_variable in split_variables(text):
            if not is_variable:
                parts.append(part.replace("$${", "${"))
            elif _find_closing_brace(part, 2) < 0:
                raise Problem(line, f"a ${{ without its }}: {shorten(text)}", _FORMS)
            else:
                parts.append(self._value(part[2:-1], line))
        return "".join(parts)

    def _value(self, inside: str, line: int) -> str:
        """Return the value of what stands between `${` and `}`."""
        if inside.startswith("file:"):
            return self._remember(inside, self._read_file(inside.removeprefix("file:"), line))
        name, dash, default = inside.partition(":-")
        if not _NAME.fullmatch(name):
            raise Problem(line, f"${{{shorten(inside)}}} is not a variable", _FORMS)
        value = self.values.get(name)
        self.used[name] = value or ""
        if dash and not value:
            return self.fill_text(default, line)
        if value is None:
            close = nearest(name, self.values)
            raise Problem(
                line,
                f"the variable {name} is not set",
                (f"did you mean {close}? " if close else "") + self._how_to_set(name),
            )
        return self._remember(name, value)

    def _how_to_set(self, name: str) -> str:
        if SHIPPED in f"{self.folder}/":  # no `.env` is shipped, and a shell elsewhere says nothing
            return (
                f"set {name} on the cluster's nodes (in the environment of `ray start`, or of the "
                f"pods), write ${{{name}:-default}}, or read a file of the nodes: "
                "${file:/run/secrets/…}"
            )
        return (
            f"set it (export {name}=…), put it into the .env beside the file, "
            f"or write ${{{name}:-default}}"
        )

    def _read_file(self, path: str, line: int) -> str:
        if "://" in self.folder and not path.startswith("/"):
            message = f"${{file:{path}}} would lie beside this file in an object store"
            raise Problem(line, message, "give an absolute path: ${file:/run/secrets/x}")
        try:
            return Path(self.folder, path).read_text(encoding="utf-8").rstrip("\r\n")
        except (OSError, UnicodeDecodeError, ValueError) as error:
            why = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
            raise Problem(
                line, f"${{file:{path}}} cannot be read: {why}", "name a text file with the value"
            ) from None

    def _remember(self, inside: str, value: str) -> str:
        if len(value) >= 3:  # to hide shorter ones would only make the message unreadable
            self.hidden[value] = f"${{{inside.partition(':-')[0]}}}"
        return value


def shorten(text: str) -> str:
    """Return a text of the file for a message: at most 60 characters, without a password."""
    text = without_password(text)
    return text if len(text) <= 60 else text[:57] + "..."


def mask(text: str, hidden: Mapping[str, str]) -> str:
    """Return `text` without passwords, and with a variable in the place of each hidden value.

    A value is found too where the message cut it short, or where `repr` escaped it.
    """
    for value in sorted(hidden, key=len, reverse=True):
        for form in dict.fromkeys((value, repr(value)[1:-1])):
            if len(form) < 8:
                words = re.split(rf"(?<!\w){re.escape(form)}(?!\w)", text)
                text = hidden[value].join(words)
            else:
                text = _mask_beginnings(text, form, hidden[value])
    return without_password(text)


def _mask_beginnings(text: str, value: str, variable: str) -> str:
    """Replace each occurrence of the value, or of its first 8 characters and more."""
    at = 0
    while (at := text.find(value[:8], at)) >= 0:
        end = at + 8
        while end < len(text) and end - at < len(value) and text[end] == value[end - at]:
            end += 1
        text = text[:at] + variable + text[end:]
        at += len(variable)
    return text


def split_variables(text: str) -> Iterator[tuple[str, bool]]:
    """Yield the parts of a text, and whether each is a variable: `${…}`.

    A variable that does not end is the last part. `$${` is no variable, and stays as it is.
    """
    at = search = 0
    while (start := text.find("${", search)) >= 0:
        search = start + 2
        if start > at and text[start - 1] == "$":
            continue
        if start > at:
            yield text[at:start], False
        end = _find_closing_brace(text, search)
        at = search = len(text) if end < 0 else end + 1
        yield text[start:at], True
    if at < len(text):
        yield text[at:], False


def _find_closing_brace(text: str, start: int) -> int:
    """Return the index of the } that ends a variable, or -1; variables may stand in defaults."""
    depth = 1
    for index in range(start, len(text)):
        if text[index] == "}":
            depth -= 1
        elif text.startswith("${", index):
            depth += 1
        if not depth:
            return index
    return -1


def _read_dotenv(path: Path, problems: Problems) -> dict[str, str]:
    """Read lines of KEY=value, with `export`, quotes and comments as in a shell, but no expansion.

    Return no variables where there is no such file.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
        return {}
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        problems.add_elsewhere(".env", 1, f"cannot be read: {why}")
        return {}
    values: dict[str, str] = {}
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        match = _ASSIGNMENT.fullmatch(line)
        value = _unquote(match[2].strip()) if match else None
        if match is None or value is None:
            why = "a quote is not closed" if match else "not KEY=value"
            problems.add_elsewhere(".env", number, why, 'write KEY=value or KEY="a value"')
        else:
            values[match[1]] = value
    return values


def _unquote(value: str) -> str | None:
    """Return the value without quotes and without a comment; None where a quote is not closed."""
    quote = value[:1]
    if quote not in ("'", '"') or not value:
        return re.split(r"(?:^|\s+)#", value, maxsplit=1)[0].rstrip()
    pattern = r"'([^']*)'" if quote == "'" else r'"((?:[^"\\]|\\.)*)"'
    match = re.fullmatch(pattern + r"\s*(?:#.*)?", value)
    if match is None:
        return None
    if quote == "'":
        return match[1]
    escapes = {"n": "\n", "r": "\r", "t": "\t"}
    return re.sub(r"\\(.)", lambda match: escapes.get(match[1], match[1]), match[1])
