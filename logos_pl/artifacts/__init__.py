"""Artifacts: trained lenses on disk, verified when they are written and when they are read."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from logos_pl.artifacts.jacobian import load_jacobian
    from logos_pl.artifacts.prism import load_prism
    from logos_pl.artifacts.provenance import Provenance
    from logos_pl.artifacts.tuned_lens import (
        FittedLenses,
        load_bias_only,
        load_lenses,
        load_tuned_lens,
        save_tuned_lens,
    )

__all__ = [
    "FittedLenses",
    "Provenance",
    "load_bias_only",
    "load_jacobian",
    "load_lenses",
    "load_prism",
    "load_tuned_lens",
    "save_tuned_lens",
]


def __getattr__(name: str) -> Any:
    """Import a name on first access, so that reading a provenance needs neither torch nor transformers."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from logos_pl.artifacts import jacobian, prism, tuned_lens

    return getattr({"load_prism": prism, "load_jacobian": jacobian}.get(name, tuned_lens), name)
