import math

import numpy as np
import pytest
import torch

from logos_pl.functional.ranks import at_ids, largest, rank_of_ids


def by_sorting(z: np.ndarray, k: int) -> list[int]:
    return sorted(range(len(z)), key=lambda i: (-z[i], i))[:k]


# Around every edge: fewer chunks of 64 than k, just as many, one more; with and without an unfilled chunk.
@pytest.mark.parametrize("vocab", [1, 2, 10, 63, 64, 65, 639, 640, 641, 703, 704, 705, 767, 4096, 5001])
@pytest.mark.parametrize("num_values", [1, 2, 5, 200, 10**6])
@pytest.mark.parametrize("k", [1, 2, 10])
def test_the_k_largest_are_those_of_a_full_sort_however_many_are_equal(vocab: int, num_values: int, k: int) -> None:
    if k > vocab:
        return
    generator = torch.Generator().manual_seed(vocab + num_values)
    z = torch.randint(0, num_values, (2, 3, vocab), generator=generator).float() / 7 - 1
    values, ids = largest(z, k)
    for lead in np.ndindex(2, 3):
        assert ids[lead].tolist() == by_sorting(z[lead].numpy(), k)
        assert values[lead].tolist() == z[lead][ids[lead]].tolist()


@pytest.mark.parametrize("place", [0, 63, 64, 700, 703, 704, 719])
def test_the_largest_is_found_wherever_it_stands(place: int) -> None:
    z = torch.linspace(0, -1, 720)
    z[place] = 5.0
    assert int(largest(z, 10)[1][0]) == place


def test_negative_zero_equals_zero() -> None:
    assert largest(torch.tensor([-1.0, -0.0, 0.0]), 2)[1].tolist() == [1, 2]
    assert largest(torch.tensor([-1.0, 0.0, -0.0]), 2)[1].tolist() == [1, 2]


def test_minus_infinity_is_last_and_ids_still_differ() -> None:
    z = torch.full((705,), -math.inf)
    assert largest(z, 10)[1].tolist() == list(range(10))
    z[700] = 0.0
    assert largest(z, 3)[1].tolist() == [700, 0, 1]


@pytest.mark.parametrize("vocab", [12, 705, 5001])
def test_nan_gives_ids_that_exist_and_differ(vocab: int) -> None:
    for z in (
        torch.full((vocab,), math.nan),
        torch.randn(vocab).index_fill_(0, torch.tensor([3, vocab - 1]), math.nan),
    ):
        ids = largest(z, 10)[1].tolist()
        assert len(set(ids)) == 10
        assert all(0 <= i < vocab for i in ids)


def test_logits_that_do_not_lie_next_to_one_another_are_found_too() -> None:
    z = torch.randn(705, 4).T
    assert largest(z, 10)[1].tolist() == [by_sorting(row.numpy(), 10) for row in z]


def test_a_rank_counts_what_is_strictly_greater() -> None:
    z = torch.tensor([[[3.0, 1.0, 3.0, 2.0], [0.0, 0.0, 0.0, 0.0]], [[1.0, 2.0, 3.0, 4.0], [4.0, 3.0, 2.0, 1.0]]])
    assert rank_of_ids(z, torch.tensor([2, 0])).tolist() == [[1, 1], [4, 1]]
    assert rank_of_ids(z, torch.tensor([1, 3])).tolist() == [[4, 1], [1, 4]]
    assert at_ids(z, torch.tensor([3, -1])).tolist() == [[2.0, 0.0], [1.0, 4.0]]


def test_ranks_are_exact_where_bfloat16_and_half_counts_would_not_be() -> None:
    z = torch.arange(70_001).float()[None, None]
    assert rank_of_ids(z, torch.tensor([0])).tolist() == [[70_001]]
