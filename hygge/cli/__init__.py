"""The `hygge` command; nothing else in hygge imports it."""
