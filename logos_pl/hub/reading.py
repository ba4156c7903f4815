"""Reads a lens of any kind that a repository holds, with and without its model."""

from pathlib import Path

from logos_pl.artifacts.jacobian import load_jacobian, read_jacobian
from logos_pl.artifacts.prism import load_prism
from logos_pl.artifacts.provenance import Described
from logos_pl.artifacts.tuned_lens import load_lenses
from logos_pl.hub.layout import Kind
from logos_pl.lenses.norm import Lens
from logos_pl.lm.frozen import FrozenLM


def read_alone(kind: Kind, folder: Path) -> Described:
    """Load a lens without its model, which detects what hashes cannot; returns its provenance.

    Raises:
        InputError: A file is missing or altered, or a tensor is not finite or not of its recorded shape.
    """
    if kind == "tuned_lenses":
        return load_lenses(folder).provenance
    return load_prism(folder)[1] if kind == "prisms" else read_jacobian(folder)[1]


def load_bound(kind: Kind, folder: Path, lm: FrozenLM) -> Lens:
    """Load a lens bound to its model.

    Raises:
        InputError: As ``read_alone``, or the model is not the one it was fitted for.
    """
    if kind == "tuned_lenses":
        return load_lenses(folder, lm).tuned
    return load_prism(folder, lm)[0] if kind == "prisms" else load_jacobian(folder, lm)[0]
