"""The files of a new folder: a flows.yml whose sample moves rows at once.

Nothing is overwritten.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass

from hygge.config.json_schema import flows_schema
from hygge.config.written import SCHEMA
from hygge.connectors.databases.known import FILE, SERVER
from hygge.errors import UsageError

FLOWS = "flows.yml"
_FLOWS = f"""\
# yaml-language-server: $schema={SCHEMA}
# Each flow moves one data set from its home to its store:  hygge {FLOWS}
# What may stand here: `hygge connectors`, `hygge connectors {SERVER.backends[0]}`.

#connections: # a line with # is not read yet
#  shop: "{SERVER.backends[0]}://app:${{SHOP_PASSWORD}}@localhost/shop"   # the password is in .env

flows:
  orders: # a file becomes Parquet files in a folder; each run replaces them
    home: data/orders.csv
    store: lake/orders

  order_totals: # three of its columns are merged by their key into a table of a {FILE.name} file
    home:
      path: data/orders.csv
      columns: [order_id, customer, total]
      options: {{types: {{total: "decimal(12,2)"}}}}
    store: {FILE.backends[0]}:///shop.db#orders
    mode: merge
    key: order_id

#  customers: # a table of the connection above; each run adds the rows that are new
#    home: {{connection: shop, table: public.customers, cursor: updated_at}}
#    store: lake/customers
#    mode: append
"""
_ENV = """\
# Copy this file to .env, which git ignores, and fill it in. flows.yml reads it: ${SHOP_PASSWORD}
SHOP_PASSWORD=
"""
_IGNORED = """\
# Secrets, the journal of the runs, and what the sample makes
.env
.hygge/
lake/
shop.db*
"""
_ORDERS = """\
order_id,customer,city,total,ordered_at
1,Lucas Sørensen,København,187.37,2026-02-28 09:14:00
2,Aksel Pedersen,Aarhus,430.37,2026-02-28 09:31:12
3,Ida Nielsen,Odense,781.64,2026-03-01 07:02:45
4,Freja Hansen,Aalborg,12.50,2026-03-01 10:20:00
5,Lucas Sørensen,København,99.95,2026-03-01 18:45:30
6,Emma Olsen,,1204.00,2026-03-02 08:00:00
7,Noah Madsen,Esbjerg,55.10,2026-03-02 12:11:09
8,Ida Nielsen,Odense,310.25,2026-03-03 16:59:59
9,Oscar Holm,Randers,78.00,2026-03-04 06:30:00
10,Emma Olsen,,640.80,2026-03-04 21:05:17
"""
_KEPT = (".gitignore", ".env.example")
"""Files that may be there already; they stay as they are."""


@dataclass(frozen=True)
class Started:
    """What `start` did."""

    made: tuple[str, ...]
    """Names of the files that were made."""
    kept: tuple[str, ...]
    """Names of files that were there, and stayed as they are."""


def start(folder: str) -> Started:
    """Write the files of a new folder; make the folder where it is not there.

    Raises UsageError, before it writes anything, where a file would be overwritten.
    """
    texts = _texts()
    if os.path.exists(folder) and not os.path.isdir(folder):
        raise UsageError(f"{folder} is a file, not a folder", "name a new folder: hygge init shop")
    there = [name for name in texts if os.path.lexists(os.path.join(folder, name))]
    if taken := [name for name in there if name not in _KEPT]:
        raise UsageError(
            f"{os.path.join(folder, taken[0])} is there already, and nothing is overwritten",
            "name a new folder: hygge init shop",
        )
    made = []
    try:
        for name, text in texts.items():
            path = os.path.join(folder, name)
            os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
            if name not in there:
                with open(path, "x", encoding="utf-8") as file:
                    file.write(text)
                made.append(name)
    except OSError as error:
        raise UsageError(
            f"{error.filename or folder} cannot be written: {error.strerror}",
            "name a folder that you may write",
        ) from None
    return Started(tuple(made), tuple(there))


def _texts() -> Mapping[str, str]:
    schema = json.dumps(flows_schema(), indent=1, ensure_ascii=False) + "\n"
    return {
        FLOWS: _FLOWS, ".env.example": _ENV, ".gitignore": _IGNORED, SCHEMA: schema,
        "data/orders.csv": _ORDERS,
    }  # fmt: skip
