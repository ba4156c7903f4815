from collections import Counter

import pytest
import torch
from torch import Tensor

from logos_pl.functional.mean_jacobian import (
    JacobianSums,
    add_gradients,
    empty_sums,
    mean_jacobian,
    probed_dimensions,
    relative_error,
)

ROWS, WIDTH = 2, 6


def jacobians(num_seqs: int, seed: int = 0, spread: float = 0.5) -> Tensor:
    """Of each sequence, for each row: a common matrix and what is its own."""
    common = torch.randn(ROWS, WIDTH, WIDTH, generator=torch.Generator().manual_seed(99)) + 2 * torch.eye(WIDTH)
    own = torch.randn(num_seqs, ROWS, WIDTH, WIDTH, generator=torch.Generator().manual_seed(seed))
    return common + spread * own


def summed(of: Tensor, dims: Tensor, batch: int = 4) -> JacobianSums:
    """Sums as a fit makes them: batch after batch, probe after probe."""
    sums = empty_sums(ROWS, WIDTH)
    for first in range(0, len(of), batch):
        some, wanted = of[first : first + batch], dims[first : first + batch]
        for probe in range(dims.shape[1]):
            taken = torch.stack([some[i, :, wanted[i, probe]] for i in range(len(some))], dim=1)
            add_gradients(sums, taken, wanted[:, probe])
    return sums


def test_all_dimensions_of_every_sequence_give_the_mean_exactly() -> None:
    of = jacobians(10)
    sums = summed(of, torch.arange(WIDTH).expand(10, -1))
    torch.testing.assert_close(mean_jacobian(sums), of.mean(0))
    assert sums.counts.tolist() == [10] * WIDTH


def test_some_dimensions_of_each_sequence_give_each_row_of_the_matrix_as_a_mean_over_those_it_was_measured_on() -> None:
    of, dims = jacobians(9), probed_dimensions(3, 0, 9, 2, WIDTH)
    found = mean_jacobian(summed(of, dims))
    for dim in range(WIDTH):
        measured = [s for s in range(9) for probe in range(2) if dims[s, probe] == dim]
        torch.testing.assert_close(found[:, dim], of[measured][:, :, dim].mean(0))


@pytest.mark.parametrize("probes", [1, 2, 5])
def test_the_error_is_that_of_many_repetitions_with_other_text_and_other_dimensions(probes: int) -> None:
    truth = jacobians(1, spread=0.0)[0]
    stated, found = [], []
    for seed in range(300):
        sums = summed(jacobians(24, seed), probed_dimensions(seed, 0, 24, probes, WIDTH), batch=24)
        stated.append(relative_error(sums))
        found.append((mean_jacobian(sums) - truth).square().sum((1, 2)) / truth.square().sum((1, 2)))
    said, actual = torch.stack(stated).square().mean(0).sqrt(), torch.stack(found).mean(0).sqrt().double()
    torch.testing.assert_close(said, actual, rtol=0.05, atol=0)


def test_equal_sequences_leave_no_error() -> None:
    of = jacobians(1, spread=0.0).expand(5, -1, -1, -1)
    error = relative_error(summed(of, torch.arange(WIDTH).expand(5, -1)))
    assert float(error.max()) < 1e-3  # what single precision leaves


def test_a_dimension_that_was_not_measured_or_only_once_is_named() -> None:
    sums = summed(jacobians(2), probed_dimensions(0, 0, 2, 2, WIDTH))
    with pytest.raises(ValueError, match="measured on 0 sequences, and 1 are needed"):
        mean_jacobian(sums)
    once = summed(jacobians(3), probed_dimensions(0, 0, 3, 2, WIDTH))
    mean_jacobian(once)
    with pytest.raises(ValueError, match="measured on 1 sequences, and 2 are needed"):
        relative_error(once)


@pytest.mark.parametrize(("probes", "num_seqs"), [(1, 6), (4, 2), (6, 1), (5, 2), (3, 2)])
def test_every_cycle_measures_every_dimension_and_no_sequence_one_twice(probes: int, num_seqs: int) -> None:
    for cycle in range(5):
        dealt = probed_dimensions(316, cycle * num_seqs, num_seqs, probes, WIDTH)
        assert all(len(set(dims)) == probes for dims in dealt.tolist())
        counted = Counter(dealt.flatten().tolist())
        assert set(counted) == set(range(WIDTH))
        assert max(counted.values()) <= (2 if WIDTH % probes else 1)


def test_dimensions_depend_on_the_seed_and_the_number_of_the_sequence_alone() -> None:
    whole = probed_dimensions(316, 0, 20, 4, WIDTH)
    assert torch.equal(torch.cat([probed_dimensions(316, first, 5, 4, WIDTH) for first in (0, 5, 10, 15)]), whole)
    assert not torch.equal(probed_dimensions(317, 0, 20, 4, WIDTH), whole)
    assert not torch.equal(whole[:3], whole[3:6]), "every deck is shuffled anew"
