"""A model's reply token by token, each with the row at which it settled under a lens."""

from collections.abc import Iterator, Sequence, Set
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from logos_pl.functional.settling import settling_rows
from logos_pl.lenses.decoding import lens_readings
from logos_pl.lenses.norm import Lens
from logos_pl.lm.cached import CachedReader
from logos_pl.lm.frozen import FrozenLM
from logos_pl.lm.residuals import residuals


class ReplyToken(NamedTuple):
    """One token of a reply.

    Attributes:
        id: The token, the likeliest of the model's final distribution.
        settled: First row from which it stays the lens's likeliest token; None if it is not that at the last row.
        top_ids: The lens's likeliest token at every row that it reads, at the position before this token.
    """

    id: int
    settled: int | None
    top_ids: tuple[int, ...]


def reply(reader: CachedReader, norm: Lens, lens: Lens, ids: Sequence[int], most: int) -> Iterator[ReplyToken]:
    """Continue a sequence greedily; ends after `most` tokens or with an end-of-text token, which is not yielded.

    Args:
        reader: Reads the sequence, continuing from what it has already read.
        norm: The norm lens, whose last row is the final distribution.
        lens: The lens by which tokens settle.
        ids: The sequence.
        most: Maximum number of tokens.
    """
    ids, ends = list(ids), end_ids(reader.lm)
    for _ in range(most):
        h = reader.read(ids)[:, None]
        top_ids = likeliest(lens, h)
        final = top_ids if lens is norm else likeliest(norm, h)
        (token,) = _tokens(final[-1], top_ids, lens.rows)
        if token.id in ends:
            return
        yield token
        ids.append(token.id)


def read_again(lm: FrozenLM, lens: Lens, ids: Sequence[int], first: int) -> list[ReplyToken]:
    """Reply tokens of a sequence from index `first` on, read with a lens in one forward pass.

    Args:
        lm: The model.
        lens: The lens.
        ids: The whole sequence.
        first: Index of the first of these tokens, at least 1.
    """
    places = torch.arange(first - 1, len(ids) - 1)[None]
    rows = list(range(lm.num_blocks + 1))
    h = residuals(lm, torch.tensor([list(ids)]), places, rows)[:, 0]
    return _tokens(torch.tensor(list(ids[first:])), likeliest(lens, h), lens.rows)


def likeliest(lens: Lens, h: Float[Tensor, "rows pos d_model"]) -> Int[Tensor, "rows pos"]:
    """The lens's likeliest token at every row that it reads and every position, as a sweep reads it."""
    none = torch.full((h.shape[1],), -1)
    return lens_readings(lens, h, none, none, top_k=1).top_ids[..., 0]


def _tokens(ids: Int[Tensor, "pos"], top_ids: Int[Tensor, "rows pos"], rows: Sequence[int]) -> list[ReplyToken]:
    """Reply tokens from a lens's likeliest tokens at `rows`, the rows that it reads."""
    settled = settling_rows(top_ids, ids).tolist()
    return [
        ReplyToken(token, None if slot == len(rows) else rows[slot], tuple(tops))
        for token, slot, tops in zip(ids.tolist(), settled, top_ids.T.tolist(), strict=True)
    ]


def end_ids(lm: FrozenLM) -> Set[int]:
    """Tokens that end a text or a turn, from the model's generation settings and its tokenizer."""
    given = lm.model.generation_config.eos_token_id if lm.model.generation_config is not None else None
    ids = set(given) if isinstance(given, list) else {given}
    if lm.tokenizer is not None:
        ids.add(lm.tokenizer.eos_token_id)
    return {token for token in ids if token is not None}
