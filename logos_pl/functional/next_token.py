"""Cross-entropy to the tokens that really follow, from blocks of logits."""

import torch
from jaxtyping import Float, Int
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


def _fill(nats: Tensor, z: Tensor, inv_tau: Tensor, targets: Tensor, head: PreparedHead) -> None:
    """Write −log q(target) of one block of logits into ``nats`` [rows, pos], slice by slice."""
    pos_per_slice, rows_per_slice = slice_shape(z)
    for p in spans(z.shape[0], pos_per_slice):
        for r in spans(z.shape[1], rows_per_slice):
            part = z[p, r]
            log_q = torch.log_softmax(part * (head.amplitude * inv_tau[r])[:, None], dim=-1)
            index = targets[p, None, None].expand(-1, part.shape[1], 1)
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
        x: What the head multiplies, per row: normed, translated and projected.
        inv_tau: 1/τ per row.
        targets: The token that follows each position.
        head: The frozen unembedding.
        block_bytes: Upper bound on one block of logits, unless a single row of logits is larger.
    """
    num_rows, num_pos, _ = x.shape
    with torch.autocast(x.device.type, enabled=False):
        prepared = prepare(head, x.dtype)
        inv_tau, targets = inv_tau.to(prepared.dtype), targets.to(x.device)
        nats = x.new_empty(num_rows, num_pos, dtype=prepared.dtype)
        row_bytes = head.weight.shape[0] * prepared.dtype.itemsize
        pos_per_block, rows_per_block = block_shape(num_pos, num_rows, row_bytes, block_bytes)
        for pos in spans(num_pos, pos_per_block):
            for rows in spans(num_rows, rows_per_block):
                z = unscaled_logits(x[rows, pos].transpose(0, 1), prepared)
                _fill(nats[rows, pos], z, inv_tau[rows], targets[pos], prepared)
    return nats
