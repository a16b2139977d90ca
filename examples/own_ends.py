"""A Home and a Store of one's own, defined in the script itself; both run in actors."""

import asyncio
import os
import tempfile

import pandas as pd

from hygge import Flow, Home, Store


class MyHome(Home):
    async def read_batches(self):
        for day in range(3):
            yield pd.DataFrame({"day": day, "visits": [day * 10, day * 20]})


class MyStore(Store):
    def __init__(self, path):
        self.path = path

    async def write(self, df):  # df is a pandas DataFrame
        df.to_csv(self.path, mode="a", index=False, header=not os.path.exists(self.path))


async def main() -> None:
    path = os.path.join(tempfile.mkdtemp(), "visits.csv")
    report = await Flow(home=MyHome(), store=MyStore(path), name="visits").start()
    print(f"{report.rows} rows, delivered {report.guarantee}")
    print(pd.read_csv(path).to_string(index=False))


if __name__ == "__main__":
    asyncio.run(main())
