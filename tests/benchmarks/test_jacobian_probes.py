import pytest
import torch

from benchmarks.jacobian_probes import ESTIMATES, errors

WIDTH = 8


@pytest.mark.parametrize("name", list(ESTIMATES))
def test_every_way_estimates_the_mean_and_does_so_better_with_more_passes(name: str) -> None:
    of = torch.eye(WIDTH) + 0.3 * torch.randn(4, 2, WIDTH, WIDTH, generator=torch.Generator().manual_seed(0))
    mean = torch.stack([ESTIMATES[name](of, 4, seed) for seed in range(400)]).mean(0)
    assert float((mean - of.mean(0)).norm() / of.mean(0).norm()) < 0.1, "without bias"
    few, many = (
        torch.stack([errors(of, ESTIMATES[name], probes, seed) for seed in range(20)]).mean() for probes in (4, 8)
    )
    assert many < few


def test_all_dimensions_and_all_orthogonal_vectors_are_exact() -> None:
    of = torch.randn(3, 2, WIDTH, WIDTH, generator=torch.Generator().manual_seed(1))
    for name in ("dimensions", "orthogonal"):
        assert float(errors(of, ESTIMATES[name], WIDTH, 0).max()) < 1e-5
