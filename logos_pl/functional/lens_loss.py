"""The lens loss: unembedding and KL divergence in one pass that never holds the logits of all rows and positions.

Work is done in blocks (``blocks``). The logits of a block become, in place, the gradient with respect to themselves and
are multiplied by the head at once; backward only scales. Cost per (row, position): 4·d·V FLOP in matrix products, plus
2·d·V/rows for the final distribution; half of it without a gradient. Extra memory: one block, 2/rows of a block for the
final distribution, and a few slices, whatever the number of rows and positions. Softmax and Q − P are fp32 even when
the head is half precision, as late rows would otherwise learn from rounding noise. On CUDA the element-wise part
is one compiled kernel. The loss itself is in docs/method.md §2.1.
"""

from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable

from logos_pl.functional.blocks import logit_blocks, logit_slices
from logos_pl.functional.compiled import compiled_on_cuda
from logos_pl.functional.final_distribution import Distribution, final_distribution
from logos_pl.functional.unembedding import PreparedHead, Unembedding, block_logits, over_vocabulary, prepare

# |Q − P| ≤ 1 is mostly far below fp16's smallest normal number (6e-5); this power of two lifts it and cannot overflow.
_FP16_LIFT = 2.0**14


class LensLoss(NamedTuple):
    """The loss of every row at every position; with the entropy of P_final it is a cross-entropy (CE = KL + H).

    Attributes:
        kl_nats: KL(P_final ‖ P_row), differentiable in ``x`` and ``inv_tau``.
        final_entropy_nats: Entropy of P_final, a constant.
    """

    kl_nats: Float[Tensor, "rows pos"]
    final_entropy_nats: Float[Tensor, "pos"]


@compiled_on_cuda
def _kl_and_gradient(
    z: Float[Tensor, "pos rows vocab"],
    final: Distribution,
    inv_tau: Float[Tensor, "rows"],
    head: PreparedHead,
    grad: bool,
) -> tuple[Float[Tensor, "pos rows"], Float[Tensor, "pos rows"] | None]:
    """KL and its derivative by 1/τ; with ``grad``, ``z`` becomes its own gradient, without the factor 1/τ · amplitude.

    The sum is Σ P (log P − log Q) + Σ (Q − P). Its second part is zero in exact arithmetic; in floating point it
    cancels, to first order, the rounding errors of log P and log Q: fp32 is accurate to ~1e-8 nats.
    """
    scaled = z * (head.amplitude * inv_tau)[:, None]
    log_q = torch.log_softmax(scaled, dim=-1)
    log_ratio = torch.sub(final.log_p, log_q, out=scaled)
    g = log_q.exp_().sub_(final.p)
    kl = torch.addcmul(g, log_ratio, final.p, out=scaled).sum(-1)
    if not grad:
        return kl, None
    g_z = torch.mul(g, z, out=scaled)
    grad_inv_tau = g_z.sum(-1).mul_(head.amplitude)
    if head.capped:
        g.addcmul_(g_z, z, value=-1.0)
    z.copy_(g)
    return kl, grad_inv_tau


def times_head(g: Float[Tensor, "n vocab"], head: PreparedHead) -> Float[Tensor, "n d_head"]:
    """``g @ weight``; ``g`` is overwritten if it is scaled to avoid underflow."""
    if head.operand_dtype == torch.float16:
        return over_vocabulary(g.mul_(_FP16_LIFT), head).div_(_FP16_LIFT)
    return over_vocabulary(g, head)


class _Result(NamedTuple):
    kl: Float[Tensor, "rows pos"]
    entropy: Float[Tensor, "pos"]
    grad_x: Float[Tensor, "rows pos d_head"] | None
    grad_inv_tau: Float[Tensor, "rows pos"] | None


