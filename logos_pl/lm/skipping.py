"""The residual stream of early rows from the blocks up to them alone: later blocks never run."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float, Int, Integer
from torch import Tensor, nn

from logos_pl.lm.residuals import refuse_narrower
from logos_pl.lm.trace import output_tensor

if TYPE_CHECKING:
    from logos_pl.lm.frozen import FrozenLM


class _AllKept(Exception):  # noqa: N818 - no error: it ends a forward whose work is done
    """The last row that is wanted has been reached."""


@torch.no_grad()
def residuals_without_later_blocks(
    lm: "FrozenLM",
    input_ids: Int[Tensor, "batch seq"],
    rows: Sequence[int],
    attention_mask: Integer[Tensor, "batch seq"] | None = None,
) -> Float[Tensor, "rows batch seq d_model"]:
    """Residuals at every position in the stream's dtype, in the order of ``rows``; later blocks do not run.

    Args:
        lm: The frozen model; only its body runs, and of it only what the rows need.
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
    with _keeping(lm.anatomy.blocks, rows, kept):
        lm.body(input_ids, attention_mask)
    return kept


@contextmanager
def _keeping(blocks: list[nn.Module], rows: Sequence[int], kept: Tensor) -> Iterator[None]:
    """Hooks that copy outputs of blocks into ``kept`` and end the forward after the last; they always go away."""
    last = max(rows)

    def hook(row: int) -> torch.utils.hooks.RemovableHandle:
        def after(module: nn.Module, args: tuple[Any, ...], output: object) -> None:
            h = output_tensor(output)
            if h is None:
                raise TypeError(f"row {row} of the model is not a tensor.")
            refuse_narrower(h, kept, row)
            for slot in (slot for slot, wanted in enumerate(rows) if wanted == row):
                kept[slot].copy_(h)
            # A hook can end a forward by an exception only. After block n just the final norm is left to run.
            if row == last < len(blocks):
                raise _AllKept

        return blocks[row - 1].register_forward_hook(after)

    handles = [hook(row) for row in set(rows)]
    try:
        yield
    except _AllKept:
        pass
    finally:
        for handle in handles:
            handle.remove()
