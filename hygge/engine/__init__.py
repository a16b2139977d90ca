"""Engines move the splits of a plan: `inline` in this process, `ray` over lanes of processes.

Ray is imported in this package and nowhere else, and only when a flow runs.
"""
