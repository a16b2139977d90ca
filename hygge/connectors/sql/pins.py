"""Settings of sessions that change results: one list for each database.

Every way to open a session takes the list of its server: hygge's own connectors, and SQLAlchemy.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

POSTGRES = {
    # How values are written as text, and read from it. `money` is that of no country.
    "DateStyle": "ISO, YMD", "IntervalStyle": "postgres", "TimeZone": "UTC",
    "timezone_abbreviations": "Default", "extra_float_digits": "1", "bytea_output": "hex",
    "xmloption": "content", "xmlbinary": "base64", "array_nulls": "on", "lc_monetary": "C",
    # How statements are understood, and the catalog's own texts are written.
    "standard_conforming_strings": "on", "backslash_quote": "safe_encoding",
    "transform_null_equals": "off", "quote_all_identifiers": "off",
    # Rows that would be left out in silence.
    "row_security": "off", "gin_fuzzy_search_limit": "0", "zero_damaged_pages": "off",
    "ignore_checksum_failure": "off",
}  # fmt: skip
"""Every setting of a session that changes results, whatever role, database or server say.

The settings of functions that only a user's `query` or `where` calls (`search_path`, `lc_time`,
`default_text_search_config` …) stay as they are. So does what ends in an error (timeouts).
"""
POSTGRES_READING = {
    "default_transaction_read_only": "on", "default_transaction_isolation": "repeatable read",
}  # fmt: skip
POSTGRES_WRITING = {
    "default_transaction_read_only": "off", "default_transaction_isolation": "read committed",
    # Triggers and foreign keys of the target work.
    "session_replication_role": "origin",
}  # fmt: skip

MARIADB_STRICT_MODE = "STRICT_ALL_TABLES,NO_AUTO_VALUE_ON_ZERO,NO_ENGINE_SUBSTITUTION"
"""The `sql_mode` of a session that writes."""
_EVERY, _MARIADB, _MARIADB_10_5, _MYSQL = "", "M!100300", "M!100502", "!80000"
"""The servers that know a setting, as the comment says it that only they carry out."""
_EMPTY = "LEFT('a', 0)"  # '' is NULL while EMPTY_STRING_IS_NULL is on
MARIADB = (
    # Rows that would be left out, and warnings that would be. These numbers are the most that the
    # server has, and its own default: DEFAULT would be what somebody made it.
    ("sql_select_limit", "18446744073709551615", _EVERY),
    ("max_error_count", "64", _EVERY),
    ("sql_notes", "1", _EVERY),
    ("old_mode", f"REPLACE(@@old_mode, 'NO_DUP_KEY_WARNINGS_WITH_IGNORE', {_EMPTY})", _MARIADB),
    ("system_versioning_asof", "DEFAULT", _MARIADB),  # no moment, and not the server's setting
    # How statements are understood. `where` and `query` were written for the server's own mode, so
    # it is kept. But a literal '' must not become NULL, and CHAR has no blanks at its end.
    ("sql_mode", f"REPLACE(REPLACE(@@sql_mode, 'EMPTY_STRING_IS_NULL', {_EMPTY}), "
     f"'PAD_CHAR_TO_FULL_LENGTH', {_EMPTY})", _EVERY),
    ("time_zone", "'+00:00'", _EVERY),
    ("sql_auto_is_null", "0", _EVERY),
    ("max_sort_length", "1024", _EVERY),
    ("sql_quote_show_create", "1", _EVERY),
    ("sql_big_selects", "1", _EVERY),
    ("sql_if_exists", "0", _MARIADB_10_5),
    # What is checked when rows are written.
    ("foreign_key_checks", "1", _EVERY),
    ("unique_checks", "1", _EVERY),
    ("check_constraint_checks", "1", _MARIADB),
    ("sql_safe_updates", "0", _EVERY),
    # What a transaction sees, and what follows it.
    ("completion_type", "0", _EVERY),
    ("tx_isolation", "'REPEATABLE-READ'", _MARIADB),
    ("tx_read_only", "0", _MARIADB),
    ("transaction_isolation", "'REPEATABLE-READ'", _MYSQL),
    ("transaction_read_only", "0", _MYSQL),
)  # fmt: skip
"""Every setting of a session that changes results: name, value as SQL, servers that know it.

Settings of functions that only a user's `query` or `where` calls (`group_concat_max_len`,
`lc_time_names`, `div_precision_increment` …) stay as they are.
"""

SQLITE = {
    # How statements are understood, and what their columns are called.
    "case_sensitive_like": "OFF", "short_column_names": "ON", "full_column_names": "OFF",
    "reverse_unordered_selects": "OFF", "legacy_alter_table": "OFF", "count_changes": "OFF",
    # What a transaction sees, and what is checked when rows are written.
    "read_uncommitted": "OFF", "query_only": "OFF", "writable_schema": "OFF",
    "ignore_check_constraints": "OFF", "foreign_keys": "OFF", "recursive_triggers": "OFF",
}  # fmt: skip
"""Every PRAGMA of a connection that changes results; a build of SQLite has defaults of its own."""

DUCKDB = {
    # How statements are understood, and values are compared. Settings of the whole instance, which
    # the user's own code in the same process may have set, hold in new sessions, too.
    "TimeZone": "UTC", "Calendar": "gregorian", "default_collation": "",
    "integer_division": "false", "ieee_floating_point_ops": "true",
    "old_implicit_casting": "false", "order_by_non_integer_literal": "false",
    "scalar_subquery_error_on_multiple_rows": "true",
    "default_order": "ASC", "default_null_order": "NULLS_LAST",
    "preserve_insertion_order": "true", "preserve_identifier_case": "true",
}  # fmt: skip
"""Every setting of a session that changes results; this version of DuckDB may not know all."""


def postgres_writing(url: str) -> dict[str, str]:
    """Return POSTGRES_WRITING, without what the URL says itself in its `options`."""
    return {name: value for name, value in POSTGRES_WRITING.items() if name not in url}


def in_postgres(settings: Mapping[str, str]) -> str:
    """Return the statement that gives a session these settings.

    What is right already is not set, since some settings need a right. What this version of the
    server does not know is left out.
    """
    rows = ", ".join(
        "('{}', '{}')".format(name, value.replace("'", "''")) for name, value in settings.items()
    )
    return (
        f"SELECT set_config(name, value, false) FROM (VALUES {rows}) AS s (name, value) "
        "WHERE current_setting(name, true) <> value"
    )


def in_mariadb(others: Sequence[str] = ()) -> str:
    """Return the statement that gives a session the settings of MARIADB, and `others`."""
    settings = [*others]
    for name, value, servers in MARIADB:
        if servers == _EVERY:
            settings.append(f"{name} = {value}")
    statement = "SET " + ", ".join(settings)
    for name, value, servers in MARIADB:
        if servers != _EVERY:
            statement += f" /*{servers} , {name} = {value} */"
    return statement


def in_sqlite() -> list[str]:
    """Return the statements that give a connection the settings of SQLITE."""
    return [f"PRAGMA {name} = {value}" for name, value in SQLITE.items()]
