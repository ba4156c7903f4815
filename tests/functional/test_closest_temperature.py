import math

import numpy as np
import pytest
import torch

from logos_pl.functional.closest_temperature import closest_temperature

GRID = np.exp(np.linspace(math.log(0.1), math.log(10), 4001))


def kl_bits(z: torch.Tensor, log_p: torch.Tensor, temperatures: np.ndarray) -> np.ndarray:
    """KL(softmax(z/T) ‖ P) by definition, at every T."""
    scaled = z.numpy() / temperatures[:, None]
    scaled = scaled - scaled.max(-1, keepdims=True)
    log_q = scaled - np.log(np.exp(scaled).sum(-1, keepdims=True))
    return (np.exp(log_q) * (log_q - log_p.numpy())).sum(-1) / math.log(2)


def pairs(num: int, vocab: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(vocab)
    z = 3 * torch.randn(num, vocab, generator=generator, dtype=torch.float64)
    other = z * torch.linspace(0.2, 4, num)[:, None] + torch.randn(num, vocab, generator=generator, dtype=torch.float64)
    return z, torch.log_softmax(other, -1)


@pytest.mark.parametrize("vocab", [2, 5, 400])
def test_it_is_the_best_of_a_dense_grid_and_no_worse_than_any_of_it(vocab: int) -> None:
    z, log_p = pairs(12, vocab)
    temperature, left = closest_temperature(z, log_p)
    for i in range(12):
        curve = kl_bits(z[i], log_p[i], GRID)
        there = kl_bits(z[i], log_p[i], temperature[i : i + 1].numpy())
        assert float(left[i]) == pytest.approx(float(there[0]), abs=1e-12)
        assert float(left[i]) <= curve.min() + 1e-12
        assert float(temperature[i]) == pytest.approx(GRID[curve.argmin()], rel=2e-3)


@pytest.mark.parametrize("true", [0.1, 0.11, 0.5, 0.999, 1.0, 1.001, 3.0, 9.9, 10.0])
def test_a_mere_difference_of_scale_is_found_and_mended(true: float) -> None:
    z = torch.randn(4, 300, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    temperature, left = closest_temperature(z, torch.log_softmax(z / true, -1))
    torch.testing.assert_close(temperature, torch.full_like(temperature, true), rtol=1e-5, atol=0)
    assert float(left.max()) < 1e-9


@pytest.mark.parametrize(("true", "bound"), [(0.01, 0.1), (100.0, 10.0)])
def test_what_lies_beyond_the_range_gets_its_bound(true: float, bound: float) -> None:
    z = torch.randn(4, 300, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    temperature, _ = closest_temperature(z, torch.log_softmax(z / true, -1))
    assert temperature.tolist() == pytest.approx([bound] * 4, abs=1e-12)
    assert bool(((temperature >= 0.1) & (temperature <= 10)).all())


def test_of_two_valleys_the_deeper_one_is_found() -> None:
    # Cold, Q sits on the first token; at T = 4 it is spread over three. P likes both and what lies between less.
    z = torch.tensor([[8.0, 0.0, 0.0, 0.0, -60.0]], dtype=torch.float64)
    found_two = 0
    for level in np.linspace(0.0, 6.0, 25):
        log_p = torch.log_softmax(torch.tensor([[level, 0.0, 0.0, 0.0, -30.0]], dtype=torch.float64), -1)
        curve = kl_bits(z[0], log_p[0], GRID)
        found_two += int(((curve[1:-1] < curve[:-2]) & (curve[1:-1] <= curve[2:])).sum() + (curve[0] < curve[1]) > 1)
        assert float(closest_temperature(z, log_p)[1]) <= curve.min() + 1e-9
    assert found_two > 0


def test_each_position_is_searched_by_itself() -> None:
    z, log_p = pairs(12, 50)
    together = closest_temperature(z, log_p)
    for i in range(12):
        for whole, alone in zip(together, closest_temperature(z[i : i + 1], log_p[i : i + 1]), strict=True):
            torch.testing.assert_close(whole[i : i + 1], alone, rtol=1e-6, atol=1e-12)


def test_the_same_distribution_has_temperature_one_even_where_every_temperature_does() -> None:
    flat = torch.zeros(1, 10, dtype=torch.float64)
    certain = torch.tensor([[900.0] + [0.0] * 9], dtype=torch.float64)
    for z in (flat, certain):
        temperature, left = closest_temperature(z, torch.log_softmax(z, -1))
        assert temperature.tolist() == [1.0]
        assert left.tolist() == [0.0]


def test_logits_that_are_not_finite_leave_nan_and_the_others_alone() -> None:
    z, log_p = pairs(3, 20)
    clean = closest_temperature(z, log_p)
    z[1, 4] = math.nan
    temperature, left = closest_temperature(z, log_p)
    assert left.isnan().tolist() == [False, True, False]
    assert float(temperature[1]) == 1.0
    assert bool((temperature[[0, 2]] == clean[0][[0, 2]]).all())
