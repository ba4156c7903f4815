"""Lenses: the frozen head, the norm lens, the tuned lens, the Prism lens and imported affine lenses."""
