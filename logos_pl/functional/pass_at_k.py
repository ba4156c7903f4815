"""Pass@k: how often wanted tokens are among a lens's k likeliest; the area under it, and the first rows.

Ranks are float64, one line per token and one column per row: 1 for the likeliest token, infinity where nothing was
read. Source: Gurnee et al., *Verbalizable Representations*, 2026; docs/intermediates.md says what it leaves open.
"""

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor

PASS_KS = (1, 5, 10, 100)
"""The k of pass@k that are reported."""

AREA_MAX_K = 100
"""The area under pass@k against log k is taken from k = 1 to this, the last that is reported."""

FOUND_RANK = 10
"""A token is found at a row where its rank is at most this."""

NUM_RECALL_ROWS = 7
"""Equally spaced rows of the recall, without the first and the last row."""


def best_rank(ranks: Float[Tensor, "tokens rows"]) -> Float[Tensor, " tokens"]:
    """Smallest rank of each token over all rows."""
    return ranks.amin(dim=1)


def pass_at(best: Float[Tensor, " tokens"], k: int) -> Float[Tensor, " tokens"]:
    """1 for each token whose rank is at most k, else 0."""
    return (best <= k).double()


def area_under_pass(best: Float[Tensor, " tokens"], max_k: int = AREA_MAX_K) -> Float[Tensor, " tokens"]:
    """Area under pass@k against log k from 1 to ``max_k``, divided by log ``max_k``: 1 at rank 1, 0 from ``max_k`` on.

    Pass@k is a step at the token's rank, so the area is what lies to the right of it.
    """
    return (1 - best.log() / math.log(max_k)).clamp(min=0)


def recall_rows(num_blocks: int) -> tuple[int, ...]:
    """Seven equally spaced inner rows, at depths 1/8, …, 7/8; fewer where a model has fewer inner rows."""
    parts = NUM_RECALL_ROWS + 1
    rows = {round(part * num_blocks / parts) for part in range(1, parts)}
    return tuple(sorted(rows - {0, num_blocks}))


def first_row(ranks: Float[Tensor, "tokens rows"], rank: int = FOUND_RANK) -> Float[Tensor, " tokens"]:
    """First row at which each token's rank is at most ``rank``; the number of rows if there is none."""
    found = ranks <= rank
    first = found.double().argmax(dim=1).double()
    return torch.where(found.any(dim=1), first, float(ranks.shape[1]))


def item_means(values: Float[Tensor, " tokens"], items: Int[Tensor, " tokens"]) -> Float[Tensor, " items"]:
    """Mean over the tokens of each item; items are numbered 0, 1, … and each has a token."""
    sums = torch.zeros(int(items.max()) + 1 if len(items) else 0, dtype=torch.float64)
    counts = torch.zeros_like(sums).index_add_(0, items, torch.ones_like(values, dtype=torch.float64))
    return sums.index_add_(0, items, values.double()) / counts
