"""Ranks of sets of tokens against a count in float64, whatever the blocks."""

import pytest
import torch
from torch import Tensor

from logos_pl.functional.best_ranks import best_ranks
from logos_pl.functional.unembedding import Unembedding

ROWS, POS, D, VOCAB = 3, 5, 6, 41


def make() -> tuple[Tensor, Unembedding, Tensor]:
    generator = torch.Generator().manual_seed(4)
    # Whole numbers, so that logits are exact and some are equal.
    x = torch.randint(-3, 4, (ROWS, POS, D), generator=generator).float()
    weight = torch.randint(-3, 4, (VOCAB, D), generator=generator).float()
    ids = torch.randint(0, VOCAB, (POS, 2, 4), generator=generator)
    ids[1, 0, 2:] = -1
    ids[2, 1, 1:] = -1
    ids[3, 1] = -1
    return x, Unembedding(weight), ids


def by_hand(x: Tensor, head: Unembedding, ids: Tensor) -> list[list[list[int]]]:
    logits = (x.double() @ head.weight.double().T).tolist()
    return [
        [
            [
                min((sum(z > logits[row][pos][i] for z in logits[row][pos]) + 1 for i in of_set if i >= 0), default=0)
                for of_set in ids[pos].tolist()
            ]
            for pos in range(POS)
        ]
        for row in range(ROWS)
    ]


@pytest.mark.parametrize("block_bytes", [1, 4 * VOCAB, 2 * ROWS * 4 * VOCAB, 2**28])
def test_a_set_has_the_rank_of_its_likeliest_token(block_bytes: int) -> None:
    x, head, ids = make()
    assert best_ranks(x, head, ids, block_bytes=block_bytes).tolist() == by_hand(x, head, ids)


def test_a_bias_and_a_soft_cap_count() -> None:
    x, head, ids = make()
    bias = torch.arange(VOCAB).float()
    found = best_ranks(x, Unembedding(head.weight, bias=bias, scale=0.5, softcap=32.0), ids)
    biased = torch.cat([x, torch.ones(ROWS, POS, 1)], -1), Unembedding(torch.cat([head.weight, bias[:, None]], 1))
    assert found.tolist() == by_hand(*biased, ids)


def test_a_row_with_nan_has_no_ranks() -> None:
    x, head, ids = make()
    x[1, 2, 0] = torch.nan
    found = best_ranks(x, head, ids)
    assert found[1, 2].tolist() == [0, 0]
    assert found[0, 2].tolist() == by_hand(x, head, ids)[0][2]
