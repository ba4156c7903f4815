"""Pass@k, its area and first rows against sums written out in float64."""

import math

import pytest
import torch

from logos_pl.functional.pass_at_k import (
    area_under_pass,
    best_rank,
    first_row,
    item_means,
    pass_at,
    recall_rows,
)

RANKS = torch.tensor([[900.0, 40, 7, 1], [5, 3, 12, 100], [math.inf, 101, 300, 2000], [math.inf] * 4]).double()


def test_the_best_rank_is_over_all_rows_and_rows_that_are_not_read_do_not_count() -> None:
    assert best_rank(RANKS).tolist() == [1, 3, 101, math.inf]


@pytest.mark.parametrize("k", [1, 2, 3, 5, 10, 100, 101])
def test_pass_at_k_counts_tokens_whose_rank_is_at_most_k(k: int) -> None:
    assert pass_at(best_rank(RANKS), k).tolist() == [float(min(row) <= k) for row in RANKS.tolist()]


@pytest.mark.parametrize("max_k", [2, 100, 1000])
def test_the_area_is_the_sum_of_pass_at_k_over_steps_of_log_k(max_k: int) -> None:
    best = torch.tensor([1.0, 2, 3, 10, 99, 100, 101, 5000, math.inf]).double()
    wanted = [
        sum((rank <= k) * (math.log(k + 1) - math.log(k)) for k in range(1, max_k)) / math.log(max_k)
        for rank in best.tolist()
    ]
    assert area_under_pass(best, max_k).tolist() == pytest.approx(wanted, abs=1e-12)


def test_the_area_is_whole_at_rank_one_and_nothing_beyond_the_largest_k() -> None:
    assert area_under_pass(torch.tensor([1.0, 100.0, math.inf]).double()).tolist() == [1, 0, 0]


@pytest.mark.parametrize(
    ("num_blocks", "rows"),
    [(32, (4, 8, 12, 16, 20, 24, 28)), (30, (4, 8, 11, 15, 19, 22, 26)), (8, (1, 2, 3, 4, 5, 6, 7)), (3, (1, 2))],
)
def test_the_recall_reads_seven_equally_spaced_inner_rows(num_blocks: int, rows: tuple[int, ...]) -> None:
    assert recall_rows(num_blocks) == rows


def test_a_token_is_found_at_the_first_row_within_the_rank_and_after_the_last_row_if_never() -> None:
    assert first_row(RANKS).tolist() == [2, 0, 4, 4]
    assert first_row(RANKS, 1).tolist() == [3, 4, 4, 4]


def test_an_item_is_the_mean_of_its_tokens_however_many_it_has() -> None:
    values, items = torch.tensor([1.0, 0.0, 1.0, 1.0, 0.0, 0.0]).double(), torch.tensor([0, 1, 1, 2, 2, 2])
    assert item_means(values, items).tolist() == pytest.approx([1, 0.5, 1 / 3])
    assert item_means(values[:0], items[:0]).tolist() == []
