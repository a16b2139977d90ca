"""The facts about MariaDB that other modules ask for."""

from __future__ import annotations

from hygge.connectors.sql.database import INEXACT, NAMED_ZONES, NESTED, Database, zoned
from hygge.connectors.sql.names import NameRules
from hygge.errors import HyggeError


def _is_mariadb(url: str, who: str, side: type[HyggeError]) -> bool:
    from hygge.connectors.mariadb.session import is_mariadb

    return is_mariadb(url, who, side)  # type: ignore[arg-type]  # a class has a hash


def _ignores_case(url: str, who: str, side: type[HyggeError]) -> bool:
    from hygge.connectors.mariadb.session import ignores_case

    return ignores_case(url, who, side)  # type: ignore[arg-type]  # a class has a hash


MARIADB = Database(
    name="MariaDB",
    backends=("mysql", "mariadb"),
    schema_is_database=True,
    package="hygge.connectors.mariadb",
    sets_aside=True,
    keeps_checks=True,
    default_driver="pymysql",
    timeout_drivers=("pymysql", "mysqldb"),
    names=NameRules(
        longest=64,
        cased_columns=False,
        blank_at_end=False,
        beyond_bmp=False,
        most_columns=1015,  # InnoDB takes 1,017, and what is staged has two of hygge's own
    ),
    port=3306,
    heeds=frozenset({"consistency", "on_value"}),
    holds_snapshots=True,
    tells_sizes=True,
    store_lossy=(
        *NESTED,
        *INEXACT,
        # -0.0, NaN and the infinities are no numbers there, and a decimal has 65 digits.
        *("double", "float", "halffloat"),
        *(f"decimal256({digits}," for digits in range(66, 77)),
        *zoned(NAMED_ZONES),
    ),
    estimates="SELECT table_schema, table_name, table_rows, data_length "
    "FROM information_schema.tables WHERE table_type <> 'VIEW'",
    json_type="json",
    example="mariadb://user@host/db",
    ignores_case=_ignores_case,
    is_served_by=_is_mariadb,
    other_server="MySQL",
)
