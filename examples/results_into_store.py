"""What Ray computes settles in a database: each result once, in one transaction."""

import os
import sqlite3
import tempfile
from contextlib import closing
from pathlib import Path

from hygge import Flow, RayDataHome, SQLStore


def main() -> None:
    folder = Path(tempfile.mkdtemp())
    url = os.environ.get("TARGET_URL", f"sqlite:///{folder}/scores.db")

    import ray

    numbers = ray.data.range(10_000, override_num_blocks=4)
    scores = numbers.map_batches(lambda batch: {"id": batch["id"], "score": batch["id"] ** 2 % 97})
    flow = Flow(
        home=RayDataHome(scores, "scores"),
        store=SQLStore("scores", connection=url),
        mode="merge",
        key="id",
        state=folder / "state",
    )
    for _ in range(2):  # the second run changes nothing
        report = flow.run()
        print(f"{report.flow}: {report.rows:,} rows in {report.splits} splits, {report.status}")
    if url.startswith("sqlite:"):
        with closing(sqlite3.connect(folder / "scores.db")) as database:
            print(database.execute("SELECT count(*), sum(score) FROM scores").fetchone())


if __name__ == "__main__":
    main()
