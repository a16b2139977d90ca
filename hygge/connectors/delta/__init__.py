"""Delta Lake tables: a Home and a Store, by the library `deltalake`."""
