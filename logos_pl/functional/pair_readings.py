"""How two ways to decode the same rows differ, from one pass over blocks of both logits."""

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from logos_pl.functional.blocks import logit_blocks, logit_slices
from logos_pl.functional.divergence import divergence_from
from logos_pl.functional.final_distribution import distribution
from logos_pl.functional.ranks import largest, rank_of_ids
from logos_pl.functional.unembedding import PreparedHead, Unembedding, block_logits, prepare

_JACCARD_TOP = 10


class PairReadings(NamedTuple):
    """How two ways to read the same row differ, per row and position. Source: docs/method.md §5.4, §5.6.

    Attributes:
        kl_bits: KL(P_a ‖ P_b).
        top1_agree: Both put the same token first.
        top10_jaccard: Jaccard index of the ten likeliest tokens of each.
        target_rank_a: 1 + the number of logits strictly greater than the target's; 0 if there is no target or
            these logits are not all finite.
        target_rank_b: The same for the other.
    """

    kl_bits: Float[Tensor, "rows pos"]
    top1_agree: Bool[Tensor, "rows pos"]
    top10_jaccard: Float[Tensor, "rows pos"]
    target_rank_a: Int[Tensor, "rows pos"]
    target_rank_b: Int[Tensor, "rows pos"]


def _jaccard(a: Int[Tensor, "*lead k"], b: Int[Tensor, "*lead k"]) -> Float[Tensor, "*lead"]:
    """Jaccard index of two lists without duplicates."""
    shared = (a[..., :, None] == b[..., None, :]).sum((-2, -1))
    return shared / (2 * a.shape[-1] - shared)


def _rank(z: Float[Tensor, "pos rows vocab"], targets: Int[Tensor, "pos"]) -> Int[Tensor, "pos rows"]:
    return rank_of_ids(z, targets).masked_fill_((targets[:, None] < 0) | ~z.sum(-1).isfinite(), 0)


def _read_pair(z_a: Tensor, z_b: Tensor, targets: Tensor, head: PreparedHead) -> PairReadings:
    """Everything about one slice of both logits, which may be overwritten, as [pos, rows]."""
    (_, top_a), (_, top_b) = (largest(z, min(_JACCARD_TOP, z.shape[-1])) for z in (z_a, z_b))
    rank_a, rank_b = _rank(z_a, targets), _rank(z_b, targets)
    # Last, as it may overwrite the logits.
    kl_bits = divergence_from(*distribution(z_a, head), distribution(z_b, head)).kl_to_bits
    return PairReadings(kl_bits, top_a[..., 0] == top_b[..., 0], _jaccard(top_a, top_b), rank_a, rank_b)


def _fill_pair(out: PairReadings, z_a: Tensor, z_b: Tensor, targets: Tensor, head: PreparedHead) -> None:
    """Write the comparison of one block into ``out`` [rows, pos], slice by slice."""
    for p, r in logit_slices(z_a):
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
        x_a: Input of the unembedding in the first reading, per row.
        x_b: The same in the second.
        head: The frozen unembedding.
        targets: Target token at each position; −1 for none.
        block_bytes: Upper bound on one block of both logits, unless a single row of them is larger.
    """
    with torch.autocast(x_a.device.type, enabled=False):
        prepared = prepare(head, x_a.dtype)
        kl = x_a.new_empty(x_a.shape[:2], dtype=prepared.dtype)
        agree, ranks = torch.empty_like(kl, dtype=torch.bool), torch.empty_like(kl, dtype=torch.int64)
        out = PairReadings(kl, agree, kl.clone(), ranks, ranks.clone())
        for pos, parts in logit_blocks(x_a, 2 * prepared.row_bytes, block_bytes):
            for rows in parts:
                of_block = PairReadings(*(t[rows, pos] for t in out))
                z_a, z_b = block_logits(x_a[rows, pos], prepared), block_logits(x_b[rows, pos], prepared)
                _fill_pair(of_block, z_a, z_b, targets[pos], prepared)
                del z_a, z_b  # before the next two are computed
    return out
