"""Turn bytes into Arrow and back. Nothing here knows a Home, a Store or a run."""
