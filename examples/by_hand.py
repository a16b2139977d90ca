"""The two ends put together by hand: whatever a Home yields, a Store appends."""

import asyncio
import sqlite3
import tempfile
from pathlib import Path

import pandas as pd
from sqlalchemy import create_engine

from hygge import ParquetHome, ParquetStore, SQLHome


async def main() -> None:
    folder = Path(tempfile.mkdtemp())
    database = folder / "users.db"
    users = pd.DataFrame({"id": range(25_000), "name": [f"user {n}" for n in range(25_000)]})
    with sqlite3.connect(database) as connection:
        users.to_sql("users", connection, index=False)
    conn = create_engine(f"sqlite:///{database}")

    home = SQLHome("users", connection=conn, options={"batch_size": 10_000})
    store = ParquetStore("users", path=folder / "users", options={"compression": "snappy"})
    sizes = []
    async for batch in home.read_batches():
        await store.write(batch)
        sizes.append(len(batch))
    print("batches of", sizes)

    await store.write(pd.DataFrame({"id": [25_000], "name": ["one more"]}))
    rows = 0
    async for batch in ParquetHome("users", path=folder / "users").read_batches():
        rows += len(batch)
    print(f"{rows:,} rows are there")


if __name__ == "__main__":
    asyncio.run(main())
