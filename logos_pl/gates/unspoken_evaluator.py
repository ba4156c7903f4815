"""Reads unspoken intermediates with every lens: their ranks, and those of the answers, at every row."""

import math
from collections.abc import Mapping, Sequence
from itertools import accumulate
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from logos_pl.data.unspoken_tokens import TokenizedItem, UnspokenBatch
from logos_pl.functional.row_index import among_all_rows
from logos_pl.lenses.decoding import lens_best_ranks
from logos_pl.lenses.norm import Lens
from logos_pl.lm.residuals import Request, Residuals
from logos_pl.modules.keyed_rows import KeyedRows


class LensRanks(NamedTuple):
    """Ranks under one lens; infinity at rows that it does not read, for non-finite readings, and without an answer.

    Attributes:
        intermediates: Rank of the likeliest spelling of each intermediate, items in order.
        answers: Rank of the likeliest spelling of each item's answer.
        nonfinite: Number of readings, of intermediates or answers at a row, that are not finite.
    """

    intermediates: Float[Tensor, "tokens rows"]
    answers: Float[Tensor, "items rows"]
    nonfinite: int


class UnspokenReadings(NamedTuple):
    """Ranks of all lenses, merged over processes.

    Attributes:
        items: The items.
        of_item: Number of the item that each intermediate belongs to.
        lenses: Ranks by lens.
        final_rank: Rank of each answer in the model's output; infinity without an answer.
    """

    items: list[TokenizedItem]
    of_item: Int[Tensor, " tokens"]
    lenses: dict[str, LensRanks]
    final_rank: Float[Tensor, " items"]


class UnspokenEvaluator(nn.Module):
    """Reads a suite with lenses side by side; holds metrics but no weights.

    Args:
        lenses: Lenses by name, the norm lens among them.
        items: The whole suite; each process reads a part of it.
        block_bytes: Upper bound on one block of logits, in bytes.
    """

    def __init__(self, lenses: Mapping[str, Lens], items: Sequence[TokenizedItem], block_bytes: int) -> None:
        super().__init__()
        self.lenses = dict(lenses)
        self.items = list(items)
        self.block_bytes = block_bytes
        self.num_rows = self.lenses["norm"].head.num_rows
        # A word is an intermediate or an answer; an item has its intermediates, then its answer.
        self._starts = [0, *accumulate(len(item.intermediates) + 1 for item in self.items)]
        self.table = KeyedRows(len(self.lenses) * self.num_rows)

    def request(self, batch: UnspokenBatch) -> Request:
        """What to read from the model: all rows at the place and at the end of each item."""
        return Request(batch.input_ids, batch.positions, list(range(self.num_rows)), batch.attention_mask)

    @torch.no_grad()
    def read(self, batch: UnspokenBatch, found: Residuals) -> None:
        """Rank the words of each item at the last row and all others, by every lens."""
        items = [self.items[number] for number in batch.numbers]
        h, ids = found.rows.flatten(1, 2), _wanted(items, batch.positions.shape[1])
        words = [(number, word) for number, item in enumerate(items) for word in range(len(item.intermediates) + 1)]
        keys = torch.tensor([self._starts[batch.numbers[number]] + word for number, word in words])
        figures = []
        for lens in self.lenses.values():
            ranks = lens_best_ranks(lens, h, ids, block_bytes=self.block_bytes)
            # −1 at rows that are not read, 0 for non-finite readings.
            ranks = among_all_rows(ranks, lens.rows, self.num_rows, -1)
            by_place = ranks.unflatten(1, (len(items), -1)).amax(2)  # a word is ranked at one place, 0 elsewhere
            figures.append(torch.stack([by_place[:, number, word] for number, word in words], dim=1))
        self.table.update(keys, torch.cat(figures).T.float())

    def compute(self) -> UnspokenReadings:
        """All ranks, merged over processes; every process must call this."""
        table = self.table.compute()
        assert table.keys.tolist() == list(range(self._starts[-1])), "some items were never read"
        values = table.values.cpu().double().unflatten(1, (len(self.lenses), self.num_rows))
        answers = torch.tensor([start - 1 for start in self._starts[1:]], dtype=torch.int64)
        has_answer = torch.tensor([bool(item.target) for item in self.items], dtype=torch.bool)
        is_answer = torch.zeros(self._starts[-1], dtype=torch.bool)
        is_answer[answers] = True
        missing = is_answer.clone()
        missing[answers] = ~has_answer
        lenses = {}
        for number, name in enumerate(self.lenses):
            ranks = values[:, number].masked_fill(values[:, number] < 1, math.inf)
            nonfinite = int((values[~missing, number] == 0).sum())
            lenses[name] = LensRanks(ranks[~is_answer], ranks[is_answer], nonfinite)
        of_item = [number for number, item in enumerate(self.items) for _ in item.intermediates]
        return UnspokenReadings(
            self.items, torch.tensor(of_item, dtype=torch.int64), lenses, lenses["norm"].answers[:, -1]
        )


def _wanted(items: Sequence[TokenizedItem], num_places: int) -> Int[Tensor, "pos words forms"]:
    """Tokens to rank at each place of each item: the intermediates at the first place, the answer at the last."""
    most = max(len(item.intermediates) for item in items) + 1
    forms = max(len(of_one) for item in items for of_one in (*item.intermediates, item.target))
    ids = torch.full((len(items), num_places, most, forms), -1)
    for number, item in enumerate(items):
        for word, tokens in enumerate(item.intermediates):
            ids[number, 0, word, : len(tokens)] = torch.tensor(tokens)
        if item.target:
            ids[number, -1, len(item.intermediates), : len(item.target)] = torch.tensor(item.target)
    return ids.flatten(0, 1)
