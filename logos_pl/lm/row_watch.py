"""Rows of the residual stream, copied while the blocks run."""

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from logos_pl.lm.hooks import Take, Watch


def watch_rows(
    blocks: Sequence[nn.Module],
    rows: Sequence[int],
    index: Int[Tensor, "batch pos"] | None,
    kept: Float[Tensor, "rows batch pos d_model"],
) -> Watch:
    """Copies rows of a forward pass into one tensor.

    Args:
        blocks: All blocks of the model.
        rows: Which rows, in the order in which they are kept; a row may occur several times.
        index: Positions kept for each sequence, on the model's device; None: all.
        kept: Destination. The forward pass ends with a TypeError if this would lose precision.
    """
    slots: dict[int, list[Tensor]] = {}
    for row, slot in zip(rows, kept, strict=True):
        slots.setdefault(row, []).append(slot)
    reads = [(blocks[0], _keeper(0, index, slots.pop(0)))] if 0 in slots else []
    return Watch(reads, [(blocks[row - 1], _keeper(row, index, copies)) for row, copies in slots.items()])


def _keeper(row: int, index: Tensor | None, copies: list[Tensor]) -> Take:
    def keep(h: Tensor | None) -> None:
        if h is None:
            raise TypeError(f"row {row} of the model is not a tensor.")
        for kept in copies:
            _refuse_narrower(h, kept, row)
            _copy(h, index, kept)

    return keep


def _refuse_narrower(h: Tensor, kept: Tensor, row: int) -> None:
    """Check that a row is kept without loss.

    Raises:
        TypeError: Its type is wider than that of the destination.
    """
    if torch.promote_types(h.dtype, kept.dtype) != kept.dtype:
        raise TypeError(f"row {row} of the model is {h.dtype}, and cannot be kept in {kept.dtype} without loss.")


def _copy(h: Tensor, index: Tensor | None, kept: Tensor) -> None:
    """Copies the positions ``index`` of ``h`` into ``kept``."""
    if index is None:
        kept.copy_(h, non_blocking=True)
        return
    index = index[:, :, None].expand_as(kept)
    if h.dtype == kept.dtype and h.device == kept.device:
        torch.gather(h, 1, index, out=kept)
    else:
        kept.copy_(h.gather(1, index), non_blocking=True)
