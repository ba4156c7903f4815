"""Lenses: the frozen head, the norm lens, the tuned lens and the Prism lens."""
