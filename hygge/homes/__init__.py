"""Built-in Homes, one file a kind; the registry finds them by file name."""
