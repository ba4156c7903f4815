import numpy as np
import pytest
import torch
from torch import Tensor

from logos_pl.errors import InputError
from logos_pl.functional.low_rank import (
    apply_low_rank,
    balanced,
    check_rank,
    default_rank,
    resolve_rank,
    rotated_towards,
    shared_draw,
)


@pytest.mark.parametrize(
    ("d_model", "rank"),
    [
        (16, 16),
        (64, 64),
        (192, 64),
        (2048, 64),
        (2304, 72),
        (3584, 112),
        (4095, 127),
        (4096, 256),
        (8192, 256),
        (16384, 256),
    ],
)
def test_automatic_rank_follows_the_width(d_model: int, rank: int) -> None:
    assert default_rank(d_model) == rank


def test_ranks_from_zero_to_the_width_pass_and_others_are_refused_by_number() -> None:
    assert [check_rank(rank, 8) for rank in (0, 1, 8)] == [0, 1, 8]
    for rank in (-1, 9):
        with pytest.raises(InputError, match=f"Rank {rank} .* width 8"):
            check_rank(rank, 8)


@pytest.mark.parametrize("rank", [0, 1, 3])
def test_batched_rows_equal_one_row_at_a_time(rank: int) -> None:
    generator = torch.Generator().manual_seed(2)
    x, U, V, c = (
        torch.randn(*shape, generator=generator, dtype=torch.float64)
        for shape in [(4, 5, 7), (4, 7, rank), (4, 7, rank), (4, 7)]
    )
    wanted = torch.stack([x[r] + x[r] @ (U[r] @ V[r].T) + c[r] for r in range(4)])
    torch.testing.assert_close(apply_low_rank(x, U, V, c), wanted, rtol=1e-12, atol=1e-13)


def test_rows_share_one_draw_of_variance_one_over_width_that_only_the_seed_decides() -> None:
    draw = shared_draw(3, 400, 50, seed=0)
    assert draw.shape == (3, 400, 50)
    assert torch.equal(draw[0], draw[2])
    assert float(draw[0].var() * 400) == pytest.approx(1.0, abs=0.03)
    assert abs(float(draw[0].mean())) < 0.001
    torch.manual_seed(99)
    assert torch.equal(draw, shared_draw(3, 400, 50, seed=0))
    assert not torch.equal(draw, shared_draw(3, 400, 50, seed=1))


def test_the_draw_leaves_the_global_generator_alone() -> None:
    torch.manual_seed(4)
    before = torch.get_rng_state()
    shared_draw(2, 4, 2, seed=0)
    assert torch.equal(before, torch.get_rng_state())


def test_auto_and_a_number_settle_to_a_rank_that_fits() -> None:
    assert resolve_rank("auto", 4096) == 256
    assert resolve_rank(0, 4096) == 0
    with pytest.raises(InputError, match="Rank 17 does not fit a model of width 16"):
        resolve_rank(17, 16)


def draw(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_factors_are_balanced_and_their_product_stays() -> None:
    U, V = 100 * draw(1, 6, 2), draw(2, 6, 2)
    a, b = balanced(U, V)
    torch.testing.assert_close(a @ b.T, U @ V.T)
    torch.testing.assert_close(a.T @ a, b.T @ b)


def test_turning_keeps_the_product_and_no_rotation_comes_nearer() -> None:
    (U, V), (like_U, like_V) = [(draw(s, 6, 2), draw(s + 1, 6, 2)) for s in (1, 3)]
    a, b = rotated_towards(U, V, like_U, like_V)
    torch.testing.assert_close(a @ b.T, U @ V.T)
    distance = float((a - like_U).square().sum() + (b - like_V).square().sum())
    for angle in np.linspace(0, 2 * np.pi, 50):
        for mirror in (1, -1):
            R = torch.tensor([[np.cos(angle), -mirror * np.sin(angle)], [np.sin(angle), mirror * np.cos(angle)]])
            other = (U @ R - like_U).square().sum() + (V @ R - like_V).square().sum()
            assert distance <= float(other) + 1e-9
