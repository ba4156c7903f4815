import numpy as np
import pytest
import torch
from torch import Tensor

from logos_pl.functional.closed_form import (
    SHRINKAGES,
    SMALLEST_SCALE,
    best_factors,
    closed_form,
    held_out_errors,
    metric_root,
    random_factors,
    regression,
    row_of,
    scale_of,
)
from logos_pl.functional.moments import Moments, MomentStream

WIDTH, RANK, POSITIONS = 6, 2, 400
EYE = torch.eye(WIDTH, dtype=torch.float64)
CPU = torch.device("cpu")


def draw(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def correlated(seed: int, count: int = POSITIONS) -> Tensor:
    return draw(seed, count, WIDTH) @ draw(seed + 100, WIDTH, WIDTH) + draw(seed + 200, WIDTH)


def moments_of(x: Tensor, y: Tensor) -> Moments:
    stream = MomentStream(len(x), WIDTH)
    stream.add(x, y)
    return stream.moments()


def draw_of(rank: int) -> tuple[Tensor, Tensor]:
    return random_factors(WIDTH, rank, seed=1)


def positive(seed: int) -> Tensor:
    root = draw(seed, WIDTH, WIDTH)
    return root @ root.T


def test_a_map_that_is_affine_and_of_the_rank_is_recovered() -> None:
    x = torch.stack([correlated(1), correlated(2)])
    U, V, c, s = draw(3, WIDTH, RANK), draw(4, WIDTH, RANK), draw(5, WIDTH), 0.7
    y = s * (x[0] + x[0] @ U @ V.T + c)
    moments = moments_of(x, y)
    row = row_of(moments, 0, CPU)
    B = regression(row, s, 0.0)
    torch.testing.assert_close(B, U @ V.T, rtol=1e-9, atol=1e-9)
    found_U, found_V = best_factors(B, row, metric_root(positive(9)), RANK)
    torch.testing.assert_close(found_U @ found_V.T, U @ V.T, rtol=1e-8, atol=1e-8)


def test_the_start_gives_what_it_was_asked_for_at_every_row() -> None:
    x, y = torch.stack([correlated(1), correlated(2)]), correlated(3)
    moments, root = moments_of(x, y), metric_root(positive(9))
    start = closed_form(moments, root, WIDTH, [0.0, 0.0], like=draw_of(WIDTH), temperature=True)
    for slot in range(2):
        # At full rank it is plain least squares, whatever the scale: NumPy's, with a column of ones.
        design = np.concatenate([x[slot].numpy(), np.ones((POSITIONS, 1))], axis=1)
        solution, *_ = np.linalg.lstsq(design, y.numpy(), rcond=None)
        A = EYE + start.U[slot] @ start.V[slot].T
        torch.testing.assert_close(A / start.tau[slot], torch.from_numpy(solution[:-1]), rtol=1e-4, atol=1e-4)
        offset = start.c[slot] / start.tau[slot]
        torch.testing.assert_close(offset, torch.from_numpy(solution[-1]), rtol=1e-4, atol=1e-4)


def weighted_error(x: Tensor, y: Tensor, B: Tensor, gamma: Tensor) -> float:
    """Σ e Γ eᵀ of the centred errors y − x(I + B)."""
    e = (y - y.mean(0)) - (x - x.mean(0)) @ (EYE + B)
    return float((e @ gamma * e).sum())


def test_no_other_matrix_of_the_rank_comes_nearer_in_the_metric() -> None:
    x, y, gamma = correlated(1), correlated(2), positive(3)
    row = row_of(moments_of(x[None], y), 0, CPU)
    root = metric_root(gamma)
    U, V = best_factors(regression(row, 1.0, 0.0), row, root, RANK)
    best = weighted_error(x, y, U @ V.T, root @ root)
    for seed in range(20):  # small steps away, within the rank, and descents from elsewhere
        nearby = (U + 1e-3 * draw(seed, WIDTH, RANK)) @ (V + 1e-3 * draw(seed + 50, WIDTH, RANK)).T
        assert weighted_error(x, y, nearby, root @ root) > best
    factors = [draw(7, WIDTH, RANK).requires_grad_(), draw(8, WIDTH, RANK).requires_grad_()]
    optimiser = torch.optim.LBFGS(factors, max_iter=500, tolerance_grad=1e-12, line_search_fn="strong_wolfe")
    centred = x - x.mean(0), y - y.mean(0)

    def loss() -> Tensor:
        optimiser.zero_grad()
        e = (centred[1] - centred[0] - centred[0] @ factors[0] @ factors[1].T) @ root
        e.square().sum().backward()
        return e.square().sum()

    optimiser.step(loss)
    assert best <= float(loss().detach()) * (1 + 1e-9)


def test_without_a_metric_it_is_the_specified_singular_value_decomposition() -> None:
    x, y = correlated(1), correlated(2)
    row = row_of(moments_of(x[None], y), 0, CPU)
    s = scale_of(row, EYE)
    assert s == pytest.approx(max(float(row.xy.trace() / row.xx.trace()), SMALLEST_SCALE))
    C, G = np.cov(x.T.numpy(), bias=True), (x - x.mean(0)).T.numpy() @ (y - y.mean(0)).numpy() / POSITIONS
    values, vectors = np.linalg.eigh(C)
    half, inverse_half = (vectors * values**power @ vectors.T for power in (0.5, -0.5))
    p, sigma, qt = np.linalg.svd(half @ (np.linalg.solve(C, G) / s - np.eye(WIDTH)))
    wanted = inverse_half @ (p[:, :RANK] * sigma[:RANK]) @ qt[:RANK]
    U, V = best_factors(regression(row, s, 0.0), row, EYE, RANK)
    torch.testing.assert_close(U @ V.T, torch.from_numpy(wanted), rtol=1e-8, atol=1e-8)


def test_the_ridge_shrinks_towards_the_scaled_identity() -> None:
    row = row_of(moments_of(correlated(1)[None], correlated(2)), 0, CPU)
    ridge = 0.3 * float(row.xx.trace()) / WIDTH
    wanted = np.linalg.solve(row.xx.numpy() + ridge * np.eye(WIDTH), row.xy.numpy() / 0.5 - row.xx.numpy())
    torch.testing.assert_close(regression(row, 0.5, 0.3), torch.from_numpy(wanted), rtol=1e-10, atol=1e-10)
    assert float(regression(row, 0.5, 1e9).norm()) < 1e-6


def test_held_out_errors_are_those_of_each_candidate_on_positions_of_their_own() -> None:
    x, y = correlated(1), correlated(2)
    row, root = row_of(moments_of(x[None], y), 0, CPU), metric_root(positive(3))
    new_x, new_y, s = correlated(5, 30), correlated(6, 30), 0.8
    found = held_out_errors(row, s, root, new_x, new_y)
    assert found.shape == (len(SHRINKAGES),)
    for candidate, error in zip(SHRINKAGES, found, strict=True):
        A = s * (EYE + regression(row, s, candidate))
        e = new_y - y.mean(0) - (new_x - x.mean(0)) @ A
        torch.testing.assert_close(error, (e @ (root @ root) * e).sum() / s**2, rtol=1e-9, atol=1e-9)


def test_a_ridge_that_leaves_no_cholesky_factor_is_no_candidate_and_the_others_stay() -> None:
    """Rounding of the moments can leave a negative variance where there is none."""
    x, y = correlated(1), correlated(2)
    row, root = row_of(moments_of(x[None], y), 0, CPU), metric_root(positive(3))
    values, vectors = torch.linalg.eigh(row.xx)
    values[0] = -5e-3 * values.mean()
    row = row._replace(xx=(vectors * values) @ vectors.T)
    found = held_out_errors(row, 0.8, root, correlated(5, 30), correlated(6, 30))
    assert found.isfinite().tolist() == [False, False, False, True, True, True]
    assert not regression(row, 0.8, SHRINKAGES[0]).isfinite().any()


def test_where_nothing_varies_no_ridge_is_a_candidate() -> None:
    x, y = torch.ones(1, 30, WIDTH, dtype=torch.float64), correlated(2, 30)
    row = row_of(moments_of(x, y), 0, CPU)
    assert not held_out_errors(row, 1.0, EYE, x[0], y).isfinite().any()


def test_a_metric_that_is_rounding_alone_weights_all_errors_alike() -> None:
    assert torch.equal(metric_root(-1e-20 * EYE), EYE)
    slightly = torch.diag(torch.tensor([1.0, 1.0, 1.0, 1.0, 1.0, -1e-2], dtype=torch.float64))
    assert metric_root(slightly).isfinite().all()


def test_few_positions_are_solved_for_with_a_ridge() -> None:
    x, y = correlated(1, 3), correlated(2, 3)
    start = closed_form(moments_of(x[None], y), EYE, RANK, [1e-2], like=draw_of(RANK), temperature=True)
    assert all(bool(part.isfinite().all()) for part in start)


def test_a_row_that_says_the_contrary_of_the_last_keeps_a_temperature() -> None:
    x = correlated(1)
    start = closed_form(moments_of(x[None], -x), EYE, 0, [1e-6], like=draw_of(0), temperature=True)
    assert start.tau.tolist() == [pytest.approx(1 / SMALLEST_SCALE)]


def test_without_temperatures_the_scale_is_one() -> None:
    x = torch.stack([correlated(1)])
    start = closed_form(moments_of(x, 0.5 * x[0]), EYE, WIDTH, [1e-6], like=draw_of(WIDTH), temperature=False)
    assert start.tau.tolist() == [1.0]
    torch.testing.assert_close(start.U[0] @ start.V[0].T, -0.5 * EYE, rtol=1e-4, atol=1e-4)


def test_neighbouring_rows_are_turned_into_each_other() -> None:
    x = correlated(1)
    rows = torch.stack([x, x + 0.01 * draw(2, POSITIONS, WIDTH)])
    start = closed_form(moments_of(rows, correlated(3)), EYE, RANK, [1e-4, 1e-4], like=draw_of(RANK), temperature=True)
    apart = float(start.U.diff(dim=0).norm() + start.V.diff(dim=0).norm())
    assert apart < 0.1 * float(start.U[0].norm() + start.V[0].norm())
