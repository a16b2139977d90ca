"""Runs the flows of one YAML file: `Coordinator("flows.yml")`, `python -m hygge.coordinator`."""

from hygge.coordinator.coordinator import Coordinator

__all__ = ["Coordinator"]
