"""The tests of hygge; their folders mirror those of `hygge/`."""

from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
"""The checkout."""
