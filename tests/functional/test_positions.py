import math
from collections import Counter

import pytest
import torch

from logos_pl.errors import InputError
from logos_pl.functional.positions import position_bounds, sample_positions, sample_rows

RANGE = (0.60, 0.95)


def test_positions_are_sorted_distinct_and_inside_the_range() -> None:
    for g in range(200):
        drawn = sample_positions(316, g, 512, 16, RANGE)
        assert drawn.dtype == torch.long
        assert drawn.tolist() == sorted(set(drawn.tolist()))
        assert drawn.numel() == 16
        assert math.ceil(0.60 * 512) <= drawn.min().item()
        assert drawn.max().item() <= math.ceil(0.95 * 512) - 1


def test_all_positions_of_the_range_can_be_asked_for() -> None:
    assert sample_positions(0, 0, 20, 7, RANGE).tolist() == [12, 13, 14, 15, 16, 17, 18]


def test_bounds_take_fractions_as_they_are_written() -> None:
    assert position_bounds(512, RANGE) == (308, 486)
    assert position_bounds(100, (0.07, 0.29)) == (7, 28)  # 0.07 * 100 is 7.000000000000001 in floating point
    assert position_bounds(10, (0.0, 1.0)) == (0, 9)


def test_the_same_seed_and_sequence_give_the_same_positions_whatever_was_drawn_before() -> None:
    before = sample_positions(316, 1234, 512, 16, RANGE)
    torch.manual_seed(5)
    sample_positions(316, 1, 512, 16, RANGE)
    assert torch.equal(sample_positions(316, 1234, 512, 16, RANGE), before)


def test_positions_are_pinned_so_that_a_resumed_run_of_another_version_agrees() -> None:
    assert sample_positions(316, 0, 512, 4, RANGE).tolist() == [393, 426, 451, 486]
    assert sample_rows(316, 0, 4, 31).tolist() == [2, 3, 18, 27]


def test_sequences_and_seeds_draw_independently() -> None:
    draws = {tuple(sample_positions(seed, g, 512, 16, RANGE).tolist()) for seed in (0, 1, -1) for g in range(50)}
    assert len(draws) == 150
    assert sample_rows(0, 7, 8, 179).tolist() != [p - 307 for p in sample_positions(0, 7, 512, 8, RANGE).tolist()]


def test_positions_are_uniform_over_the_range() -> None:
    # 7 of 35 positions, 4000 draws: each is expected 800 times, with standard deviation sqrt(4000 * 0.2 * 0.8) = 25.3.
    counts = Counter(p for g in range(4000) for p in sample_positions(3, g, 100, 7, RANGE).tolist())
    assert sorted(counts) == list(range(60, 95))
    assert max(abs(count - 800) for count in counts.values()) < 4.5 * 25.3


def test_rows_are_sorted_distinct_and_uniform_over_one_to_the_number_of_candidates() -> None:
    counts = Counter(row for step in range(3000) for row in sample_rows(316, step, 8, 24).tolist())
    assert sorted(counts) == list(range(1, 25))
    assert max(abs(count - 1000) for count in counts.values()) < 4.5 * math.sqrt(3000 / 3 * 2 / 3)
    drawn = sample_rows(316, 5, 8, 24).tolist()
    assert drawn == sorted(set(drawn))


def test_all_candidates_are_all_rows() -> None:
    assert sample_rows(1, 2, 5, 5).tolist() == [1, 2, 3, 4, 5]


@pytest.mark.parametrize("bad", [(0.95, 0.60), (0.5, 0.5), (-0.1, 0.5), (0.5, 1.1), (0.51, 0.52)])
def test_a_range_without_positions_is_refused_with_the_option_to_change(bad: tuple[float, float]) -> None:
    with pytest.raises(InputError, match=r"--data\.position_range"):
        position_bounds(20, bad)


def test_more_positions_or_rows_than_there_are_cannot_be_drawn() -> None:
    with pytest.raises(ValueError, match="8 out of 7"):
        sample_positions(0, 0, 20, 8, RANGE)
    with pytest.raises(ValueError, match="6 out of 5"):
        sample_rows(0, 0, 6, 5)
