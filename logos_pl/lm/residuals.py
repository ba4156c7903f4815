"""The residual stream at chosen rows and positions, gathered while the body runs.

Nothing else is kept: no logits, no other rows, no full-length rows when positions are given.
"""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any

import torch
from jaxtyping import Float, Int, Integer
from torch import Tensor, nn

from logos_pl.lm.frozen import FrozenLM
from logos_pl.lm.hooks import Take, gathering


@torch.no_grad()
def residuals(
    lm: FrozenLM,
    input_ids: Int[Tensor, "batch seq"],
    positions: Int[Tensor, "batch pos"] | None,
    rows: Sequence[int],
    attention_mask: Integer[Tensor, "batch seq"] | None = None,
) -> Float[Tensor, "rows batch pos d_model"]:
    """Residuals in the stream's dtype, in the order of ``rows``; without gradient.

    Args:
        lm: The frozen model; only its body runs.
        input_ids: Token ids; padded where ``attention_mask`` is 0.
        positions: Indices into ``seq`` per sequence; None keeps every position.
        rows: Rows, numbered as in docs/method.md: 0 is the input of the first block, L the output of block L.
        attention_mask: 1 for tokens, 0 for padding on either side. Padding does not affect the residuals of tokens.

    Raises:
        ValueError: A row or a position outside the model or the sequence.
    """
    anatomy = lm.anatomy
    _check(rows, anatomy.num_blocks, positions, input_ids.shape)
    input_ids = input_ids.to(lm.device)
    index = None if positions is None else positions.to(lm.device)
    width = input_ids.shape[1] if index is None else index.shape[1]
    kept = torch.empty(len(rows), input_ids.shape[0], width, anatomy.d_model, **_options(lm))
    with keeping_rows(anatomy.blocks, rows, index, kept):
        lm.body(input_ids, attention_mask)
    return kept


@torch.no_grad()
def sampled_and_whole_residuals(
    lm: FrozenLM,
    input_ids: Int[Tensor, "batch seq"],
    positions: Int[Tensor, "batch pos"],
    rows: Sequence[int],
    whole_rows: Sequence[int],
) -> tuple[Float[Tensor, "rows batch pos d_model"], Float[Tensor, "whole_rows batch seq d_model"]]:
    """Residuals of ``rows`` at chosen positions and of ``whole_rows`` at every position, from one forward pass.

    Args:
        lm: The frozen model; only its body runs.
        input_ids: Token ids, without padding.
        positions: Indices into ``seq`` per sequence.
        rows: Rows kept at those positions.
        whole_rows: Rows kept at every position.

    Raises:
        ValueError: A row or a position outside the model or the sequence.
    """
    anatomy = lm.anatomy
    _check([*rows, *whole_rows], anatomy.num_blocks, positions, input_ids.shape)
    input_ids, index = input_ids.to(lm.device), positions.to(lm.device)
    kept = torch.empty(len(rows), *index.shape, anatomy.d_model, **_options(lm))
    whole = torch.empty(len(whole_rows), *input_ids.shape, anatomy.d_model, **_options(lm))
    with keeping_rows(anatomy.blocks, rows, index, kept), keeping_rows(anatomy.blocks, whole_rows, None, whole):
        lm.body(input_ids)
    return kept, whole


def _options(lm: FrozenLM) -> dict[str, Any]:
    return {"dtype": lm.stream_dtype, "device": lm.device}


def _check(rows: Sequence[int], num_blocks: int, positions: Tensor | None, shape: torch.Size) -> None:
    outside = [row for row in rows if not 0 <= row <= num_blocks]
    if outside:
        raise ValueError(f"rows {outside} are outside 0 … {num_blocks}.")
    if positions is None or positions.numel() == 0 or positions.device.type != "cpu":
        return  # On an accelerator the check would wait for the device at every step; gather itself traps there.
    if positions.min() < 0 or positions.max() >= shape[1]:
        raise ValueError(f"positions must lie in 0 … {shape[1] - 1}.")


def keeping_rows(
    blocks: Sequence[nn.Module],
    rows: Sequence[int],
    index: Int[Tensor, "batch pos"] | None,
    kept: Float[Tensor, "rows batch pos d_model"],
) -> AbstractContextManager[None]:
    """Within a ``with`` statement, copy rows of a forward pass into one tensor.

    Args:
        blocks: All blocks of the model.
        rows: Rows in the order of the copies; a row may be repeated.
        index: Positions to copy from each sequence, on the model's device; None: all.
        kept: Destination. The forward pass raises a TypeError if the copy would lose precision.
    """
    slots: dict[int, list[Tensor]] = {}
    for row, slot in zip(rows, kept, strict=True):
        slots.setdefault(row, []).append(slot)
    reads = [(blocks[0], _keeper(0, index, slots.pop(0)))] if 0 in slots else []
    return gathering(reads, [(blocks[row - 1], _keeper(row, index, copies)) for row, copies in slots.items()])


def _keeper(row: int, index: Tensor | None, copies: list[Tensor]) -> Take:
    def keep(h: Tensor | None) -> None:
        if h is None:
            raise TypeError(f"row {row} of the model is not a tensor.")
        for kept in copies:
            _refuse_narrower(h, kept, row)
            _copy(h, index, kept)

    return keep


def _refuse_narrower(h: Tensor, kept: Tensor, row: int) -> None:
    """Check that a row is copied without loss of precision.

    Raises:
        TypeError: Its dtype is wider than that of the destination.
    """
    if torch.promote_types(h.dtype, kept.dtype) != kept.dtype:
        raise TypeError(f"row {row} of the model is {h.dtype}, and cannot be kept in {kept.dtype} without loss.")


def _copy(h: Tensor, index: Tensor | None, kept: Tensor) -> None:
    """Copies the positions ``index`` of ``h`` into ``kept``."""
    if index is None:
        kept.copy_(h)
        return
    index = index[:, :, None].expand_as(kept)
    if h.dtype == kept.dtype:
        torch.gather(h, 1, index, out=kept)
    else:
        kept.copy_(h.gather(1, index))
