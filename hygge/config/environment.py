"""Variables in flows.yml: `${VAR}`, `${VAR:-default}`, `${file:/run/secrets/x}`, and `.env`.

The process's environment wins over the `.env` beside the file; an empty variable takes the default,
as in a shell; `$${` writes `${`. Whatever is put in is remembered, so that a message that would
show it shows `${VAR}` instead.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from hygge.config.document import Node
from hygge.config.problems import Problems, Wrong
from hygge.errors import nearest, without_password

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_ASSIGNMENT = re.compile(r"\s*(?:export\s+)?([A-Za-z_][A-Za-z0-9_.]*)\s*=\s*(.*)", re.S)
_FORMS = "the forms are ${VAR}, ${VAR:-default} and ${file:/path}"


class Environment:
    """Where the variables of one flows.yml come from."""

    def __init__(self, folder: str, given: Mapping[str, str], problems: Problems) -> None:
        self.folder = folder
        # Beside a file in an object store there is none: what is secret is not kept there.
        beside = {} if "://" in folder else _dotenv(Path(folder, ".env"), problems)
        self.values = {**beside, **given}
        self.hidden: dict[str, str] = {}
        """Each value that was put in → what the file says there."""
        self.used: dict[str, str] = {}
        """Variables that the file names → their values; empty is the same as not set."""

    def fill(self, node: Node, problems: Problems, flow: str | None = None) -> Node:
        """`node` with every variable in it put in; what is missing is noted, and marked broken."""
        if node.is_mapping:
            filled = {k: self.fill(each, problems, flow) for k, each in node.value.items()}
            return replace(node, value=filled)
        if node.is_list:
            return replace(node, value=[self.fill(each, problems, flow) for each in node.value])
        if not isinstance(node.value, str) or "${" not in node.value:
            return node
        try:
            return replace(node, value=self._text(node.value, node.line))
        except Wrong as wrong:
            problems.add(wrong.line, wrong.text, wrong.hint, flow)
            return replace(node, broken=True)

    def _text(self, text: str, line: int) -> str:
        done: list[str] = []
        at = 0
        while (start := text.find("${", at)) >= 0:
            if start > at and text[start - 1] == "$":  # $${ is a written ${
                done += [text[at : start - 1], "${"]
                at = start + 2
                continue
            end = _closing(text, start + 2)
            if end < 0:
                raise Wrong(line, f"a ${{ without its }}: {node_text(text)}", _FORMS)
            done += [text[at:start], self._value(text[start + 2 : end], line)]
            at = end + 1
        return "".join([*done, text[at:]])

    def _value(self, inside: str, line: int) -> str:
        if inside.startswith("file:"):
            return self._remember(inside, self._file(inside.removeprefix("file:"), line))
        name, dash, default = inside.partition(":-")
        if not _NAME.fullmatch(name):
            raise Wrong(line, f"${{{node_text(inside)}}} is not a variable", _FORMS)
        value = self.values.get(name)
        self.used[name] = value or ""
        if dash and not value:
            return self._text(default, line)
        if value is None:
            close = nearest(name, self.values)
            raise Wrong(
                line,
                f"the variable {name} is not set",
                (f"did you mean {close}? " if close else "")
                + f"set it (export {name}=…), put it into the .env beside the file, "
                f"or write ${{{name}:-default}}",
            )
        return self._remember(name, value)

    def _file(self, path: str, line: int) -> str:
        if "://" in self.folder and not path.startswith("/"):
            said = f"${{file:{path}}} would lie beside this file in an object store"
            raise Wrong(line, said, "give an absolute path: ${file:/run/secrets/x}")
        try:
            return Path(self.folder, path).read_text(encoding="utf-8").rstrip("\r\n")
        except (OSError, UnicodeDecodeError, ValueError) as error:
            why = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
            raise Wrong(
                line, f"${{file:{path}}} cannot be read: {why}", "name a text file with the value"
            ) from None

    def _remember(self, inside: str, value: str) -> str:
        if len(value) >= 3:  # masking shorter ones would only garble the message
            self.hidden[value] = f"${{{inside.partition(':-')[0]}}}"
        return value


def node_text(text: str) -> str:
    """A text from the file for a message: short, without a password."""
    text = without_password(text)
    return text if len(text) <= 60 else text[:57] + "..."


def masked(text: str, hidden: Mapping[str, str]) -> str:
    """`text` without passwords, and with every hidden value as the variable it came from.

    Also where the value was cut short, or is escaped as `repr` does it.
    """
    for value in sorted(hidden, key=len, reverse=True):
        for form in dict.fromkeys((value, repr(value)[1:-1])):
            if len(form) < 8:
                words = re.split(rf"(?<!\w){re.escape(form)}(?!\w)", text)
                text = hidden[value].join(words)
            else:
                text = _cut_masked(text, form, hidden[value])
    return without_password(text)


def _cut_masked(text: str, value: str, shown: str) -> str:
    at = 0
    while (at := text.find(value[:8], at)) >= 0:
        end = at + 8
        while end < len(text) and end - at < len(value) and text[end] == value[end - at]:
            end += 1
        text = text[:at] + shown + text[end:]
        at += len(shown)
    return text


def _closing(text: str, at: int) -> int:
    depth = 1
    for index in range(at, len(text)):
        if text[index] == "}":
            depth -= 1
        elif text.startswith("${", index):
            depth += 1
        if not depth:
            return index
    return -1


def _dotenv(path: Path, problems: Problems) -> dict[str, str]:
    """KEY=value a line; `export`, quotes and comments as in a shell; nothing is expanded."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
        return {}
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        problems.add_elsewhere(".env", 1, f"cannot be read: {why}")
        return {}
    found: dict[str, str] = {}
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        match = _ASSIGNMENT.fullmatch(line)
        value = _unquoted(match[2].strip()) if match else None
        if match is None or value is None:
            why = "a quote is not closed" if match else "not KEY=value"
            problems.add_elsewhere(".env", number, why, 'write KEY=value or KEY="a value"')
        else:
            found[match[1]] = value
    return found


def _unquoted(value: str) -> str | None:
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
    return re.sub(r"\\(.)", lambda m: escapes.get(m[1], m[1]), match[1])
