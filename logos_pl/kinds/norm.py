"""Norm lens (logit lens): the model's head at every row. Always available, and the reference for all others."""

from logos_pl.kinds.registry import Baseline, LensKind, register

NORM = register(
    LensKind(
        name="norm",
        label="norm lens",
        colour="tab:gray",
        first_row=None,
        validated=True,
        baseline=Baseline(words="the norm lens", legend="norm lens"),
        page_colours=("#6b737d", "#a7afb9"),
    )
)
