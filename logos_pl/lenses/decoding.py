"""Divergences and readings of a lens at the rows it reads, in pieces, since all residuals in fp32 may not fit."""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from logos_pl.functional.best_ranks import best_ranks
from logos_pl.functional.blocks import position_pieces, spans
from logos_pl.functional.divergence import RowDivergence, row_divergence
from logos_pl.functional.final_distribution import final_logits
from logos_pl.functional.pair_divergence import Decoded, PairDivergence, pair_divergence
from logos_pl.functional.readings import RowReadings, row_readings
from logos_pl.functional.unembedding import prepare
from logos_pl.lenses.head import Head
from logos_pl.lenses.norm import Lens


@torch.no_grad()
def lens_divergence(lens: Lens, h: Float[Tensor, "rows pos d_model"], *, block_bytes: int = 2**28) -> RowDivergence:
    """Divergence of every row in ``lens.rows`` from the final distribution, at every position.

    Args:
        lens: Any lens.
        h: Residuals of rows 0 … n, in order.
        block_bytes: Upper bound on one block of logits, and on one of decoded residuals.
    """
    head, rows = lens.head, list(lens.rows)
    parts = []
    for pos in position_pieces((len(rows), *h.shape[1:]), block_bytes):
        x, inv_tau = lens.decode_inputs(_at(h, rows, pos), rows)
        final_x = head.final_x(h[:, pos])
        parts.append(row_divergence(x, final_x, inv_tau, head.unembedding, block_bytes=block_bytes))
    return RowDivergence(*(torch.cat(same, dim=1) for same in zip(*parts, strict=True)))


