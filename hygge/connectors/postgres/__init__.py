"""PostgreSQL: by COPY and one exported snapshot."""
