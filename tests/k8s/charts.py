"""k8s/chart, rendered by Helm's own code, which PyPI's helm-python-sdk brings as a library.

In a process of its own: the library is Go, whose runtime takes over the signals of its process.
"""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from typing import Any

import yaml

from tests import ROOT
from tests.k8s.manifests import Manifest
from tests.missing import skipped_without

CHART = ROOT / "k8s" / "chart"
_RENDER = """
import json, sys
import helm_python as helm

path, name, values = json.load(sys.stdin)
with helm.Chart.load(path) as chart:
    chart.validate_schema(chart.merge_values(values))
    print(json.dumps(chart.render(values, name=name, namespace="hygge")))
"""
_LINT = """
import json, sys
import helm_python as helm

print(json.dumps(helm.lint(json.load(sys.stdin))))
"""


def render_chart(values: dict[str, Any], name: str = "hygge") -> list[Manifest]:
    """Return what `helm template` gives with these values; raises ValueError where it refuses."""
    texts = json.loads(_ask(_RENDER, [str(CHART), name, values]))
    files = [text for path, text in sorted(texts.items()) if path.endswith(".yaml")]
    return [each for text in files for each in yaml.safe_load_all(text) if each]


def lint_chart() -> dict[str, Any]:
    """Return what `helm lint` says: messages and errors."""
    said: dict[str, Any] = json.loads(_ask(_LINT, str(CHART)))
    return said


def _ask(code: str, given: object) -> str:
    if importlib.util.find_spec("helm_python") is None:
        skipped_without("Helm", "pip install helm-python-sdk")
    command = [sys.executable, "-c", code]
    ran = subprocess.run(command, input=json.dumps(given), capture_output=True, text=True)
    if ran.returncode:
        raise ValueError(ran.stderr)
    return ran.stdout
