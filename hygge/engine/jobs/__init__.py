"""Flows as Ray jobs: submit them, follow them, and reach a cluster from outside."""
