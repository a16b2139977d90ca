"""The built-in Homes and Stores: one folder for each database, one for files."""
