"""The `hygge` command."""
