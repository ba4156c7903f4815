"""All metrics of a sweep, per row and position, from one pass over blocks of logits."""

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from logos_pl.functional.blocks import logit_blocks, logit_slices
from logos_pl.functional.cosine import cosine, direction
from logos_pl.functional.divergence import NATS_TO_BITS, divergence_from
from logos_pl.functional.final_distribution import Distribution, distribution, final_logits
from logos_pl.functional.ranks import at_ids, largest, rank_of_ids
from logos_pl.functional.unembedding import PreparedHead, Unembedding, block_logits, prepare

_CPU_BLOCK_BYTES = 2**24


class RowReadings(NamedTuple):
    """What one lens reads at every row and position. Source: docs/method.md §5.1.

    Attributes:
        top_ids: The k likeliest tokens, likeliest first; ties go to the lowest id.
        top_p: Their probabilities.
        rest_mass: Probability of all other tokens.
        entropy_bits: Entropy of P_L.
        kl_to_final_bits: KL(P_L ‖ P_final).
        kl_from_final_bits: KL(P_final ‖ P_L).
        cos_to_final: Cosine of the logits and the final ones, each centred on its mean; 0 if all are equal.
        target_rank: 1 + the number of logits strictly greater than the target's; 0 if there is no target or
            the row is not finite.
        target_p: Probability of the target; NaN if there is none.
        target_nll_bits: −log2 of it, from the logits, so that it does not underflow; NaN if there is none.
        target_logit_gap: The target's logit minus the largest other one, after τ: the difference of their
            log-probabilities, nats; NaN if there is none. 0 where the two are equal, though the rank is 1.
        contrast_p: Probability of the contrast; NaN if there is none.
        followed_rank: 1 + the number of logits strictly greater than that of each followed token; 0 where the row is
            not finite. Entries of id −1 are meaningless, here and in `followed_p`.
        followed_p: Their probabilities.
        finite: Whether all logits of the row are finite; if not, the other readings are meaningless.
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
    followed_rank: Int[Tensor, "rows pos followed"]
    followed_p: Float[Tensor, "rows pos followed"]
    finite: Bool[Tensor, "rows pos"]


class _Final(NamedTuple):
    """P_final at some positions, and the direction of its logits."""

    distribution: Distribution
    direction: Float[Tensor, "pos 1 vocab"]

    def at(self, pos: slice) -> "_Final":
        """The same at some of the positions."""
        return _Final(self.distribution.at(pos), self.direction[pos])


def _final(final_x: Tensor, head: PreparedHead) -> _Final:
    z = final_logits(final_x, head)
    unit = direction(z)
    return _Final(distribution(z, head), unit)


class _Answers(NamedTuple):
    """Ids of target and contrast at some positions; −1 if there is none."""

    targets: Int[Tensor, "pos"]
    contrasts: Int[Tensor, "pos"]


def _read(
    z: Float[Tensor, "pos rows vocab"],
    scale: Float[Tensor, "rows"],
    final: _Final,
    top_k: int,
    followed: Int[Tensor, "pos followed"],
) -> dict[str, Tensor]:
    """All but the target and contrast metrics of one slice of logits, as [pos, rows]; ``z · scale`` are the logits.

    Order is read from ``z``: dividing by τ can make two logits equal.
    """
    mean = z.mean(-1, keepdim=True)
    _, top_ids = largest(z, top_k)
    log_q = torch.log_softmax(z * scale[:, None], dim=-1)
    q = log_q.exp()
    divergence = divergence_from(log_q, q, final.distribution)
    return {
        "entropy_bits": divergence.entropy_bits,
        "kl_to_final_bits": divergence.kl_to_bits,
        "kl_from_final_bits": divergence.kl_from_bits,
        "cos_to_final": cosine(z, mean, final.direction),
        "finite": mean[..., 0].isfinite(),
        "top_ids": top_ids,
        "top_p": q.gather(-1, top_ids),
        **_followed(z, q, followed),
        # Last, as it zeroes these in q. Summed, not 1 − Σ top_p: small masses keep their digits, none is negative.
        "rest_mass": q.scatter_(-1, top_ids, 0.0).sum(-1),
    }


def _followed(
    z: Float[Tensor, "pos rows vocab"], q: Float[Tensor, "pos rows vocab"], followed: Int[Tensor, "pos followed"]
) -> dict[str, Tensor]:
    """Rank and probability of followed tokens, as [pos, rows, followed]."""
    p = q.new_empty(*q.shape[:2], followed.shape[1])
    ranks = torch.empty_like(p, dtype=torch.int64)
    for i, ids in enumerate(followed.unbind(1)):
        ranks[..., i], p[..., i] = rank_of_ids(z, ids), at_ids(q, ids)
    return {"followed_rank": ranks, "followed_p": p}


def _read_answer(
    z: Float[Tensor, "pos rows vocab"], scale: Float[Tensor, "rows"], answers: _Answers
) -> dict[str, Tensor]:
    """Target and contrast metrics of one slice of logits, as [pos, rows]; those of id 0 if there is none."""
    targets, contrasts = answers
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


def _fill(out: RowReadings, z: Tensor, scale: Tensor, final: _Final, answers: _Answers, followed: Tensor) -> None:
    """Write the readings of one block into ``out`` [rows, pos], slice by slice."""
    top_k = out.top_ids.shape[-1]
    for p, r in logit_slices(z):
        for name, value in _read(z[p, r], scale[r], final.at(p), top_k, followed[p]).items():
            getattr(out, name)[r, p] = value.transpose(0, 1)
    # Few positions of a prompt have a target or a contrast; only those are read.
    with_answer = ((answers.targets >= 0) | (answers.contrasts >= 0)).nonzero()[:, 0]
    for p, r in logit_slices(z, len(with_answer)):
        pos = with_answer[p]
        for name, value in _read_answer(z[pos, r], scale[r], _Answers(*(ids[pos] for ids in answers))).items():
            getattr(out, name)[r, pos] = value.T


def _masked(out: RowReadings, no_target: Bool[Tensor, "pos"], no_contrast: Bool[Tensor, "pos"]) -> RowReadings:
    """``out`` with rank 0 or NaN if there is no target or contrast."""
    out.target_rank.masked_fill_(no_target | ~out.finite, 0)
    out.followed_rank.masked_fill_(~out.finite[..., None], 0)
    for value in (out.target_p, out.target_nll_bits, out.target_logit_gap):
        value.masked_fill_(no_target, torch.nan)
    out.contrast_p.masked_fill_(no_contrast, torch.nan)
    return out


def _efficient(block_bytes: int, head: PreparedHead) -> int:
    """Bound on blocks; on a CPU no larger than an efficient matrix product needs.

    Allocating memory costs a CPU as much as two passes over it, and a product with about d_head rows is already fast.
    """
    on_cpu = head.weight.device.type == "cpu"
    return min(block_bytes, max(_CPU_BLOCK_BYTES, head.weight.nbytes)) if on_cpu else block_bytes


def _empty(like: Float[Tensor, "rows pos"], top_k: int, num_followed: int) -> RowReadings:
    """Empty tensors for the readings, in the precision of ``like``."""
    top_p = like.new_empty(*like.shape, top_k)
    room = {name: torch.empty_like(like) for name in RowReadings._fields}
    room |= {"top_p": top_p, "top_ids": torch.empty_like(top_p, dtype=torch.int64)}
    followed_p = like.new_empty(*like.shape, num_followed)
    room |= {"followed_p": followed_p, "followed_rank": torch.empty_like(followed_p, dtype=torch.int64)}
    room |= {"target_rank": torch.empty_like(like, dtype=torch.int64)}
    room |= {"finite": torch.empty_like(like, dtype=torch.bool)}
    return RowReadings(**room)


@torch.no_grad()
def row_readings(
    x: Float[Tensor, "rows pos d_head"],
    final_x: Float[Tensor, "pos d_head"],
    inv_tau: Float[Tensor, "rows"],
    head: Unembedding,
    targets: Int[Tensor, "pos"],
    contrasts: Int[Tensor, "pos"],
    *,
    top_k: int,
    followed: Int[Tensor, "pos followed"] | None = None,
    block_bytes: int = 2**28,
) -> RowReadings:
    """All readings of one lens; memory is bounded by ``block_bytes``, whatever the number of rows and positions.

    Args:
        x: Input of the unembedding, per row: normed, translated and projected.
        final_x: The same for row n, whose temperature is 1.
        inv_tau: 1/τ per row.
        head: The frozen unembedding.
        targets: Target token at each position; −1 for none.
        contrasts: Contrast token at each position; −1 for none.
        top_k: Tokens to list; the vocabulary is at least as large, and has at least two.
        followed: Further tokens whose rank and probability are read, by position; −1 for none.
        block_bytes: Upper bound on one block of logits, unless a single row of logits is larger.
    """
    answers = _Answers(targets, contrasts)
    followed = targets.new_empty(len(targets), 0) if followed is None else followed
    with torch.autocast(x.device.type, enabled=False):
        prepared = prepare(head, x.dtype)
        scale = inv_tau.to(prepared.dtype) * prepared.amplitude
        out = _empty(x.new_empty(x.shape[:2], dtype=prepared.dtype), top_k, followed.shape[1])
        for pos, parts in logit_blocks(x, prepared.row_bytes, _efficient(block_bytes, prepared)):
            final, here = _final(final_x[pos], prepared), _Answers(*(ids[pos] for ids in answers))
            for rows in parts:
                of_block = RowReadings(*(t[rows, pos] for t in out))
                _fill(of_block, block_logits(x[rows, pos], prepared), scale[rows], final, here, followed[pos])
    return _masked(out, targets < 0, contrasts < 0)
