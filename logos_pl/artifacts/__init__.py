"""Artifacts: trained lenses on disk, verified when they are written and when they are read."""

from logos_pl.artifacts.fingerprint import fingerprint
from logos_pl.artifacts.prism import load_prism
from logos_pl.artifacts.provenance import Provenance
from logos_pl.artifacts.tuned_lens import FittedLenses, load_companion, load_lenses, load_tuned_lens, save_tuned_lens

__all__ = [
    "FittedLenses",
    "Provenance",
    "fingerprint",
    "load_companion",
    "load_lenses",
    "load_prism",
    "load_tuned_lens",
    "save_tuned_lens",
]
