"""Lenses: the frozen head, the norm lens, the tuned lens, the Prism lens and the affine lens of others."""
