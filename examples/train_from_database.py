"""Train a model on a table that Ray Data reads: each row once an epoch, all of one moment."""

import os
import sqlite3
import tempfile
from contextlib import ExitStack, closing
from pathlib import Path

import numpy as np

from hygge import SQLHome, ray_dataset


def main() -> None:
    folder = Path(tempfile.mkdtemp())
    url = os.environ.get("SOURCE_URL", f"sqlite:///{folder}/houses.db")
    if url.startswith("sqlite:"):
        rows = [(n, n % 7, 3 * (n % 7) + 5) for n in range(20_000)]
        with closing(sqlite3.connect(folder / "houses.db")) as database, database:
            database.execute("CREATE TABLE houses (id INTEGER PRIMARY KEY, rooms REAL, price REAL)")
            database.executemany("INSERT INTO houses VALUES (?, ?, ?)", rows)

    weight = bias = 0.0
    with ExitStack() as snapshot:
        home = SQLHome("houses", connection=url, options={"splits": 4})
        houses = ray_dataset(home, shape={"exclude": ["id"]}, until=snapshot)
        print(houses.schema())
        scaled = houses.map_batches(lambda batch: {**batch, "rooms": batch["rooms"] / 7})
        for _ in range(3):
            seen = 0
            for batch in scaled.iter_batches(batch_size=200):
                error = weight * batch["rooms"] + bias - batch["price"]
                weight -= 0.5 * float(np.mean(error * batch["rooms"]))
                bias -= 0.5 * float(np.mean(error))
                seen += len(error)
            print(f"{seen:,} rows; price = {weight / 7:.1f} * rooms + {bias:.1f}")


if __name__ == "__main__":
    main()
