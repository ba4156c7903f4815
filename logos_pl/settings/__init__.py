"""Typed groups of options, their bounds, and the resolution of `auto`."""