@torch.no_grad()
def final_top1(head: Head, h: Float[Tensor, "rows pos d_model"], *, block_bytes: int = 2**28) -> Int[Tensor, " pos"]:
    """The model's own most likely token at every position; the lowest id among equal logits.

    Args:
        head: The model's head.
        h: Residuals of any rows, the last of which is row n.
        block_bytes: Upper bound on one block of logits.
    """
    x = head.final_x(h)
    prepared = prepare(head.unembedding, x.dtype)
    size = max(1, block_bytes // prepared.row_bytes)
    return torch.cat([final_logits(x[pos], prepared).argmax(-1)[:, 0] for pos in spans(len(x), size)])


@torch.no_grad()
def lens_transfer(
    lens: Lens, h: Float[Tensor, "rows pos d_model"], maps: list[int], *, block_bytes: int = 2**28
) -> RowDivergence:
    """Divergence from the final distribution when the map of one row is applied to every row, for some maps.

    Rows are treated as positions while decoding, so that no map is copied, and as rows while comparing, so that the
    final distribution is computed only once per position.

    Args:
        lens: Any lens.
        h: Residuals of rows 0 … n, in order.
        maps: Rows whose norm, map and temperature are used.
        block_bytes: Upper bound on one block of logits, and on one of decoded residuals.

    Returns:
        Divergences; the first axis is maps × rows, with the rows of one map contiguous.
    """
    head, num_rows = lens.head, len(h)
    parts = []
    for pos in position_pieces((len(maps) * num_rows, *h.shape[1:]), block_bytes):
        here = h[:, pos]
        num_pos, d_model = here.shape[1:]
        x, inv_tau = lens.decode_inputs(here.reshape(1, -1, d_model).expand(len(maps), -1, -1), maps)
        x, inv_tau = x.reshape(len(maps) * num_rows, num_pos, -1), inv_tau.repeat_interleave(num_rows)
        parts.append(row_divergence(x, head.final_x(here), inv_tau, head.unembedding, block_bytes=block_bytes))
    return RowDivergence(*(torch.cat(same, dim=1) for same in zip(*parts, strict=True)))


@torch.no_grad()
def lens_readings(
    lens: Lens,
    h: Float[Tensor, "rows pos d_model"],
    targets: Int[Tensor, "pos"],
    contrasts: Int[Tensor, "pos"],
    *,
    top_k: int,
    followed: Int[Tensor, "pos followed"] | None = None,
    block_bytes: int = 2**28,
    piece_bytes: int = 2**27,
) -> RowReadings:
    """All readings of a lens at every row in ``lens.rows`` and every position, on the CPU.

    Args:
        lens: Any lens.
        h: Residuals of rows 0 … n, in order.
        targets: Target token at each position; −1 for none.
        contrasts: Contrast token at each position; −1 for none.
        top_k: Number of top tokens.
        followed: Additional tokens whose rank and probability are read, by position; −1 for none.
        block_bytes: Upper bound on one block of logits.
        piece_bytes: Upper bound on the residuals decoded at a time.
    """
    head, rows = lens.head, list(lens.rows)
    parts = []
    for pos in position_pieces((len(rows), *h.shape[1:]), piece_bytes):
        x, inv_tau = lens.decode_inputs(_at(h, rows, pos), rows)
        final_x = head.final_x(h[:, pos])
        target, contrast = targets[pos].to(x.device), contrasts[pos].to(x.device)
        others = None if followed is None else followed[pos].to(x.device)
        found = row_readings(
            x,
            final_x,
            inv_tau,
            head.unembedding,
            target,
            contrast,
            top_k=top_k,
            followed=others,
            block_bytes=block_bytes,
        )
        parts.append([tensor.cpu() for tensor in found])
    return RowReadings(*(torch.cat(same, dim=1) for same in zip(*parts, strict=True)))


@torch.no_grad()
def lens_best_ranks(
    lens: Lens,
    h: Float[Tensor, "all_rows pos d_model"],
    ids: Int[Tensor, "pos sets forms"],
    *,
    block_bytes: int = 2**28,
    piece_bytes: int = 2**27,
) -> Int[Tensor, "rows pos sets"]:
    """Rank of the most likely token of each set, at every row in ``lens.rows`` and every position, on the CPU.

    Args:
        lens: Any lens.
        h: Residuals of rows 0 … n, in order.
        ids: Tokens of each set, by position; −1 where a set has fewer.
        block_bytes: Upper bound on one block of logits.
        piece_bytes: Upper bound on the residuals decoded at a time.
    """
    rows = list(lens.rows)
    parts = []
    for pos in position_pieces((len(rows), *h.shape[1:]), piece_bytes):
        x, _ = lens.decode_inputs(_at(h, rows, pos), rows)
        parts.append(best_ranks(x, lens.head.unembedding, ids[pos].to(x.device), block_bytes=block_bytes).cpu())
    return torch.cat(parts, dim=1)


@torch.no_grad()
def lens_pair_divergence(
    a: Lens, b: Lens, h: Float[Tensor, "all_rows pos d_model"], *, block_bytes: int = 2**28, piece_bytes: int = 2**27
) -> PairDivergence:
    """How two lenses with the same head differ at the rows that both read, at every position, on the CPU.

    Args:
        a: A lens.
        b: Another.
        h: Residuals of rows 0 … n, in order.
        block_bytes: Upper bound on one block of both logits.
        piece_bytes: Upper bound on the residuals decoded at a time.
    """
    rows = [row for row in a.rows if row in b.rows]
    parts = []
    for pos in position_pieces((len(rows), *h.shape[1:]), piece_bytes):
        here = _at(h, rows, pos)
        of_a, of_b = (Decoded(*lens.decode_inputs(here, rows)) for lens in (a, b))
        found = pair_divergence(of_a, of_b, a.head.unembedding, block_bytes=block_bytes)
        parts.append([tensor.cpu() for tensor in found])
    return PairDivergence(*(torch.cat(same, dim=1) for same in zip(*parts, strict=True)))


def _at(h: Float[Tensor, "all_rows all_pos d_model"], rows: list[int], pos: slice) -> Float[Tensor, "rows pos d_model"]:
    """Some rows at some positions; a view if all rows are selected."""
    return h[:, pos] if len(rows) == len(h) else h[rows, pos]
