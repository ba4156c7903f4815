"""Cross-entropy of every row to the next token of the text, from blocks of logits."""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from logos_pl.functional.blocks import logit_blocks, logit_slices
from logos_pl.functional.unembedding import PreparedHead, Unembedding, block_logits, prepare


def _fill(nats: Tensor, z: Tensor, inv_tau: Tensor, targets: Tensor, head: PreparedHead) -> None:
    """Write −log q(target) of one block of logits into ``nats`` [rows, pos], slice by slice."""
    for p, r in logit_slices(z):
        log_q = torch.log_softmax(z[p, r] * (head.amplitude * inv_tau[r])[:, None], dim=-1)
        index = targets[p, None, None].expand(-1, log_q.shape[1], 1)
        nats[r, p] = -log_q.gather(-1, index)[..., 0].T


@torch.no_grad()
def next_token_nats(
    x: Float[Tensor, "rows pos d_head"],
    inv_tau: Float[Tensor, "rows"],
    targets: Int[Tensor, "pos"],
    head: Unembedding,
    *,
    block_bytes: int = 2**28,
) -> Float[Tensor, "rows pos"]:
    """−log q(target) in nats for every row and position; memory is bounded by ``block_bytes``.

    Args:
        x: Input of the unembedding, per row: normed, translated and projected.
        inv_tau: 1/τ per row.
        targets: The token that follows each position.
        head: The frozen unembedding.
        block_bytes: Upper bound on one block of logits, unless a single row of logits is larger.
    """
    with torch.autocast(x.device.type, enabled=False):
        prepared = prepare(head, x.dtype)
        inv_tau, targets = inv_tau.to(prepared.dtype), targets.to(x.device)
        nats = x.new_empty(x.shape[:2], dtype=prepared.dtype)
        for pos, parts in logit_blocks(x, prepared.row_bytes, block_bytes):
            for rows in parts:
                _fill(nats[rows, pos], block_logits(x[rows, pos], prepared), inv_tau[rows], targets[pos], prepared)
    return nats
