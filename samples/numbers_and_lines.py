"""A Home and a Store of one's own: all that is needed."""

import os

import pandas as pd

from hygge import Home, Store


class Squares(Home):
    def __init__(self, upto: int):
        self.upto = upto

    async def read_batches(self):
        for start in range(0, self.upto, 1000):
            numbers = range(start, min(start + 1000, self.upto))
            yield pd.DataFrame({"n": numbers, "square": [n * n for n in numbers]})


class Lines(Store):
    def __init__(self, path: str):
        self.path = os.path.join(os.path.dirname(__file__), path)

    async def write(self, df):  # df is a pandas DataFrame
        os.makedirs(os.path.dirname(self.path), exist_ok=True)
        with open(self.path, "a") as file:
            file.writelines(f"{row.n} squared is {row.square}\n" for row in df.itertuples())
