"""What several connectors share: files, publishing, SQL. Knows no flow."""
