"""Rows: their indices on a device, and values of some rows placed among all."""

from collections.abc import Sequence

import torch
from jaxtyping import Int, Shaped
from torch import Tensor


def row_index(rows: Sequence[int], device: torch.device) -> Int[Tensor, " rows"]:
    """``rows`` on ``device``, copied there without waiting for the work that is queued on it."""
    return torch.tensor(rows, dtype=torch.long, pin_memory=device.type == "cuda").to(device, non_blocking=True)


def among_all_rows(
    values: Shaped[Tensor, "rows *more"], rows: Sequence[int], num_rows: int, fill: float | int = torch.nan
) -> Shaped[Tensor, "all_rows *more"]:
    """``values`` of some rows placed among all of them.

    Args:
        values: Values of ``rows``.
        rows: Which rows they are.
        num_rows: Number of all rows.
        fill: Value at the other rows.
    """
    if len(rows) == num_rows:
        return values
    placed = values.new_full((num_rows, *values.shape[1:]), fill)
    placed[list(rows)] = values
    return placed
