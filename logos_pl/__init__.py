"""logos-pl: at which depth does a language model start to know its answer?"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from logos_pl.api import (
        Sweep,
        lens_logits,
        load_lens,
        load_model,
        load_tuned_lens,
        norm_lens,
        skipping_perplexity,
        sweep,
    )
    from logos_pl.artifacts.imported_lens import load_imported_lens
    from logos_pl.artifacts.jacobian import load_jacobian
    from logos_pl.artifacts.prism import load_prism

__all__ = [
    "Sweep",
    "lens_logits",
    "load_imported_lens",
    "load_jacobian",
    "load_lens",
    "load_model",
    "load_prism",
    "load_tuned_lens",
    "norm_lens",
    "skipping_perplexity",
    "sweep",
]


def __getattr__(name: str) -> Any:
    """Import a public function on first access, so that ``import logos_pl`` does not load torch."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from logos_pl import api

    return getattr(api, name)


def __dir__() -> list[str]:
    """Public names and those of the module."""
    return sorted([*globals(), *__all__])
