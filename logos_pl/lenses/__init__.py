"""Lenses: the frozen head, the norm lens and the tuned lens."""
