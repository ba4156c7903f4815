"""Means per row of several quantities, exact over batches and processes."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor
from torchmetrics import Metric


class RowMeans(Metric):
    """Means of named quantities at every row, summed in fp64, so that batches and processes merge without loss.

    A value that is not finite is never left out: it makes its row's mean NaN or infinite, and ``nonfinite`` counts the
    positions of each row where any quantity was not finite.

    Args:
        num_rows: Rows of the model.
        names: The quantities.
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
        """Add positions: one tensor for each of the quantities, booleans counting as 0 and 1.

        Raises:
            ValueError: If the quantities are not those the metric was made for.
        """
        if set(values) != set(self.names):
            raise ValueError(f"RowMeans holds {sorted(self.names)} and was given {sorted(values)}: give each of them.")
        stacked = torch.stack([values[name].detach().to(self.sums.device).to(torch.float64) for name in self.names])
        self.sums += stacked.sum(-1)
        self.counts += stacked.shape[-1]
        self.nonfinite += (~stacked.isfinite()).any(0).sum(-1)

    def compute(self) -> dict[str, Float[Tensor, "rows"]]:
        """Mean of every quantity at each row, in fp64, and under ``nonfinite`` the count of positions not finite."""
        means = self.sums / self.counts
        return dict(zip(self.names, means, strict=True)) | {"nonfinite": self.nonfinite.clone()}
