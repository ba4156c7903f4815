"""Metric of means by row, exact over batches and processes."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor
from torchmetrics import Metric


class RowMeans(Metric):
    """Means of named quantities at every row, summed in fp64.

    Non-finite values are not skipped: they make the mean NaN or infinite, and ``nonfinite`` counts the positions of
    each row with a non-finite value.

    Args:
        num_rows: Number of rows.
        names: Names of the quantities.
    """

    full_state_update = False
    is_differentiable = False
    sums: Tensor
    counts: Tensor
    nonfinite: Tensor

    def __init__(self, num_rows: int, names: Sequence[str]) -> None:
        super().__init__()
        self.names = tuple(names)
        self.add_state("sums", torch.zeros(len(self.names), num_rows, dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("counts", torch.zeros(num_rows, dtype=torch.int64), dist_reduce_fx="sum")
        self.add_state("nonfinite", torch.zeros(num_rows, dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, **values: Float[Tensor, "rows pos"]) -> None:
        """Add positions: one tensor for each quantity; booleans count as 0 and 1.

        Raises:
            ValueError: The names of the quantities differ from those of the metric.
        """
        if set(values) != set(self.names):
            raise ValueError(f"RowMeans needs {sorted(self.names)} (got {sorted(values)}).")
        stacked = torch.stack([values[name].detach().to(self.sums.device).to(torch.float64) for name in self.names])
        self.sums += stacked.sum(-1)
        self.counts += stacked.shape[-1]
        self.nonfinite += (~stacked.isfinite()).any(0).sum(-1)

    def compute(self) -> dict[str, Float[Tensor, "rows"]]:
        """Mean of every quantity by row in fp64, and ``nonfinite``, the number of positions with non-finite values."""
        means = self.sums / self.counts
        return dict(zip(self.names, means, strict=True)) | {"nonfinite": self.nonfinite.clone()}
