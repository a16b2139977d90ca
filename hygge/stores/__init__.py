"""Built-in Stores, one file a kind; the registry finds them by file name."""
