"""What lenses read at every row, decoded a few positions at a time: residuals in fp32 never stand there all at once."""

from collections.abc import Iterator

import torch
from jaxtyping import Float, Int
from torch import Tensor

from logos_pl.functional.divergence import RowDivergence, row_divergence
from logos_pl.functional.readings import RowReadings, row_readings
from logos_pl.functional.unembedding import spans
from logos_pl.lenses.norm import Lens


def position_pieces(h: Float[Tensor, "rows pos d_model"], piece_bytes: int) -> Iterator[slice]:
    """Slices of the positions of ``h`` that take at most so many bytes in fp32 each, or are one position."""
    rows, pos, width = h.shape
    return spans(pos, max(1, piece_bytes // (4 * rows * width)))


@torch.no_grad()
def lens_divergence(lens: Lens, h: Float[Tensor, "rows pos d_model"], *, block_bytes: int = 2**28) -> RowDivergence:
    """How every row under a lens differs from the model's own distribution, at every position.

    Args:
        lens: Any lens.
        h: Residuals of rows 0 … n, in order.
        block_bytes: Upper bound on one block of logits, and on one of decoded residuals.
    """
    head, rows = lens.head, list(range(lens.head.num_rows))
    parts = []
    for part in position_pieces(h, block_bytes):
        x, inv_tau = lens.decode_inputs(h[:, part], rows)
        teacher = head.project(head.normalise(h[-1:, part], rows[-1:]))[0]
        parts.append(row_divergence(x, teacher, inv_tau, head.unembedding, block_bytes=block_bytes))
    return RowDivergence(*(torch.cat(same, dim=1) for same in zip(*parts, strict=True)))


@torch.no_grad()
def lens_readings(
    lens: Lens,
    h: Float[Tensor, "rows pos d_model"],
    targets: Int[Tensor, "pos"],
    contrasts: Int[Tensor, "pos"],
    *,
    top_k: int,
    block_bytes: int = 2**28,
    piece_bytes: int = 2**27,
) -> RowReadings:
    """All readings of a lens at every row and position, on the CPU.

    Args:
        lens: Any lens.
        h: Residuals of rows 0 … n, in order.
        targets: The token asked for at each position; −1 where there is none.
        contrasts: The token to set against it; −1 where there is none.
        top_k: Tokens to list.
        block_bytes: Upper bound on one block of logits.
        piece_bytes: Upper bound on the residuals that are decoded at a time.
    """
    head, rows = lens.head, list(range(lens.head.num_rows))
    parts = []
    for part in position_pieces(h, piece_bytes):
        x, inv_tau = lens.decode_inputs(h[:, part], rows)
        teacher = head.project(head.normalise(h[-1:, part], rows[-1:]))[0]
        target, contrast = targets[part].to(x.device), contrasts[part].to(x.device)
        found = row_readings(
            x, teacher, inv_tau, head.unembedding, target, contrast, top_k=top_k, block_bytes=block_bytes
        )
        parts.append([tensor.cpu() for tensor in found])
    return RowReadings(*(torch.cat(same, dim=1) for same in zip(*parts, strict=True)))
