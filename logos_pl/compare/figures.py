"""How far two lenses differ, by row, with bootstrap intervals over the sequences of held-out text."""

from typing import Any, NamedTuple

import torch
from torch import Tensor

from logos_pl.compare.module import PairSamples
from logos_pl.functional.bootstrap import Interval, bootstrap_interval


class RowDifference(NamedTuple):
    """Differences at one row, or on average over the inner rows, with 95% intervals.

    Attributes:
        kl_ab_bits: Mean KL(P_A ‖ P_B).
        kl_ba_bits: Mean KL(P_B ‖ P_A).
        top1_overlap_frac: Share of positions at which both put the same token first.
        kl_final_a_bits: Mean KL(P_final ‖ P_A): how far A is from the model.
        kl_final_b_bits: The same for B.
    """

    kl_ab_bits: Interval
    kl_ba_bits: Interval
    top1_overlap_frac: Interval
    kl_final_a_bits: Interval
    kl_final_b_bits: Interval

    def to_plain(self) -> dict[str, Any]:
        """As plain values."""
        return {name: found._asdict() for name, found in self._asdict().items()}


class PairFigures(NamedTuple):
    """Differences by row.

    Attributes:
        rows: Differences by row, for the rows that both lenses read.
        inner: Mean over rows 1 … n − 1 among them; None if there is none.
        num_sequences: Number of sequences of text.
        num_positions: Number of positions.
    """

    rows: dict[int, RowDifference]
    inner: RowDifference | None
    num_sequences: int
    num_positions: int


def measure_pair(samples: PairSamples) -> PairFigures:
    """Means by row with intervals; whole sequences are resampled, the same ones for every row."""
    kinds = [values.double() for values in samples[2:]]
    rows = {
        row: _difference([kind[number] for kind in kinds], samples.sequences) for number, row in enumerate(samples.rows)
    }
    last = samples.rows[-1]
    inner = [number for number, row in enumerate(samples.rows) if 0 < row < last]
    mean = _difference([kind[inner].mean(0) for kind in kinds], samples.sequences) if inner else None
    return PairFigures(rows, mean, len(samples.sequences.unique()), len(samples.sequences))


def _difference(values: list[Tensor], sequences: Tensor) -> RowDifference:
    found = [bootstrap_interval(of_one, "mean", clusters=sequences) for of_one in values]
    return RowDifference(*(interval for interval in found if interval is not None))


def largest(figures: PairFigures) -> tuple[int, RowDifference]:
    """The row at which the two differ most, by the mean of both divergences."""
    means = torch.tensor([of.kl_ab_bits.estimate + of.kl_ba_bits.estimate for of in figures.rows.values()])
    row = list(figures.rows)[int(means.argmax())]
    return row, figures.rows[row]
