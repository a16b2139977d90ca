"""Hooks of a flow: what is called with the report when it has ended.

on_success: ./load_dashboard.sh                    # a command
on_failure: ${SLACK_URL}                           # the URL of an HTTP POST
on_failure: [mail-us, {url: "https://chat.example.com/hooks/1", form: slack}]

Their values may be secrets, so no message shows one.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import get_args
from urllib.parse import urlsplit

from hygge.config import values
from hygge.config.document import Node
from hygge.config.problems import Problem, Problems, suggest
from hygge.config.specs import HOOK_KEYS, Hook, HookForm

_SLACK = "hooks.slack.com"
_EXAMPLE = "a command, the URL of an HTTP POST, {url: …, form: slack}, or a list of these"


def read_hooks(
    full: Mapping[str, Node], problems: Problems, flow_of: Callable[[str], str | None]
) -> tuple[Hook, ...]:
    """Return the hooks of a flow; `flow_of` returns its name for a key that it has itself."""
    hooks: list[Hook] = []
    for key in HOOK_KEYS:
        with problems.collect(flow_of(key)):
            if node := values.get(full, key):
                for each in node.elements if node.is_list else [node]:
                    hooks.append(_hook(each, key))
    return tuple(hooks)


def read_lineage(node: Node | None, problems: Problems) -> str:
    """Return the URL of `lineage:`; "" where there is none."""
    if node is None or node.is_broken():
        return ""
    with problems.collect():
        text = node.value.strip() if isinstance(node.value, str) else ""
        if not text.lower().startswith(("http://", "https://")):
            message = "'lineage' is no URL of http:// or https://"
            raise Problem(node.line, message, "lineage: http://marquez.example.com:5000")
        _host_of(text, node, "lineage")
        return text
    return ""


def _hook(node: Node, key: str) -> Hook:
    when = key.removeprefix("on_")
    if not node.is_mapping:
        if not isinstance(node.value, str) or not node.value.strip():
            raise Problem(node.line, f"'{key}' is no command and no URL", _EXAMPLE)
        target = node.value.strip()
        is_url = target.lower().startswith(("http://", "https://"))
        return Hook(when, target, _form_for(target, node, key) if is_url else None)
    for name, child in node.mapping.items():
        if name not in ("url", "form"):
            hint = suggest(f"keys of {key}", name, ("url", "form"))
            raise Problem(child.line, f"'{name}' is not a key of '{key}'", hint)
    url = node.mapping.get("url")
    text = "" if url is None else str(url.value)
    if not text.lower().startswith(("http://", "https://")):
        raise Problem(node.line, f"'{key}' has no `url` of http:// or https://", _EXAMPLE)
    form = node.mapping.get("form")
    usual = _form_for(text, node, key)
    if form is None:
        return Hook(when, text, usual)
    return Hook(when, text, values.read_one_of(form, f"{key}.form", get_args(HookForm)))


def _form_for(url: str, node: Node, key: str) -> HookForm:
    return "slack" if _host_of(url, node, key) == _SLACK else "json"


def _host_of(url: str, node: Node, key: str) -> str:
    """Return the host of a URL; raise Problem where it has none that can be called."""
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        host = None
    if not host or re.search(r"[\s\x00-\x1f]", url) or "@" in parts.netloc:
        raise Problem(
            node.line,
            f"'{key}' has a URL that no host can be called by",
            "https://chat.example.com/hooks/1, with %20 for a blank, and without a password",
        )
    return host
