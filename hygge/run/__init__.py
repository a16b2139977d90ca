"""One flow from its plan to its outcome."""
