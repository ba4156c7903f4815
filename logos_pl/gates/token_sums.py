"""Metric of the cross-entropy with the true next token, summed over batches and processes."""

from typing import NamedTuple

import torch
from torch import Tensor
from torchmetrics import Metric

from logos_pl.lenses.skipping import NextTokenSums


class Perplexities(NamedTuple):
    """Perplexities computed from the sums.

    Attributes:
        num_tokens: Number of predicted tokens.
        by_row: exp(mean nats per token) by row. Not a tensor, as torchmetrics would squeeze one of a single element.
    """

    num_tokens: int
    by_row: list[float]


class TokenSums(Metric):
    """Accumulates `NextTokenSums` in fp64.

    Args:
        num_rows: Number of rows evaluated.
    """

    full_state_update = False
    is_differentiable = False
    nats: Tensor
    num_tokens: Tensor

    def __init__(self, num_rows: int) -> None:
        super().__init__()
        self.add_state("nats", torch.zeros(num_rows, dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("num_tokens", torch.zeros((), dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, sums: NextTokenSums) -> None:
        """Add a batch."""
        self.nats += sums.nats.to(self.nats.device)
        self.num_tokens += sums.num_tokens

    def compute(self) -> Perplexities:
        """Return the perplexities over all batches and processes.

        Raises:
            ValueError: If no token was predicted.
        """
        sums = NextTokenSums(self.nats.cpu(), int(self.num_tokens))
        return Perplexities(sums.num_tokens, sums.perplexities())
