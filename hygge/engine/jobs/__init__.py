"""Flows as Ray jobs: submitted, followed, and reached from outside."""
