"""Everything a sweep reads from a distribution, per row and position, from one pass over blocks of logits."""

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from logos_pl.functional.cosine import cosine, direction
from logos_pl.functional.divergence import NATS_TO_BITS, Reference, divergence_from, reference
from logos_pl.functional.last_row import LastRow, last_row
from logos_pl.functional.pair_readings import PairReadings, pair_readings
from logos_pl.functional.ranks import at_ids, largest, rank_of_ids
from logos_pl.functional.unembedding import (
    PreparedHead,
    Unembedding,
    block_shape,
    prepare,
    slice_shape,
    spans,
    unscaled_logits,
)

__all__ = ["LastRow", "PairReadings", "RowReadings", "last_row", "pair_readings", "row_readings"]

_CPU_BLOCK_BYTES = 2**24


class RowReadings(NamedTuple):
    """What one lens reads at every row and position. Source: docs/method.md §5.1.

    Attributes:
        top_ids: The k likeliest tokens, likeliest first; of equal logits the lowest id is first.
        top_p: Their probabilities.
        rest_mass: Probability of all other tokens.
        entropy_bits: Entropy of P_L.
        kl_to_final_bits: KL(P_L ‖ P_final).
        kl_from_final_bits: KL(P_final ‖ P_L).
        cos_to_final: Cosine of the logits and the final ones, each centred on its mean; 0 if all are equal.
        target_rank: 1 + the number of logits strictly greater than the target's; 0 where there is no target, and
            where the row is not finite.
        target_p: Probability of the target; NaN where there is none.
        target_nll_bits: −log2 of it, from the logits, so that it does not underflow; NaN where there is none.
        target_logit_gap: The target's logit minus the largest other one, after τ: the difference of their
            log-probabilities, nats; NaN where there is none. 0 where the two are equal, though the rank is 1.
        contrast_p: Probability of the contrast; NaN where there is none.
        finite: Whether all logits of the row are finite; where not, the other readings mean nothing.
    """

    top_ids: Int[Tensor, "rows pos k"]
    top_p: Float[Tensor, "rows pos k"]
    rest_mass: Float[Tensor, "rows pos"]
    entropy_bits: Float[Tensor, "rows pos"]
    kl_to_final_bits: Float[Tensor, "rows pos"]
    kl_from_final_bits: Float[Tensor, "rows pos"]
    cos_to_final: Float[Tensor, "rows pos"]
    target_rank: Int[Tensor, "rows pos"]
    target_p: Float[Tensor, "rows pos"]
    target_nll_bits: Float[Tensor, "rows pos"]
    target_logit_gap: Float[Tensor, "rows pos"]
    contrast_p: Float[Tensor, "rows pos"]
    finite: Bool[Tensor, "rows pos"]


class _Context(NamedTuple):
    """What the rows at some positions are compared with."""

    final: Reference
    final_direction: Float[Tensor, "pos 1 vocab"]

    def at(self, pos: slice) -> "_Context":
        """The same for some of the positions."""
        return _Context(Reference(self.final.log_p[pos], self.final.p[pos]), self.final_direction[pos])


def _context(teacher_x: Tensor, head: PreparedHead) -> _Context:
    z = unscaled_logits(teacher_x[:, None], head)
    return _Context(reference(z, head), direction(z))


def _read(
    z: Float[Tensor, "pos rows vocab"], scale: Float[Tensor, "rows"], context: _Context, top_k: int
) -> dict[str, Tensor]:
    """All but what is asked for about one slice of logits, as [pos, rows]; ``z · scale`` are the lens's logits.

    Order is read from ``z``: dividing by τ can make two logits equal.
    """
    mean = z.mean(-1, keepdim=True)
    _, top_ids = largest(z, top_k)
    log_q = torch.log_softmax(z * scale[:, None], dim=-1)
    q = log_q.exp()
    divergence = divergence_from(log_q, q, context.final)
    return {
        "entropy_bits": divergence.entropy_bits,
        "kl_to_final_bits": divergence.kl_to_bits,
        "kl_from_final_bits": divergence.kl_from_bits,
        "cos_to_final": cosine(z, mean, context.final_direction),
        "finite": mean[..., 0].isfinite(),
        "top_ids": top_ids,
        "top_p": q.gather(-1, top_ids),
        # Last, as it takes these out of q. Summed, not 1 − Σ top_p: small masses keep their digits, none is negative.
        "rest_mass": q.scatter_(-1, top_ids, 0.0).sum(-1),
    }


def _read_asked(
    z: Float[Tensor, "pos rows vocab"],
    scale: Float[Tensor, "rows"],
    targets: Int[Tensor, "pos"],
    contrasts: Int[Tensor, "pos"],
) -> dict[str, Tensor]:
    """What is asked for about one slice of logits, as [pos, rows]; where there is no target or contrast, about id 0."""
    top_z, top_ids = largest(z, 2)
    other = torch.where(top_ids[..., 0] == targets[:, None], top_z[..., 1], top_z[..., 0])
    log_q = torch.log_softmax(z * scale[:, None], dim=-1)
    log_p = at_ids(log_q, targets)
    return {
        "target_rank": rank_of_ids(z, targets),
        "target_p": log_p.exp(),
        "target_nll_bits": log_p * -NATS_TO_BITS,
        "target_logit_gap": (at_ids(z, targets) - other) * scale,
        "contrast_p": at_ids(log_q, contrasts).exp_(),
    }


