"""Any database through SQLAlchemy, where there is no faster way."""
