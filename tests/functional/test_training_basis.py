import numpy as np
import torch
from torch import Tensor

from logos_pl.functional.training_basis import DAMPING, TrainingBasis, into_basis, out_of_basis, training_basis

WIDTH, RANK, ROWS = 7, 3, 4


def draw(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def positive(seed: int, rank: int = WIDTH) -> Tensor:
    half = draw(seed, WIDTH, rank)
    return half @ half.T


def basis() -> TrainingBasis:
    return training_basis(positive(1), positive(2))


def test_each_side_is_the_damped_inverse_root_of_its_metric_with_a_mean_diagonal_of_one() -> None:
    for metric, found in zip((positive(1), positive(2)), basis(), strict=True):
        C = metric.numpy()
        values, vectors = np.linalg.eigh(C + DAMPING * np.trace(C) / WIDTH * np.eye(WIDTH))
        wanted = vectors * values**-0.5 @ vectors.T
        wanted *= WIDTH / np.trace(wanted)
        torch.testing.assert_close(found.double(), torch.from_numpy(wanted), rtol=1e-5, atol=1e-6)
        assert found.dtype == torch.float32


def test_the_scale_of_a_metric_means_nothing() -> None:
    for one, other in zip(basis(), training_basis(1e6 * positive(1), 1e-9 * positive(2)), strict=True):
        torch.testing.assert_close(one, other)


def test_directions_without_variance_are_stretched_within_bounds_and_no_metric_at_all_leaves_the_plain_basis() -> None:
    metric = positive(1, rank=2)
    left, right = training_basis(metric, torch.zeros(WIDTH, WIDTH).double())
    largest = torch.linalg.eigvalsh(metric).max() * WIDTH / metric.trace()
    stretch = torch.linalg.eigvalsh(left.double())
    torch.testing.assert_close(stretch[-1] / stretch[0], ((largest + DAMPING) / DAMPING).sqrt(), rtol=1e-4, atol=0)
    assert torch.equal(right, torch.eye(WIDTH))


def test_into_the_basis_and_out_of_it_the_maps_stay_what_they_are() -> None:
    U, V = draw(3, ROWS, WIDTH, RANK), draw(4, ROWS, WIDTH, RANK)
    inside = into_basis(U, V, basis())
    back_U, back_V = out_of_basis(*inside, basis())
    torch.testing.assert_close(back_U @ back_V.mT, U @ V.mT, rtol=1e-10, atol=1e-10)


def test_in_the_basis_factors_are_balanced_and_neighbouring_rows_near_each_other() -> None:
    U, V = draw(3, 1, WIDTH, RANK), draw(4, 1, WIDTH, RANK)
    noise = 1e-3 * draw(5, ROWS, WIDTH, RANK)
    turns = torch.linalg.qr(draw(6, ROWS, RANK, RANK))[0]
    inside_U, inside_V = into_basis((U + noise) @ turns, (V + noise) @ turns, basis())
    torch.testing.assert_close(inside_U.mT @ inside_U, inside_V.mT @ inside_V)
    assert float(inside_U.diff(dim=0).norm()) < 0.05 * float(inside_U.norm())
