"""DuckDB: a database in a file, read and written by one process at a time."""
