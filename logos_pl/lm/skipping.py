"""Residual stream of early rows, computed by running only the blocks up to them."""

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int, Integer
from torch import Tensor

from logos_pl.lm.frozen import Forward, FrozenLM
from logos_pl.lm.row_watch import watch_rows


@torch.no_grad()
def residuals_without_later_blocks(
    lm: FrozenLM,
    input_ids: Int[Tensor, "batch seq"],
    rows: Sequence[int],
    attention_mask: Integer[Tensor, "batch seq"] | None = None,
) -> Float[Tensor, "rows batch seq d_model"]:
    """Residuals at every position in the stream's dtype, in the order of ``rows``; later blocks do not run.

    Args:
        lm: The frozen model; only the blocks needed for the rows run.
        input_ids: Token ids; padded where ``attention_mask`` is 0.
        rows: Rows 1 … n, at least one: L is the output of block L.
        attention_mask: 1 for tokens, 0 for padding on either side.

    Raises:
        ValueError: No row, or one outside the model.
    """
    outside = [row for row in rows if not 1 <= row <= lm.num_blocks]
    if outside or not rows:
        raise ValueError(f"rows {list(rows)} must be one or more of 1 … {lm.num_blocks}.")
    kept = torch.empty(len(rows), *input_ids.shape, lm.d_model, dtype=lm.stream_dtype, device=lm.device)
    blocks, last = lm.anatomy.blocks, max(rows)
    # After block n only the final norm would run.
    end = last if last < lm.num_blocks else None
    lm.run([Forward(input_ids, attention_mask, watch_rows(blocks, rows, None, kept), end)])
    return kept
