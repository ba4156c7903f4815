import numpy as np
import pytest
import torch

from logos_pl.errors import InputError
from logos_pl.functional.moments import Moments, MomentStream
from logos_pl.functional.whitening import pool_rows, times, whitening

D = 6


def samples(rows: int = 3, pos: int = 500) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    mix = torch.randn(rows, D, D, generator=generator, dtype=torch.float64)
    x = torch.randn(rows, pos, D, generator=generator, dtype=torch.float64) @ mix + torch.arange(3.0)[:, None, None]
    return x, x.sum(0) + torch.randn(pos, D, generator=generator, dtype=torch.float64)


def moments_of(x: torch.Tensor, y: torch.Tensor) -> Moments:
    stream = MomentStream(x.shape[0], x.shape[2])
    stream.add(x, y)
    return stream.moments()


def test_pooled_rows_have_the_moments_of_one_long_row() -> None:
    x, y = samples()
    pooled = pool_rows(moments_of(x, y), [0, 2])

    long_x, long_y = np.concatenate([x[0], x[2]]), np.concatenate([y, y])
    both = np.cov(long_x, long_y, rowvar=False, bias=True)
    np.testing.assert_allclose(pooled.mean_x, long_x.mean(0), rtol=1e-12)
    np.testing.assert_allclose(pooled.xx, both[:D, :D], rtol=1e-10)
    np.testing.assert_allclose(pooled.xy, both[:D, D:], rtol=1e-10)


def test_no_row_and_no_position_cannot_be_pooled() -> None:
    with pytest.raises(ValueError, match="at least one row"):
        pool_rows(moments_of(*samples()), [])


@pytest.mark.parametrize("kind", ["full", "diagonal"])
def test_whitened_vectors_have_unit_variance_and_come_back(kind: str) -> None:
    x = samples()[0][1]
    covariance = torch.cov(x.T, correction=0)
    found = whitening(covariance, kind, 0.0)

    white = torch.cov(times(x, found.whiten).T, correction=0)
    torch.testing.assert_close(white.diagonal(), torch.ones(D, dtype=torch.float64))
    off = (white - white.diagonal().diag()).abs().max()
    assert bool(off < 1e-12) == (kind == "full")
    torch.testing.assert_close(times(times(x, found.whiten), found.unwhiten), x)


@pytest.mark.parametrize("kind", ["full", "diagonal"])
def test_shrinkage_mixes_in_the_identity_and_keeps_the_trace(kind: str) -> None:
    covariance = torch.cov(samples()[0][1].T, correction=0)
    wanted = 0.7 * covariance + 0.3 * covariance.trace() / D * torch.eye(D, dtype=torch.float64)
    unwhiten = whitening(covariance, kind, 0.3).unwhiten

    squared = unwhiten @ unwhiten if kind == "full" else unwhiten.square()
    torch.testing.assert_close(squared, wanted if kind == "full" else wanted.diagonal())


@pytest.mark.parametrize("kind", ["full", "diagonal"])
def test_a_direction_without_variance_is_refused_unless_shrunk(kind: str) -> None:
    covariance = torch.cov(samples()[0][1].T, correction=0)
    covariance[:, 2] = covariance[2] = 0.0
    with pytest.raises(InputError, match="rank-deficient: 1 of 6 directions"):
        whitening(covariance, kind, 0.0)
    assert bool(whitening(covariance, kind, 1e-3).whiten.isfinite().all())


@pytest.mark.parametrize("shrinkage", [-0.1, 1.0])
def test_a_shrinkage_out_of_bounds_is_refused(shrinkage: float) -> None:
    with pytest.raises(InputError, match="at least 0 and below 1"):
        whitening(torch.eye(D, dtype=torch.float64), "full", shrinkage)
