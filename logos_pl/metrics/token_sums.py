"""Cross-entropy to the true next token, summed over batches and processes."""

import torch
from torch import Tensor
from torchmetrics import Metric

from logos_pl.lenses.skipping import NextTokenSums


class TokenSums(Metric):
    """Adds up `NextTokenSums` in fp64.

    Args:
        num_rows: Rows that are read.
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

    def compute(self) -> NextTokenSums:
        """The sums over everything."""
        return NextTokenSums(self.nats.cpu(), int(self.num_tokens))
