"""A Flow between two ends; the connection comes from HYGGE_DATABASE_URL."""

import asyncio
import os
from pathlib import Path

from hygge import Flow, ParquetStore, SQLHome

SAMPLES = Path(__file__).parent.parent / "samples"


async def main() -> None:
    os.environ.setdefault("HYGGE_DATABASE_URL", f"sqlite:///{SAMPLES}/data/shop.db")
    os.chdir(os.environ.get("OUT", Path(__file__).parent))

    flow = Flow(home=SQLHome("customers"), store=ParquetStore("customers", path="out/customers"))
    report = await flow.start()
    print(f"{report.flow}: {report.rows} rows, {report.status}")


if __name__ == "__main__":
    asyncio.run(main())
