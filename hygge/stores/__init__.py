"""Built-in Stores, one file a kind; the table in `hygge/registry.py` names each."""
