"""First rows against a search by hand."""

import torch

from logos_pl.functional.first_rows import first_rows


def test_the_first_row_counts_whatever_comes_later_and_never_is_minus_one() -> None:
    reached = torch.tensor([[0, 0, 1, 0], [1, 0, 0, 0], [0, 1, 1, 0]]).bool()
    assert first_rows(reached, [2, 5, 7]).tolist() == [5, 7, 2, -1]


def test_a_search_by_hand_finds_the_same() -> None:
    reached = torch.rand(6, 50, generator=torch.Generator().manual_seed(1)) > 0.8
    rows = [0, 1, 3, 4, 8, 9]
    wanted = [next((row for row, at in zip(rows, line, strict=True) if at), -1) for line in reached.T.tolist()]
    assert first_rows(reached, rows).tolist() == wanted
