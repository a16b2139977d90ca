"""SQLHome and SQLStore, and the choice of the code for a database."""
