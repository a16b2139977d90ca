"""Connections for a flows.yml that a command writes: a variable stands for each secret in them.

A secret is the password of a URL, a setting or a parameter with a name as `password` or
`secret_access_key`, and the default of a variable in such a place. Variables that a file has
already stay. What is filled in for a variable gives the same text again, whatever is hidden; so
where it is not clear how far a password goes, more is hidden, and never less.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from urllib.parse import unquote_plus

from hygge.config.document import Node
from hygge.config.environment import Environment, split_variables
from hygge.config.named import Named
from hygge.config.paths import absolute_url, is_bucket_url
from hygge.config.problems import Problems
from hygge.config.written import with_variables
from hygge.errors import is_secret_name, without_password

_USER = re.compile(r"(?P<open>[^:/?@]+://[^:/]*:)(?P<password>.*)(?=@)", re.DOTALL)
_PLACES = 0xF0000
"""The first of the characters that stand for variables, while a URL is taken apart."""


class Hidden:
    """Writes connections, and knows the variables in them."""

    def __init__(self) -> None:
        self.variables: dict[str, str] = {}
        """The variables that what was written needs → their values."""
        self._known = known_variables(os.getcwd())

    def url(self, url: str, name: str) -> str:
        """Return a URL of the command line as flows.yml has it; `name` is the connection's.

        The values of its variables are written as the URL has them (`%40` for `@`).
        """
        return self._url(with_variables(url), name, lambda text: text.replace("$${", "${"))

    def connection(self, named: Named) -> object:
        """Return a connection of a file, for a file whose `root` is the working directory."""
        if not named.node.is_mapping:
            return self._database(named.node.text_or_value(), named)
        return {key: self._setting(key, node, named) for key, node in named.node.mapping.items()}

    def _setting(self, key: str, node: Node, named: Named) -> object:
        if node.is_mapping:
            return {
                inner: self._setting(inner, each, named) for inner, each in node.mapping.items()
            }
        value = node.plain()
        if isinstance(value, bool) or not isinstance(value, str | int | float):
            return value
        text = node.text_or_value()
        if key == "url":
            return self._database(text, named)
        if is_secret_name(key):
            parts = self._masked(text, named.name, named)
            return self._secret(*parts, named.name, key, named.fill)
        if key == "uri" and named.root != os.getcwd() and ":///" in text:  # a database in a file
            return self._database(text, named)
        if key == "warehouse" and named.root != os.getcwd() and "://" not in named.fill(text):
            return with_variables(os.path.join(named.root, named.fill(text)))
        if key == "service_account" and named.root != os.getcwd():
            return with_variables(os.path.join(named.root, os.path.expanduser(named.fill(text))))
        return self._url(text, named.name, named.fill, named) if isinstance(value, str) else value

    def _database(self, text: str, named: Named) -> str:
        filled = named.fill(text)
        if named.root != os.getcwd() and not is_bucket_url(filled):
            whole = absolute_url(filled, named.root, named.node.line)
            if whole != filled:
                return self.url(whole, named.name)
        return self._url(text, named.name, named.fill, named)

    def _url(
        self, text: str, name: str, fill: Callable[[str], str], named: Named | None = None
    ) -> str:
        masked, variables = self._masked(text, name, named)

        def back(part: str) -> str:
            return _unmasked(part, variables)

        def secret(part: str, word: str) -> str:
            return self._secret(part, variables, name, word, fill)

        if "://" not in masked:
            return back(masked)
        begin, rest = "", masked
        if (found := _USER.match(masked)) and found["password"]:
            begin = back(found["open"]) + secret(found["password"], "password")
            rest = masked[found.end() :]
        path, mark, query = rest.partition("?")
        pairs = []
        for pair in query.split("&"):
            key, _, value = pair.partition("=")
            word, plain = unquote_plus(back(key)), unquote_plus(value)
            if value and (is_secret_name(word) or without_password(plain) != plain):
                pairs.append(f"{back(key)}={secret(value, word)}")
            else:
                pairs.append(back(pair))
        return begin + back(path) + mark + "&".join(pairs)

    def _masked(self, text: str, name: str, named: Named | None) -> tuple[str, list[str]]:
        """Return a text with one character for each variable, and the variables."""
        masked, variables = "", list[str]()
        for part, is_variable in split_variables(text):
            masked += chr(_PLACES + len(variables)) if is_variable else part
            if is_variable:
                variables.append(self._variable(part, name, named))
        return masked, variables

    def _variable(self, text: str, name: str, named: Named | None) -> str:
        """Return a variable of a file, such that it means the same in another file."""
        inside = text[2:-1]
        if named is None:
            return text
        if inside.startswith("file:"):
            path = os.path.join(named.folder, inside.removeprefix("file:"))
            return f"${{file:{path}}}"
        word, dash, default = inside.partition(":-")
        if named.values.get(word):
            self.variables[word] = named.values[word]
        return f"${{{word}{dash}{self._url(default, name, named.fill, named)}}}"

    def _secret(
        self, part: str, variables: list[str], name: str, word: str, fill: Callable[[str], str]
    ) -> str:
        """Return a variable for a secret; one that is made of variables alone stays."""
        text = _unmasked(part, variables)
        if not _has_letters(text):
            return text
        value = fill(text)
        stem = re.sub(r"[^A-Za-z0-9]+", "_", f"{name}_{word}").upper()
        stem = f"_{stem}" if stem[0].isdigit() else stem
        while {**self._known, **self.variables}.get(stem, value) != value:
            stem += "_2"
        self.variables[stem] = value
        return f"${{{stem}}}"


def known_variables(folder: str) -> Mapping[str, str]:
    """Return the variables that a flows.yml in `folder` finds: the process's, and its `.env`'s."""
    return Environment(folder, os.environ, Problems("flows.yml")).values


def to_set(variables: Mapping[str, str], folder: str) -> str:
    """Return what is still to be set for a file in `folder` with these variables, or ""."""
    known = known_variables(folder)
    missing = [name for name, value in variables.items() if known.get(name) != value]
    if not missing:
        return ""
    return f"holds no password: set {', '.join(missing)}, or write it into .env"


def _unmasked(part: str, variables: list[str]) -> str:
    return re.sub(
        f"[{chr(_PLACES)}-{chr(0xFFFFD)}]", lambda found: variables[ord(found[0]) - _PLACES], part
    )


def _has_letters(text: str) -> bool:
    """Return whether a text is more than variables, or one of them has a default that is."""
    for part, is_variable in split_variables(text):
        if not is_variable:
            return True
        default = "" if part.startswith("${file:") else part[2:-1].partition(":-")[2]
        if _has_letters(default):
            return True
    return False
