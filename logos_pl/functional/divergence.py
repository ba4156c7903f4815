"""Divergences between a row's next-token distribution and the model's own."""

import math
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from logos_pl.functional.blocks import logit_blocks, logit_slices
from logos_pl.functional.final_distribution import Distribution, distribution, final_logits
from logos_pl.functional.unembedding import PreparedHead, Unembedding, block_logits, prepare

NATS_TO_BITS = 1.0 / math.log(2.0)


def kl_nats(log_p: Float[Tensor, "*lead vocab"], log_q: Float[Tensor, "*lead vocab"]) -> Float[Tensor, "*lead"]:
    """KL(P ‖ Q) over the last axis: entries with P = 0 count as 0, and Q = 0 where P > 0 gives infinity."""
    p = log_p.exp()
    log_ratio = (log_p - log_q).masked_fill(p == 0, 0.0)
    return (p * log_ratio).sum(-1)


def entropy_nats(log_p: Float[Tensor, "*lead vocab"]) -> Float[Tensor, "*lead"]:
    """Entropy of P over the last axis: entries with P = 0 count as 0."""
    p = log_p.exp()
    return -(p * log_p.masked_fill(p == 0, 0.0)).sum(-1)


class RowDivergence(NamedTuple):
    """How each row's distribution P_L differs from the model's P_final, per position.

    Attributes:
        kl_to_final_bits: KL(P_L ‖ P_final).
        kl_from_final_bits: KL(P_final ‖ P_L).
        top1_agree: Both put the same token first; ties go to the lowest id.
        entropy_bits: Entropy of P_L.
    """

    kl_to_final_bits: Float[Tensor, "rows pos"]
    kl_from_final_bits: Float[Tensor, "rows pos"]
    top1_agree: Bool[Tensor, "rows pos"]
    entropy_bits: Float[Tensor, "rows pos"]


class Divergence(NamedTuple):
    """How Q differs from a given P: KL(Q ‖ P), KL(P ‖ Q), and the entropy of Q."""

    kl_to_bits: Float[Tensor, "pos rows"]
    kl_from_bits: Float[Tensor, "pos rows"]
    entropy_bits: Float[Tensor, "pos rows"]


def divergence_from(
    log_q: Float[Tensor, "pos rows vocab"], q: Float[Tensor, "pos rows vocab"], to: Distribution
) -> Divergence:
    """Both divergences and the entropy, of one slice; ``log_q`` is overwritten.

    Both divergences carry ±Σ (Q − P), zero in exact arithmetic, which cancels rounding errors as in the lens loss.
    """
    entropy = torch.mul(q, log_q).sum(-1).neg_()
    log_ratio = log_q.sub_(to.log_p)
    excess = q - to.p
    kl_to = torch.mul(q, log_ratio).sub_(excess).sum(-1)
    kl_from = torch.addcmul(excess, log_ratio, to.p, value=-1.0).sum(-1)
    return Divergence(kl_to * NATS_TO_BITS, kl_from * NATS_TO_BITS, entropy * NATS_TO_BITS)


class _Final(NamedTuple):
    """P_final at some positions, and its first token."""

    distribution: Distribution
    top1: Int[Tensor, "pos 1"]


def _final(final_x: Tensor, head: PreparedHead) -> _Final:
    z = final_logits(final_x, head)
    top1 = z.argmax(-1)
    return _Final(distribution(z, head), top1)


def _compare(
    z: Float[Tensor, "pos rows vocab"], final: _Final, inv_tau: Float[Tensor, "rows"], head: PreparedHead
) -> RowDivergence:
    """Everything about one slice of logits, as [pos, rows].

    The first token is read from the logits themselves: dividing by τ can make two of them equal.
    """
    log_q = torch.log_softmax(z * (head.amplitude * inv_tau)[:, None], dim=-1)
    kl_to_final, kl_from_final, entropy = divergence_from(log_q, log_q.exp(), final.distribution)
    return RowDivergence(kl_to_final, kl_from_final, z.argmax(-1) == final.top1, entropy)


def _fill(out: RowDivergence, z: Tensor, final: _Final, inv_tau: Tensor, head: PreparedHead) -> None:
    """Write the comparison of one block into ``out`` [rows, pos], slice by slice."""
    for p, r in logit_slices(z):
        at_p = _Final(final.distribution.at(p), final.top1[p])
        for target, value in zip(out, _compare(z[p, r], at_p, inv_tau[r], head), strict=True):
            target[r, p] = value.T


@torch.no_grad()
def row_divergence(
    x: Float[Tensor, "rows pos d_head"],
    final_x: Float[Tensor, "pos d_head"],
    inv_tau: Float[Tensor, "rows"],
    head: Unembedding,
    *,
    block_bytes: int = 2**28,
) -> RowDivergence:
    """Divergences in bits, agreement and entropy of every row and position, from one pass over blocks of logits.

    Args:
        x: Input of the unembedding, per row: normed, translated and projected.
        final_x: The same for row n, whose temperature is 1.
        inv_tau: 1/τ per row.
        head: The frozen unembedding.
        block_bytes: Upper bound on one block of logits, unless a single row of logits is larger.
    """
    with torch.autocast(x.device.type, enabled=False):
        prepared = prepare(head, x.dtype)
        inv_tau = inv_tau.to(prepared.dtype)
        new = x.new_empty(x.shape[:2], dtype=prepared.dtype)
        out = RowDivergence(new, new.clone(), torch.empty_like(new, dtype=torch.bool), new.clone())
        for pos, parts in logit_blocks(x, prepared.row_bytes, block_bytes):
            final = _final(final_x[pos], prepared)
            for rows in parts:
                of_block = RowDivergence(*(t[rows, pos] for t in out))
                _fill(of_block, block_logits(x[rows, pos], prepared), final, inv_tau[rows], prepared)
    return out
