"""Rows are copied from the blocks' own tensors, without loss."""

import pytest
import torch
from torch import nn

from logos_pl.lm.hooks import gathering
from logos_pl.lm.row_watch import watch_rows

BLOCKS = [nn.Linear(2, 2) for _ in range(3)]
X = torch.randn(2, 4, 2, generator=torch.Generator().manual_seed(0))


def rows_of(x: torch.Tensor) -> list[torch.Tensor]:
    rows = [x]
    for block in BLOCKS:
        rows.append(block(rows[-1]))
    return rows


@torch.no_grad()
def test_rows_are_copied_at_the_positions_asked_for_and_as_often_as_asked_for() -> None:
    index = torch.tensor([[3, 0], [1, 1]])
    kept = torch.empty(4, 2, 2, 2)
    with gathering(*watch_rows(BLOCKS, [2, 0, 3, 2], index, kept)):
        wanted = rows_of(X)
    for slot, row in enumerate([2, 0, 3, 2]):
        assert torch.equal(kept[slot], torch.stack([wanted[row][seq, index[seq]] for seq in range(2)]))


@torch.no_grad()
def test_a_row_of_a_wider_format_than_what_keeps_it_is_refused() -> None:
    watch = watch_rows(BLOCKS, [1], None, torch.empty(1, 2, 4, 2, dtype=torch.bfloat16))
    with gathering(*watch), pytest.raises(TypeError, match=r"row 1 of the model is torch.float32, and cannot be kept"):
        rows_of(X)


@torch.no_grad()
def test_a_row_may_be_kept_in_a_wider_format() -> None:
    kept = torch.empty(1, 2, 1, 2, dtype=torch.float64)
    with gathering(*watch_rows(BLOCKS, [1], torch.tensor([[2], [0]]), kept)):
        wanted = rows_of(X)
    assert torch.equal(kept[0, :, 0].float(), torch.stack([wanted[1][0, 2], wanted[1][1, 0]]))
