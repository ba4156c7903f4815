"""Gradients of the last row with respect to every row: one forward pass, one backward pass per output dimension.

The weights stay frozen: the graph begins at row 0. A batch of sequences shares each backward pass, and each sequence
can have its own output dimension.
"""

from collections.abc import Iterator

import torch
from jaxtyping import Float, Int
from torch import Tensor

from logos_pl.errors import InputError
from logos_pl.lm.frozen import FrozenLM
from logos_pl.lm.hooks import Take, gathering


def mean_gradients(
    lm: FrozenLM, input_ids: Int[Tensor, "batch seq"], dims: Int[Tensor, "batch probes"], skip_first: int
) -> Iterator[Float[Tensor, "rows batch d_model"]]:
    """Yields, for each probe, the gradients of an output dimension with respect to rows 0 … n − 1.

    Valid positions are those after the first `skip_first` and before the last. The output is summed over valid
    positions of row n, and its gradient averaged over valid positions of each row. Source: Gurnee et al. 2026,
    https://transformer-circuits.pub/2026/workspace.

    Args:
        lm: The frozen model.
        input_ids: Packed tokens, without padding.
        dims: The output dimensions of each sequence.
        skip_first: Number of positions left out at the beginning.

    Yields:
        Gradients in fp32 on the model's device, for each sequence's own output dimension.

    Raises:
        InputError: The model is streamed or sharded.
        ValueError: No position is valid.
    """
    num_seqs, seq_len = input_ids.shape
    if not 0 <= skip_first < seq_len - 1:
        raise ValueError(f"no position of {seq_len} is left without the first {skip_first} and the last.")
    rows = _rows_in_a_graph(lm, input_ids)
    sources, last = rows[:-1], rows[-1]
    dims, sequences = dims.to(last.device), torch.arange(num_seqs, device=last.device)
    for probe in range(dims.shape[1]):
        wanted = torch.zeros_like(last)
        wanted[sequences, skip_first : seq_len - 1, dims[:, probe]] = 1
        found = torch.autograd.grad(last, sources, wanted, retain_graph=probe + 1 < dims.shape[1])
        yield torch.stack([of[:, skip_first : seq_len - 1].float().mean(1) for of in found])


def _rows_in_a_graph(lm: FrozenLM, input_ids: Int[Tensor, "batch seq"]) -> list[Float[Tensor, "batch seq d_model"]]:
    """Rows 0 … n of a forward pass; row 0 is the leaf of the graph."""
    if lm.streamed is not None or lm.sharing is not None:
        how = "streamed" if lm.sharing is None else "sharded"
        raise InputError(
            f"{lm.model_id} is {how}, and gradients need all of its blocks in memory: give --model.placement "
            "resident, or a larger device."
        )
    rows: list[Tensor] = []
    blocks = lm.anatomy.blocks
    reads, writes = [(blocks[0], _begin(rows))], [(block, _follow(rows)) for block in blocks]
    with torch.enable_grad(), gathering(reads, writes):
        lm.anatomy.body(input_ids=input_ids.to(lm.device), use_cache=False)
    return rows


def _begin(rows: list[Tensor]) -> Take:
    def begin(h: Tensor | None) -> None:
        assert h is not None, "block 0 reads a tensor: verified when the model was loaded"
        rows.append(h.requires_grad_(True))

    return begin


def _follow(rows: list[Tensor]) -> Take:
    def follow(h: Tensor | None) -> None:
        assert h is not None, "every block writes a tensor: verified when the model was loaded"
        rows.append(h)

    return follow
