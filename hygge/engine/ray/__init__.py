"""The Ray engine: lanes of actors, which one loop in the driver supervises."""
