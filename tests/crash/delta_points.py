"""One run of a flow from SQLite to a Delta table in a bucket, which dies at a step of its commit.

python -m tests.crash.delta_points <folder> <URL> <mode> [the step at which it dies]
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from hygge import DeltaStore, Flow, SQLHome
from hygge.journal import lease
from tests.crash.points import numbered


def main(folder: Path, url: str, mode: Any, *steps: str) -> None:
    lease._is_gone = lambda held: True  # type: ignore[assignment]  # what holds must hold without it
    cursor = {} if mode == "replace" else {"cursor": "id"}
    home = SQLHome("t", connection=f"sqlite:///{folder}/t.db", **cursor)
    key = ["id"] if mode == "merge" else []
    flow = Flow(home, DeltaStore(path=url), name="f", mode=mode, key=key, engine="inline",
                state=folder / "state")  # fmt: skip
    numbered(dict.fromkeys(steps, "kill"), lambda call: None)
    flow.run()


if __name__ == "__main__":
    main(Path(sys.argv[1]), *sys.argv[2:])
