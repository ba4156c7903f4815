import pytest
import torch

from logos_pl.errors import InputError
from logos_pl.functional.procrustes import procrustes_rotation

D = 5


def pairs() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(3)
    return torch.randn(2, 40, D, generator=generator, dtype=torch.float64).unbind()


def a_rotation(seed: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.linalg.qr(torch.randn(D, D, generator=generator, dtype=torch.float64))[0]


def test_a_known_rotation_is_found_and_its_transpose_is_another() -> None:
    z, known = pairs()[0], a_rotation(0)
    found = procrustes_rotation(z.T @ (z @ known))
    torch.testing.assert_close(found, known)
    assert (found - known.T).abs().max() > 0.1


def test_no_other_rotation_is_closer() -> None:
    z, t = pairs()
    found = procrustes_rotation(z.T @ t)
    torch.testing.assert_close(found @ found.T, torch.eye(D, dtype=torch.float64))
    best = (z @ found - t).square().sum()
    generator = torch.Generator().manual_seed(1)
    for step in (1.0, 0.1, 0.01):
        skew = torch.randn(100, D, D, generator=generator, dtype=torch.float64) * step
        others = found @ torch.linalg.matrix_exp(skew - skew.mT)
        assert ((z @ others - t).square().sum(dim=(1, 2)) >= best).all()


def test_a_rank_keeps_the_directions_that_agree_most() -> None:
    z, t = pairs()
    found = procrustes_rotation(z.T @ t, 2)
    assert torch.linalg.matrix_rank(found) == 2
    kept = torch.trace(found.T @ z.T @ t)
    torch.testing.assert_close(kept, torch.linalg.svdvals(z.T @ t)[:2].sum())


def test_a_rank_above_the_width_is_refused() -> None:
    with pytest.raises(InputError, match="Rank 6 does not fit"):
        procrustes_rotation(torch.eye(D, dtype=torch.float64), 6)
