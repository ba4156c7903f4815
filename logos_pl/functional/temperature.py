"""Derivatives of the divergence from the final distribution with respect to a row's temperature, by blocks."""

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from logos_pl.functional.blocks import logit_blocks, logit_slices
from logos_pl.functional.final_distribution import final_logits
from logos_pl.functional.unembedding import PreparedHead, Unembedding, block_logits, prepare


class TemperatureSlope(NamedTuple):
    """Derivatives of KL(P_final ‖ Q), Q = softmax(z · inv_tau), with respect to inv_tau, by row and position.

    Attributes:
        slope: The first, E_Q[z] − E_P[z], in nats.
        curvature: The second, Var_Q[z]; it is never negative: the divergence is convex in inv_tau.
    """

    slope: Float[Tensor, "rows pos"]
    curvature: Float[Tensor, "rows pos"]


def _slope(
    z: Float[Tensor, "pos rows vocab"], p: Float[Tensor, "pos 1 vocab"], inv_tau: Tensor, amplitude: float
) -> TemperatureSlope:
    """Both derivatives of one slice of logits, given as z / amplitude; as [pos, rows]."""
    q = torch.softmax(z * (amplitude * inv_tau)[:, None], dim=-1)
    # Centred first: logits may share a large constant, which would swamp their spread. E_Q[centred] is zero.
    centred = z - (q * z).sum(-1, keepdim=True)
    slope = torch.mul(p, centred).sum(-1).mul_(-amplitude)
    return TemperatureSlope(slope, q.mul_(centred.square_()).sum(-1).mul_(amplitude**2))


def _fill(out: TemperatureSlope, z: Tensor, p: Tensor, inv_tau: Tensor, head: PreparedHead) -> None:
    """Write the derivatives of one block of logits into ``out``, slice by slice."""
    for at, r in logit_slices(z):
        for target, value in zip(out, _slope(z[at, r], p[at], inv_tau[r], head.amplitude), strict=True):
            target[r, at] = value.T


@torch.no_grad()
def temperature_slope(
    x: Float[Tensor, "rows pos d_head"],
    final_x: Float[Tensor, "pos d_head"],
    inv_tau: Float[Tensor, "rows"],
    head: Unembedding,
    *,
    block_bytes: int = 2**28,
) -> TemperatureSlope:
    """Both derivatives at ``inv_tau``; memory is bounded by ``block_bytes``.

    Half the work of the lens loss's gradient, which includes that with respect to ``x``; and gives the curvature.

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
        slope = x.new_empty(x.shape[:2], dtype=prepared.dtype)
        out = TemperatureSlope(slope, torch.empty_like(slope))
        for pos, parts in logit_blocks(x, prepared.row_bytes, block_bytes):
            p = torch.softmax(final_logits(final_x[pos], prepared) * prepared.amplitude, dim=-1)
            for rows in parts:
                of_block = TemperatureSlope(*(t[rows, pos] for t in out))
                _fill(of_block, block_logits(x[rows, pos], prepared), p, inv_tau[rows], prepared)
    return out
