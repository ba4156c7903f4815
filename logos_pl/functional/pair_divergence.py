"""How far two lenses differ at the same rows, each at its temperatures, from one pass over blocks of both logits."""

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from logos_pl.functional.blocks import logit_blocks, logit_slices
from logos_pl.functional.divergence import divergence_from
from logos_pl.functional.final_distribution import Distribution
from logos_pl.functional.unembedding import PreparedHead, Unembedding, block_logits, prepare


class PairDivergence(NamedTuple):
    """Two lenses A and B at every row and position.

    Attributes:
        kl_ab_bits: KL(P_A ‖ P_B).
        kl_ba_bits: KL(P_B ‖ P_A).
        top1_agree: Both put the same token first; ties go to the lowest id.
    """

    kl_ab_bits: Float[Tensor, "rows pos"]
    kl_ba_bits: Float[Tensor, "rows pos"]
    top1_agree: Bool[Tensor, "rows pos"]


class Decoded(NamedTuple):
    """Input of the unembedding, per row, and 1/τ."""

    x: Float[Tensor, "rows pos d_head"]
    inv_tau: Float[Tensor, "rows"]


def _compare(
    z_a: Float[Tensor, "pos rows vocab"],
    z_b: Float[Tensor, "pos rows vocab"],
    scales: tuple[Float[Tensor, "rows"], Float[Tensor, "rows"]],
) -> PairDivergence:
    """One slice, as [pos, rows]; the first token is read from the logits, since dividing by τ can make two equal."""
    log_a, log_b = (torch.log_softmax(z * scale[:, None], dim=-1) for z, scale in zip((z_a, z_b), scales, strict=True))
    agree = z_a.argmax(-1) == z_b.argmax(-1)
    found = divergence_from(log_a, log_a.exp(), Distribution(log_b, log_b.exp()))
    return PairDivergence(found.kl_to_bits, found.kl_from_bits, agree)


def _fill(out: PairDivergence, z_a: Tensor, z_b: Tensor, scales: tuple[Tensor, Tensor]) -> None:
    """Write the comparison of one block into ``out`` [rows, pos], slice by slice."""
    for p, r in logit_slices(z_a):
        of_slice = _compare(z_a[p, r], z_b[p, r], (scales[0][r], scales[1][r]))
        for target, value in zip(out, of_slice, strict=True):
            target[r, p] = value.T


def _scale(inv_tau: Tensor, head: PreparedHead) -> Tensor:
    return inv_tau.to(head.dtype) * head.amplitude


@torch.no_grad()
def pair_divergence(a: Decoded, b: Decoded, head: Unembedding, *, block_bytes: int = 2**28) -> PairDivergence:
    """Both divergences in bits and top-1 overlap of two lenses at every row and position.

    Args:
        a: The first lens.
        b: The second, at the same rows and positions.
        head: The frozen unembedding of both.
        block_bytes: Upper bound on one block of both logits, unless a single row of them is larger.
    """
    with torch.autocast(a.x.device.type, enabled=False):
        prepared = prepare(head, a.x.dtype)
        kl = a.x.new_empty(a.x.shape[:2], dtype=prepared.dtype)
        out = PairDivergence(kl, kl.clone(), torch.empty_like(kl, dtype=torch.bool))
        scales = _scale(a.inv_tau, prepared), _scale(b.inv_tau, prepared)
        for pos, parts in logit_blocks(a.x, 2 * prepared.row_bytes, block_bytes):
            for rows in parts:
                of_block = PairDivergence(*(t[rows, pos] for t in out))
                z_a, z_b = block_logits(a.x[rows, pos], prepared), block_logits(b.x[rows, pos], prepared)
                _fill(of_block, z_a, z_b, (scales[0][rows], scales[1][rows]))
                del z_a, z_b  # before the next two are computed
    return out
