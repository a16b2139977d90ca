"""Hold bytes durably: a folder or a bucket. Nothing here knows what the bytes mean."""
