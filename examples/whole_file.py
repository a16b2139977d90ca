"""A Coordinator runs the flows of a YAML file."""

import asyncio
from pathlib import Path

from hygge import Coordinator


async def main() -> None:
    coordinator = Coordinator(Path(__file__).parent.parent / "samples" / "01_users_to_lake.yml")
    summary = await coordinator.start()
    for report in summary.flows:
        print(f"{report.flow}: {report.rows:,} rows, {report.status}")


if __name__ == "__main__":
    asyncio.run(main())
