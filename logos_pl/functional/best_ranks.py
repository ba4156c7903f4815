"""Ranks of sets of tokens, such as the spellings of one word: the rank of the likeliest of them."""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from logos_pl.functional.blocks import logit_blocks, logit_slices
from logos_pl.functional.unembedding import Unembedding, block_logits, prepare


def _ranks(z: Float[Tensor, "pos rows vocab"], ids: Int[Tensor, "pos sets forms"]) -> Int[Tensor, "pos rows sets"]:
    """1 + the number of logits strictly greater than each set's largest; 0 for empty sets and non-finite rows."""
    of_forms = (
        z[:, :, None, :]
        .expand(-1, -1, ids.shape[1], -1)
        .gather(-1, ids.clamp(min=0)[:, None].expand(-1, z.shape[1], -1, -1))
    )
    largest = of_forms.masked_fill_((ids < 0)[:, None], -torch.inf).amax(-1)
    ranks = torch.stack([(z > of_set[..., None]).sum(-1) + 1 for of_set in largest.unbind(-1)], dim=-1)
    unread = (ids < 0).all(-1)[:, None] | ~z.sum(-1).isfinite()[..., None]
    return ranks.masked_fill_(unread, 0)


@torch.no_grad()
def best_ranks(
    x: Float[Tensor, "rows pos d_head"],
    head: Unembedding,
    ids: Int[Tensor, "pos sets forms"],
    *,
    block_bytes: int = 2**28,
) -> Int[Tensor, "rows pos sets"]:
    """Rank of the likeliest token of each set, at every row and position; 0 for an empty set and a row with NaN.

    Temperatures do not matter: dividing all logits of a row by one number keeps their order.

    Args:
        x: Input of the unembedding, per row.
        head: The frozen unembedding.
        ids: Tokens of each set, by position; −1 where a set has fewer.
        block_bytes: Upper bound on one block of logits, unless a single row of logits is larger.
    """
    with torch.autocast(x.device.type, enabled=False):
        prepared = prepare(head, x.dtype)
        out = torch.zeros(*x.shape[:2], ids.shape[1], dtype=torch.int64, device=x.device)
        for pos, parts in logit_blocks(x, prepared.row_bytes, block_bytes):
            for rows in parts:
                z = block_logits(x[rows, pos], prepared)
                for p, r in logit_slices(z):
                    out[rows, pos][r, p] = _ranks(z[p, r], ids[pos][p]).transpose(0, 1)
    return out