def _by_blocks(
    x: Tensor, final_x: Tensor, inv_tau: Tensor, head: PreparedHead, block_bytes: int, grad: bool
) -> _Result:
    """Loss and gradient of every (row, position), block by block."""
    kl = x.new_empty(x.shape[:2], dtype=head.dtype)
    out = _Result(
        kl,
        kl.new_empty(x.shape[1]),
        torch.empty_like(x, dtype=head.dtype) if grad else None,
        torch.empty_like(kl) if grad else None,
    )
    for pos, parts in logit_blocks(x, head.row_bytes, block_bytes):
        final = final_distribution(final_x[pos], head)
        out.entropy[pos] = torch.mul(final.log_p, final.p).sum(-1).neg_()[:, 0]
        for rows in parts:
            _fill(out, x, final, inv_tau, head, pos, rows)
    return out


def _fill(
    out: _Result, x: Tensor, final: Distribution, inv_tau: Tensor, head: PreparedHead, pos: slice, rows: slice
) -> None:
    """Write loss and gradient of one block into ``out``."""
    z = block_logits(x[rows, pos], head)
    kl, grad_x, grad_inv_tau = out.kl[rows, pos].T, out.grad_x, out.grad_inv_tau
    for p, r in logit_slices(z):
        kl[p, r], by_inv_tau = _kl_and_gradient(z[p, r], final.at(p), inv_tau[rows][r], head, grad_x is not None)
        if grad_inv_tau is not None and by_inv_tau is not None:
            grad_inv_tau[rows, pos].T[p, r] = by_inv_tau
    if grad_x is not None:
        by_x = times_head(z.view(-1, z.shape[-1]), head).view(*z.shape[:2], -1)
        by_x *= inv_tau[rows, None] * (head.scale * head.amplitude)
        grad_x[rows, pos] = by_x.transpose(0, 1)


class _LensLossFunction(torch.autograd.Function):
    """Carries the gradient, formed in the forward pass, to backward, where it is scaled."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, final_x: Tensor, inv_tau: Tensor, head: PreparedHead, block_bytes: int, grad: bool
    ) -> tuple[Tensor, Tensor]:
        found = _by_blocks(x, final_x, inv_tau.to(head.dtype), head, block_bytes, grad)
        ctx.dtypes = x.dtype, inv_tau.dtype
        ctx.mark_non_differentiable(found.entropy)
        if grad:
            ctx.save_for_backward(found.grad_x, found.grad_inv_tau)
        return found.kl, found.entropy

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_kl: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
        grad_x, grad_inv_tau = ctx.saved_tensors
        x_dtype, inv_tau_dtype = ctx.dtypes
        by_x = (grad_x * grad_kl[..., None]).to(x_dtype) if ctx.needs_input_grad[0] else None
        by_inv_tau = (grad_inv_tau * grad_kl).sum(1).to(inv_tau_dtype) if ctx.needs_input_grad[2] else None
        return by_x, None, by_inv_tau, None, None, None


def lens_loss(
    x: Float[Tensor, "rows pos d_head"],
    final_x: Float[Tensor, "pos d_head"],
    inv_tau: Float[Tensor, "rows"],
    head: Unembedding,
    *,
    block_bytes: int = 2**28,
) -> LensLoss:
    """KL(P_final ‖ P_row) in nats for every row and position, and the entropy of P_final, without holding the logits.

    Differentiable (once) in ``x`` and ``inv_tau`` under any weighting of the result; P_final and the head are
    constants.

    Args:
        x: Input of the unembedding, per row: normed, translated and projected.
        final_x: The same for row n, whose temperature is 1.
        inv_tau: 1/τ per row.
        head: The frozen unembedding.
        block_bytes: Upper bound on one block of logits, unless a single row of logits is larger.
    """
    grad = torch.is_grad_enabled() and (x.requires_grad or inv_tau.requires_grad)
    with torch.autocast(x.device.type, enabled=False):
        prepared = prepare(head, x.dtype)
        kl, entropy = _LensLossFunction.apply(x, final_x, inv_tau, prepared, block_bytes, grad)
    return LensLoss(kl, entropy)
