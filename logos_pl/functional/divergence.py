"""Divergences between a row's next-token distribution and the model's own."""

import math
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from logos_pl.functional.unembedding import (
    PreparedHead,
    Unembedding,
    block_shape,
    prepare,
    slice_shape,
    spans,
    unscaled_logits,
)

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
        top1_agree: Both put the same token first; of equal logits the lowest id is first.
        entropy_bits: Entropy of P_L.
    """

    kl_to_final_bits: Float[Tensor, "rows pos"]
    kl_from_final_bits: Float[Tensor, "rows pos"]
    top1_agree: Bool[Tensor, "rows pos"]
    entropy_bits: Float[Tensor, "rows pos"]


class Reference(NamedTuple):
    """A distribution others are compared with; axes of size 1 stand for all rows."""

    log_p: Float[Tensor, "pos #rows vocab"]
    p: Float[Tensor, "pos #rows vocab"]


def reference(z: Float[Tensor, "pos #rows vocab"], head: PreparedHead) -> Reference:
    """The distribution of unscaled logits at temperature 1."""
    log_p = torch.log_softmax(z * head.amplitude, dim=-1)
    return Reference(log_p, log_p.exp())


class Divergence(NamedTuple):
    """How Q differs from a reference P: KL(Q ‖ P), KL(P ‖ Q), and the entropy of Q."""

    kl_to_bits: Float[Tensor, "pos rows"]
    kl_from_bits: Float[Tensor, "pos rows"]
    entropy_bits: Float[Tensor, "pos rows"]


def divergence_from(
    log_q: Float[Tensor, "pos rows vocab"], q: Float[Tensor, "pos rows vocab"], to: Reference
) -> Divergence:
    """Both divergences and the entropy, of one slice; ``log_q`` is overwritten.

    Both divergences carry ±Σ (Q − P), zero in exact arithmetic, which takes rounding away as in the lens loss.
    """
    entropy = torch.mul(q, log_q).sum(-1).neg_()
    log_ratio = log_q.sub_(to.log_p)
    excess = q - to.p
    kl_to = torch.mul(q, log_ratio).sub_(excess).sum(-1)
    kl_from = torch.addcmul(excess, log_ratio, to.p, value=-1.0).sum(-1)
    return Divergence(kl_to * NATS_TO_BITS, kl_from * NATS_TO_BITS, entropy * NATS_TO_BITS)


class _Final(NamedTuple):
    log_p: Float[Tensor, "pos 1 vocab"]
    p: Float[Tensor, "pos 1 vocab"]
    top1: Int[Tensor, "pos 1"]


def _final(teacher_x: Tensor, head: PreparedHead) -> _Final:
    z = unscaled_logits(teacher_x[:, None], head)
    return _Final(*reference(z, head), z.argmax(-1))


def _compare(
    z: Float[Tensor, "pos rows vocab"], final: _Final, inv_tau: Float[Tensor, "rows"], head: PreparedHead
) -> RowDivergence:
    """Everything about one slice of logits, as [pos, rows].

    The first token is read from the logits themselves: dividing by τ can make two of them equal.
    """
    log_q = torch.log_softmax(z * (head.amplitude * inv_tau)[:, None], dim=-1)
    kl_to_final, kl_from_final, entropy = divergence_from(log_q, log_q.exp(), Reference(final.log_p, final.p))
    return RowDivergence(kl_to_final, kl_from_final, z.argmax(-1) == final.top1, entropy)


def _fill(part: RowDivergence, z: Tensor, final: _Final, inv_tau: Tensor, head: PreparedHead) -> None:
    """Write the comparison of one block into ``part``, slice by slice."""
    pos_per_slice, rows_per_slice = slice_shape(z)
    for p in spans(z.shape[0], pos_per_slice):
        at_p = _Final(*(t[p] for t in final))
        for r in spans(z.shape[1], rows_per_slice):
            for target, value in zip(part, _compare(z[p, r], at_p, inv_tau[r], head), strict=True):
                target[r, p] = value.T


@torch.no_grad()
def row_divergence(
    x: Float[Tensor, "rows pos d_head"],
    teacher_x: Float[Tensor, "pos d_head"],
    inv_tau: Float[Tensor, "rows"],
    head: Unembedding,
    *,
    block_bytes: int = 2**28,
) -> RowDivergence:
    """Divergences in bits, agreement and entropy of every row and position, from one pass over blocks of logits.

    Args:
        x: What the head multiplies, per row: normed, translated and projected.
        teacher_x: The same for the last row.
        inv_tau: 1/τ per row; the teacher's is 1.
        head: The frozen unembedding.
        block_bytes: Upper bound on one block of logits, unless a single row of logits is larger.
    """
    num_rows, num_pos, _ = x.shape
    with torch.autocast(x.device.type, enabled=False):
        prepared = prepare(head, x.dtype)
        inv_tau = inv_tau.to(prepared.dtype)
        new = x.new_empty(num_rows, num_pos, dtype=prepared.dtype)
        out = RowDivergence(new, new.clone(), torch.empty_like(new, dtype=torch.bool), new.clone())
        row_bytes = head.weight.shape[0] * prepared.dtype.itemsize
        pos_per_block, rows_per_block = block_shape(num_pos, num_rows, row_bytes, block_bytes)
        for pos in spans(num_pos, pos_per_block):
            final = _final(teacher_x[pos], prepared)
            for rows in spans(num_rows, rows_per_block):
                z = unscaled_logits(x[rows, pos].transpose(0, 1), prepared)
                _fill(RowDivergence(*(t[rows, pos] for t in out)), z, final, inv_tau[rows], prepared)
    return out
