"""The loss of the bias-only lens: a cross-entropy as in the lens loss, with half the matrix products.

A bias is the same at every position, so its gradient needs only the sum of Q − P over the positions, which is
multiplied by the head once. Cost: 2·d·V FLOP in matrix products per (row, position), as much again per row for the
gradient and per position for the final distribution. Extra memory: one block, 2/rows of a block for the final
distribution, a few slices, and [rows, vocab]. Blocks have rows first here, as their sums are over positions.
"""

from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable

from logos_pl.functional.blocks import logit_blocks, logit_slices
from logos_pl.functional.compiled import compiled_on_cuda
from logos_pl.functional.final_distribution import final_distribution
from logos_pl.functional.lens_loss import times_head
from logos_pl.functional.unembedding import PreparedHead, Unembedding, prepare, unscaled_logits


class _Sums(NamedTuple):
    """Sums over positions: cross-entropies, and their derivatives with respect to the (unscaled) logits and 1/τ."""

    cross_entropy: Float[Tensor, "rows"]
    by_logits: Float[Tensor, "rows vocab"]
    by_inv_tau: Float[Tensor, "rows"]


@compiled_on_cuda
def _add_slice(
    z: Float[Tensor, "rows pos vocab"],
    p: Float[Tensor, "pos vocab"],
    inv_tau: Float[Tensor, "rows"],
    head: PreparedHead,
    sums: _Sums,
) -> None:
    """Add the contribution of some positions of some rows, without the derivative's factor 1/τ · amplitude."""
    scaled = z * (head.amplitude * inv_tau)[:, None, None]
    log_q = torch.log_softmax(scaled, dim=-1)
    sums.cross_entropy.sub_(torch.mul(log_q, p, out=scaled).sum((1, 2)))
    g = log_q.exp_().sub_(p)
    g_z = torch.mul(g, z, out=scaled)
    sums.by_inv_tau.add_(g_z.sum((1, 2)), alpha=head.amplitude)
    if head.capped:
        g.addcmul_(g_z, z, value=-1.0)
    sums.by_logits.add_(g.sum(1))


def _add_block(z: Tensor, p: Tensor, inv_tau: Tensor, head: PreparedHead, sums: _Sums) -> None:
    """Add the contribution of one block, slice by slice."""
    for rows, pos in logit_slices(z):
        _add_slice(z[rows, pos], p[pos], inv_tau[rows], head, _Sums(*(part[rows] for part in sums)))


def _by_blocks(
    x: Tensor, bias: Tensor, inv_tau: Tensor, final_x: Tensor, head: PreparedHead, block_bytes: int
) -> _Sums:
    """The sums over all positions, block by block."""
    zeros = x.new_zeros(x.shape[0], dtype=head.dtype)
    sums = _Sums(zeros, zeros.new_zeros(x.shape[0], head.weight.shape[0]), zeros.clone())
    for pos, parts in logit_blocks(x, head.row_bytes, block_bytes):
        p = final_distribution(final_x[pos], head).p[:, 0]
        for rows in parts:
            of_rows = _Sums(*(part[rows] for part in sums))
            _add_block(unscaled_logits(x[rows, pos] + bias[rows, None], head), p, inv_tau[rows], head, of_rows)
    return sums


class _BiasLossFunction(torch.autograd.Function):
    """Carries the gradient, formed in the forward pass, to backward, where it is scaled."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, bias: Tensor, inv_tau: Tensor, final_x: Tensor, head: PreparedHead, block_bytes: int
    ) -> Tensor:
        by_tau = inv_tau.to(head.dtype)
        sums = _by_blocks(x, bias, by_tau, final_x, head, block_bytes)
        # The mean first: its entries are at most 1, as the product in half precision requires.
        cross_entropy, by_logits, by_inv_tau = (part / max(x.shape[1], 1) for part in sums)
        by_bias = times_head(by_logits, head) * (by_tau * (head.scale * head.amplitude))[:, None]
        ctx.save_for_backward(by_bias.to(bias.dtype), by_inv_tau.to(inv_tau.dtype))
        return cross_entropy

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        by_bias, by_inv_tau = ctx.saved_tensors
        return None, by_bias * grad[:, None], by_inv_tau * grad, None, None, None


def bias_cross_entropy(
    x: Float[Tensor, "rows pos d_head"],
    bias: Float[Tensor, "rows d_head"],
    inv_tau: Float[Tensor, "rows"],
    final_x: Float[Tensor, "pos d_head"],
    head: Unembedding,
    *,
    block_bytes: int = 2**28,
) -> Float[Tensor, "rows"]:
    """CE(P_final, P_row) in nats of the logits ``head(x + bias) / τ``, mean over the positions.

    Differentiable (once) in ``bias`` and ``inv_tau``; everything else is constant.

    Args:
        x: Input of the unembedding, per row: normed and projected, without a bias.
        bias: The row's bias, projected.
        inv_tau: 1/τ per row.
        final_x: Input of the unembedding at row n, whose temperature is 1.
        head: The frozen unembedding.
        block_bytes: Upper bound on one block of logits, unless a single row of logits is larger.
    """
    with torch.autocast(x.device.type, enabled=False):
        prepared = prepare(head, x.dtype)
        loss: Tensor = _BiasLossFunction.apply(x, bias, inv_tau, final_x, prepared, block_bytes)
    return loss
