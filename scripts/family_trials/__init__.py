"""Trials of every architecture of transformers, for ``docs/families.md``."""
