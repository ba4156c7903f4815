"""Indices of rows on a device."""

from collections.abc import Sequence

import torch
from jaxtyping import Int
from torch import Tensor


def row_index(rows: Sequence[int], device: torch.device) -> Int[Tensor, " rows"]:
    """``rows`` on ``device``, copied there without waiting for the work that is queued on it."""
    return torch.tensor(rows, dtype=torch.long, pin_memory=device.type == "cuda").to(device, non_blocking=True)
