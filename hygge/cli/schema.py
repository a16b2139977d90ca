"""`hygge schema`: the JSON Schema of flows.yml, for editors and CI."""

from __future__ import annotations

import argparse
import json


def add_options(command: argparse.ArgumentParser) -> None:
    """Add the arguments of `hygge schema`: there are none."""


def run(arguments: argparse.Namespace) -> int:
    """Print the schema; return the exit code."""
    from hygge.config.json_schema import flows_schema

    print(json.dumps(flows_schema(), indent=2, ensure_ascii=False), flush=True)
    return 0
