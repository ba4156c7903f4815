"""Norm lens with one temperature per row: a baseline that `test` fits on validation text."""

from logos_pl.kinds.registry import Baseline, LensKind, register

TEMPERED = register(
    LensKind(
        name="norm_tau",
        label="norm lens with one temperature per row",
        colour="tab:green",
        first_row=0,
        swept=False,
        baseline=Baseline(
            words="the norm lens with one temperature per row", legend="norm lens, a temperature per row"
        ),
    )
)
