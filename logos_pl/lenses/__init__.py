"""Lenses: the frozen head, the norm lens, the tuned lens and the affine lens of others."""
