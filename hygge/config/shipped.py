"""Check, before a folder is shipped, that its flows.yml stores nothing in that folder.

Ray unpacks the folder on the cluster and deletes it after the job. A store or a state in there
would be refused by the cluster; here it is refused before the folder is packed and sent.
"""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from hygge.config.document import Node, parse
from hygge.config.environment import Environment
from hygge.config.flows import Reader
from hygge.config.problems import Problems
from hygge.config.specs import GOES_WITH_THE_JOB
from hygge.config.text import read_text
from hygge.errors import ConfigError
from hygge.places.shipped import SHIPPED


def check_places(file: Path) -> None:
    """Raise ConfigError for stores, and a state, that would go with the job.

    Values with variables are left to the cluster, which knows them; so is every other mistake, as
    the cluster may have connectors that this machine does not have.
    """
    text = read_text(str(file), os.environ)
    reader = Reader(f"/ray{SHIPPED}_ray_pkg/{file.name}", {})
    reader.environment = _Unknown(reader.folder, {}, reader.problems)
    with suppress(ConfigError):
        root = parse(text, Problems(str(file))).mapping.get("root")
        if root is not None and "${" in str(root.value):
            return
        reader.read(text)
    reader.problems.raise_those(GOES_WITH_THE_JOB, str(file))


class _Unknown(Environment):
    """Nothing is known of variables, nor of the user's own classes, whose modules are not imported.

    A value that names one is taken for unreadable.
    """

    def fill(self, node: Node, problems: Problems, flow: str | None = None) -> Node:
        if isinstance(node.value, str) and "${" in node.value:
            return replace(node, broken=True)
        filled = super().fill(node, problems, flow)
        kind = filled.mapping.get("type") if filled.is_mapping else None
        if kind is not None and ":" in str(kind.value):
            return replace(filled, value={**filled.mapping, "type": replace(kind, broken=True)})
        return filled
