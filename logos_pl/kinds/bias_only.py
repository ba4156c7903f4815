"""Bias-only lens: a baseline with bias and temperature only, fitted and loaded together with a tuned lens."""

from logos_pl.kinds.registry import Baseline, LensKind, register

BIAS_ONLY = register(
    LensKind(
        name="bias",
        label="bias-only lens",
        colour="black",
        first_row=1,
        swept=False,
        baseline=Baseline(words="a lens with bias and temperature only", legend="bias and temperature only"),
    )
)
