"""How two ways to decode the same rows differ, from one pass over blocks of both logits."""

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from logos_pl.functional.divergence import divergence_from, reference
from logos_pl.functional.ranks import largest, rank_of_ids
from logos_pl.functional.unembedding import (
    PreparedHead,
    Unembedding,
    block_shape,
    prepare,
    slice_shape,
    spans,
    unscaled_logits,
)

_JACCARD_TOP = 10


class PairReadings(NamedTuple):
    """How two ways to read the same row differ, per row and position. Source: docs/method.md §5.4, §5.6.

    Attributes:
        kl_bits: KL(P_a ‖ P_b).
        top1_agree: Both put the same token first.
        top10_jaccard: Shared tokens among the first ten of each, over all of them.
        target_rank_a: 1 + the number of logits strictly greater than the target's; 0 where there is no target, and
            where these logits are not all finite.
        target_rank_b: The same for the other.
    """

    kl_bits: Float[Tensor, "rows pos"]
    top1_agree: Bool[Tensor, "rows pos"]
    top10_jaccard: Float[Tensor, "rows pos"]
    target_rank_a: Int[Tensor, "rows pos"]
    target_rank_b: Int[Tensor, "rows pos"]


def _jaccard(a: Int[Tensor, "*lead k"], b: Int[Tensor, "*lead k"]) -> Float[Tensor, "*lead"]:
    """Elements two lists share, over all of theirs; no list names one twice."""
    shared = (a[..., :, None] == b[..., None, :]).sum((-2, -1))
    return shared / (2 * a.shape[-1] - shared)


def _rank(z: Float[Tensor, "pos rows vocab"], targets: Int[Tensor, "pos"]) -> Int[Tensor, "pos rows"]:
    return rank_of_ids(z, targets).masked_fill_((targets[:, None] < 0) | ~z.sum(-1).isfinite(), 0)


def _read_pair(z_a: Tensor, z_b: Tensor, targets: Tensor, head: PreparedHead) -> PairReadings:
    """Everything about one slice of both logits, as [pos, rows]."""
    (_, top_a), (_, top_b) = (largest(z, min(_JACCARD_TOP, z.shape[-1])) for z in (z_a, z_b))
    return PairReadings(
        divergence_from(*reference(z_a, head), reference(z_b, head)).kl_to_bits,
        top_a[..., 0] == top_b[..., 0],
        _jaccard(top_a, top_b),
        _rank(z_a, targets),
        _rank(z_b, targets),
    )


def _fill_pair(out: PairReadings, z_a: Tensor, z_b: Tensor, targets: Tensor, head: PreparedHead) -> None:
    """Write the comparison of one block into ``out`` [rows, pos], slice by slice."""
    pos_per_slice, rows_per_slice = slice_shape(z_a)
    for p in spans(z_a.shape[0], pos_per_slice):
        for r in spans(z_a.shape[1], rows_per_slice):
            for target, value in zip(out, _read_pair(z_a[p, r], z_b[p, r], targets[p], head), strict=True):
                target[r, p] = value.T


@torch.no_grad()
def pair_readings(
    x_a: Float[Tensor, "rows pos d_head"],
    x_b: Float[Tensor, "rows pos d_head"],
    head: Unembedding,
    targets: Int[Tensor, "pos"],
    *,
    block_bytes: int = 2**28,
) -> PairReadings:
    """Two readings of the same rows through one unembedding, at temperature 1.

    Args:
        x_a: What the head multiplies in the first reading, per row.
        x_b: The same in the second.
        head: The frozen unembedding.
        targets: The token asked for at each position; −1 where there is none.
        block_bytes: Upper bound on one block of both logits, unless a single row of them is larger.
    """
    num_rows, num_pos, _ = x_a.shape
    with torch.autocast(x_a.device.type, enabled=False):
        prepared = prepare(head, x_a.dtype)
        kl = x_a.new_empty(num_rows, num_pos, dtype=prepared.dtype)
        agree, ranks = torch.empty_like(kl, dtype=torch.bool), torch.empty_like(kl, dtype=torch.int64)
        out = PairReadings(kl, agree, kl.clone(), ranks, ranks.clone())
        row_bytes = 2 * head.weight.shape[0] * prepared.dtype.itemsize
        pos_per_block, rows_per_block = block_shape(num_pos, num_rows, row_bytes, block_bytes)
        for pos in spans(num_pos, pos_per_block):
            for rows in spans(num_rows, rows_per_block):
                z_a, z_b = (unscaled_logits(x[rows, pos].transpose(0, 1), prepared) for x in (x_a, x_b))
                _fill_pair(PairReadings(*(t[rows, pos] for t in out)), z_a, z_b, targets[pos], prepared)
    return out