def _fill(out: RowReadings, z: Tensor, scale: Tensor, context: _Context) -> None:
    """Write the readings of one block into ``out`` [rows, pos], slice by slice."""
    top_k = out.top_ids.shape[-1]
    pos_per_slice, rows_per_slice = slice_shape(z)
    for p in spans(z.shape[0], pos_per_slice):
        here = context.at(p)
        for r in spans(z.shape[1], rows_per_slice):
            for name, value in _read(z[p, r], scale[r], here, top_k).items():
                getattr(out, name)[r, p] = value.transpose(0, 1)


def _fill_asked(out: RowReadings, z: Tensor, scale: Tensor, targets: Tensor, contrasts: Tensor) -> None:
    """Write what is asked for into ``out`` [rows, pos]: of few of the positions of a prompt anything is."""
    asked = ((targets >= 0) | (contrasts >= 0)).nonzero()[:, 0]
    pos_per_slice, rows_per_slice = slice_shape(z)
    for p in spans(len(asked), pos_per_slice):
        pos = asked[p]
        for r in spans(z.shape[1], rows_per_slice):
            for name, value in _read_asked(z[pos, r], scale[r], targets[pos], contrasts[pos]).items():
                getattr(out, name)[r, pos] = value.T


def _without_unasked(out: RowReadings, no_target: Bool[Tensor, "pos"], no_contrast: Bool[Tensor, "pos"]) -> RowReadings:
    """``out`` with what stands for "none" where there is none."""
    out.target_rank.masked_fill_(no_target | ~out.finite, 0)
    for value in (out.target_p, out.target_nll_bits, out.target_logit_gap):
        value.masked_fill_(no_target, torch.nan)
    out.contrast_p.masked_fill_(no_contrast, torch.nan)
    return out


def _block_shape(x: Tensor, head: PreparedHead, block_bytes: int) -> tuple[int, int]:
    """Positions and rows per block: on a CPU no more than it takes for the product to be efficient.

    Fresh memory costs a CPU as much as two passes over it, and a product with about d_head rows is already fast.
    """
    if x.device.type == "cpu":
        block_bytes = min(block_bytes, max(_CPU_BLOCK_BYTES, head.weight.nbytes))
    return block_shape(x.shape[1], x.shape[0], head.weight.shape[0] * head.dtype.itemsize, block_bytes)


def _empty(like: Float[Tensor, "rows pos"], top_k: int) -> RowReadings:
    """Room for the readings, in the precision of ``like``."""
    top_p = like.new_empty(*like.shape, top_k)
    room = {name: torch.empty_like(like) for name in RowReadings._fields}
    room |= {"top_p": top_p, "top_ids": torch.empty_like(top_p, dtype=torch.int64)}
    room |= {"target_rank": torch.empty_like(like, dtype=torch.int64)}
    room |= {"finite": torch.empty_like(like, dtype=torch.bool)}
    return RowReadings(**room)


@torch.no_grad()
def row_readings(
    x: Float[Tensor, "rows pos d_head"],
    teacher_x: Float[Tensor, "pos d_head"],
    inv_tau: Float[Tensor, "rows"],
    head: Unembedding,
    targets: Int[Tensor, "pos"],
    contrasts: Int[Tensor, "pos"],
    *,
    top_k: int,
    block_bytes: int = 2**28,
) -> RowReadings:
    """All readings of one lens; memory is bounded by ``block_bytes``, whatever the number of rows and positions.

    Args:
        x: What the head multiplies, per row: normed, translated and projected.
        teacher_x: The same for the last row.
        inv_tau: 1/τ per row; the teacher's is 1.
        head: The frozen unembedding.
        targets: The token asked for at each position; −1 where there is none.
        contrasts: The token to set against it; −1 where there is none.
        top_k: Tokens to list; the vocabulary is at least as large, and has at least two.
        block_bytes: Upper bound on one block of logits, unless a single row of logits is larger.
    """
    num_rows, num_pos, _ = x.shape
    with torch.autocast(x.device.type, enabled=False):
        prepared = prepare(head, x.dtype)
        scale = inv_tau.to(prepared.dtype) * prepared.amplitude
        out = _empty(x.new_empty(num_rows, num_pos, dtype=prepared.dtype), top_k)
        pos_per_block, rows_per_block = _block_shape(x, prepared, block_bytes)
        for pos in spans(num_pos, pos_per_block):
            context = _context(teacher_x[pos], prepared)
            for rows in spans(num_rows, rows_per_block):
                z = unscaled_logits(x[rows, pos].transpose(0, 1), prepared)
                part = RowReadings(*(t[rows, pos] for t in out))
                _fill(part, z, scale[rows], context)
                _fill_asked(part, z, scale[rows], targets[pos], contrasts[pos])
    return _without_unasked(out, targets < 0, contrasts < 0)
