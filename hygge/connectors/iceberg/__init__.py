"""Iceberg tables: a Home and a Store, through the catalog that keeps them."""
