"""MariaDB: by its own protocol and LOAD DATA."""
