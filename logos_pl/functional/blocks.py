"""Splits work on many rows and positions to bound memory: blocks and slices of logits, pieces of residuals.

A **block** is the logits of some rows at some positions, ``[pos rows vocab]``, positions first. It takes at most
``block_bytes``, or one row of logits where that alone is larger. It holds as many positions as fit with all their rows;
only where the rows of one position do not fit, it holds as many rows of that position as do. Blocks of the same
positions follow each other, so that the distribution their rows are compared with is computed once.

A **slice** is a part of a block, split in the same way, on which element-wise work is done: 2 MiB on a CPU, where it
stays in the cache, 64 MiB elsewhere, where it is worth a kernel launch.

A **piece** is some positions whose residuals, at all rows that are decoded and in fp32, take at most ``piece_bytes``;
or one position.
"""

from collections.abc import Iterator

from jaxtyping import Float
from torch import Tensor

_CPU_SLICE_BYTES = 2**21
_SLICE_BYTES = 2**26


def spans(total: int, size: int) -> Iterator[slice]:
    """Consecutive slices of ``size`` (the last may be shorter) that cover ``range(total)``."""
    return (slice(start, start + size) for start in range(0, total, size))


def block_shape(num_pos: int, num_rows: int, row_bytes: int, block_bytes: int) -> tuple[int, int]:
    """Positions and rows per block: as many positions × all rows as fit, or some rows of a single position."""
    fits = max(1, block_bytes // row_bytes)
    if fits < num_rows:
        return 1, fits
    return min(fits // max(num_rows, 1), max(num_pos, 1)), max(num_rows, 1)


def logit_blocks(
    x: Float[Tensor, "rows pos d_head"], row_bytes: int, block_bytes: int
) -> Iterator[tuple[slice, Iterator[slice]]]:
    """The positions of each block in turn, with the rows of each block at these positions.

    Yields only indices: the caller frees the logits of a block before computing the next.

    Args:
        x: Input of the unembedding, per row.
        row_bytes: Bytes of the logits of one row at one position.
        block_bytes: Upper bound on one block, unless a single row of logits is larger.
    """
    num_rows, num_pos, _ = x.shape
    pos_per_block, rows_per_block = block_shape(num_pos, num_rows, row_bytes, block_bytes)
    for pos in spans(num_pos, pos_per_block):
        yield pos, spans(num_rows, rows_per_block)


def logit_slices(z: Float[Tensor, "pos rows vocab"], num_pos: int | None = None) -> Iterator[tuple[slice, slice]]:
    """Positions and rows of each slice of a block.

    Args:
        z: The block; where its rows come first, slices are of whole rows instead of whole positions.
        num_pos: Number of positions, if only some of the block's are used; None: all of them.
    """
    slice_bytes = _CPU_SLICE_BYTES if z.device.type == "cpu" else _SLICE_BYTES
    num_pos = z.shape[0] if num_pos is None else num_pos
    pos_per_slice, rows_per_slice = block_shape(num_pos, z.shape[1], z.shape[2] * z.element_size(), slice_bytes)
    for pos in spans(num_pos, pos_per_slice):
        for rows in spans(z.shape[1], rows_per_slice):
            yield pos, rows


def position_pieces(shape: tuple[int, ...], piece_bytes: int) -> Iterator[slice]:
    """The positions of each piece.

    Args:
        shape: ``(rows, pos, d_model)`` of the residuals that are decoded.
        piece_bytes: Upper bound on one piece in fp32, unless a single position is larger.
    """
    num_rows, num_pos, d_model = shape
    return spans(num_pos, max(1, piece_bytes // (4 * num_rows * d_model)))
