"""Fisher information of the final distribution with respect to the unembedding's input. Source: docs/method.md §2.2."""

import torch
from jaxtyping import Float
from torch import Tensor

from logos_pl.functional.blocks import logit_blocks, spans
from logos_pl.functional.final_distribution import final_logits
from logos_pl.functional.unembedding import PreparedHead, Unembedding, prepare, widened


@torch.no_grad()
def fisher_metric(
    final_x: Float[Tensor, "pos d_head"], head: Unembedding, *, block_bytes: int = 2**28
) -> Float[Tensor, "d_head d_head"]:
    """Γ with KL(P_final ‖ P) ≈ ½ (x − y) Γ (x − y)ᵀ nats for x near y, mean over positions; in fp64 on the CPU.

    It is the Fisher information Jᵀ (diag p − p pᵀ) J, with J the derivative of the logits, soft-cap included. Its
    mean over positions takes two products: of the unembedding weighted by the mean of p, and of the positions' means.

    Args:
        final_x: Input of the unembedding at row n, y.
        head: The frozen unembedding.
        block_bytes: Upper bound on one block of logits, unless a single position's logits are larger.

    Source: Amari, *Natural Gradient Works Efficiently in Learning*, 1998; the second-order term of a KL divergence.
    """
    prepared = prepare(head, torch.float32)
    vocab = head.weight.shape[0]
    per_token = torch.zeros(vocab, dtype=torch.float64)
    means = []
    for pos, _ in logit_blocks(final_x[None], prepared.row_bytes, block_bytes):
        p, slope = _probabilities_and_slope(final_x[pos], prepared)
        weighted = p * slope
        per_token += (weighted * slope).sum(0).cpu().double()
        means.append(_over_vocabulary(weighted, prepared.weight).cpu().double())
    mean = torch.cat(means)
    spread = torch.zeros(mean.shape[1], mean.shape[1], dtype=torch.float64)
    for part in spans(vocab, 2**14):  # a full copy of the unembedding in fp64 would be twice the model's own
        weight = head.weight[part].cpu().double()
        spread += weight.T @ (weight * per_token[part, None])
    return head.scale**2 * (spread - mean.T @ mean) / final_x.shape[0]


def _over_vocabulary(
    p: Float[Tensor, "pos vocab"], weight: Float[Tensor, "vocab d_head"]
) -> Float[Tensor, "pos d_head"]:
    """``p @ weight`` in the precision of ``p``, regardless of that of the unembedding."""
    if weight.dtype == p.dtype:
        return p @ weight
    out = p.new_zeros(p.shape[0], weight.shape[1])
    for part, piece in widened(weight, p.dtype):
        out.addmm_(p[:, part], piece)
    return out


def _probabilities_and_slope(
    final_x: Float[Tensor, "pos d_head"], head: PreparedHead
) -> tuple[Float[Tensor, "pos vocab"], Float[Tensor, "pos vocab"] | float]:
    """P_final, and the derivative of each logit with respect to the input of the soft-cap."""
    z = final_logits(final_x, head)[:, 0]
    slope = 1 - z.square() if head.capped else 1.0
    return torch.softmax(z * head.amplitude, dim=-1), slope
