"""First rows at which a condition holds: the milestones of a sweep for many positions at once."""

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Int
from torch import Tensor


def first_rows(reached: Bool[Tensor, "rows pos"], rows: Sequence[int]) -> Int[Tensor, " pos"]:
    """First row at which a condition holds, regardless of later rows; −1 if it never does.

    Source: docs/method.md §5.3.

    Args:
        reached: Whether it holds.
        rows: Row that each line of ``reached`` belongs to, in order.
    """
    numbers = torch.tensor([*rows, -1], device=reached.device)
    never = torch.full((reached.shape[1],), len(rows), device=reached.device)
    return numbers[torch.where(reached.any(0), reached.int().argmax(0), never)]
