import math

import numpy as np
import pytest
import torch

from logos_pl.functional import last_row as module
from logos_pl.functional.last_row import last_row


def kl_bits(z: np.ndarray, model: np.ndarray, temperature: float = 1.0) -> float:
    log_q, log_p = (a - a.max() - math.log(np.exp(a - a.max()).sum()) for a in (z / temperature, model))
    return float((np.exp(log_q) * (log_q - log_p)).sum() / math.log(2))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("slice_bytes", [1, 8 * 700 * 2, 2**20])
def test_divergence_and_temperature_equal_a_dense_grid_in_fp64(
    dtype: torch.dtype, slice_bytes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_SLICE_BYTES", slice_bytes)
    generator = torch.Generator().manual_seed(2)
    z = 3 * torch.randn(5, 700, generator=generator, dtype=dtype)
    model = z / torch.tensor([[0.3], [0.9], [1.0], [1.2], [4.0]]) + torch.randn(
        5, 700, generator=generator, dtype=dtype
    )
    found = last_row(z, model)
    grid = np.exp(np.linspace(math.log(0.1), math.log(10), 1001))
    for i in range(5):
        a, b = z[i].double().numpy(), model[i].double().numpy()
        curve = [kl_bits(a, b, t) for t in grid]
        assert float(found.kl_to_final_bits[i]) == pytest.approx(kl_bits(a, b), abs=1e-10)
        assert float(found.temp_est[i]) == pytest.approx(grid[int(np.argmin(curve))], rel=5e-3)
        assert float(found.kl_after_temp_bits[i]) == pytest.approx(min(curve), abs=1e-5)
        assert bool(found.top1_agree[i]) == (a.argmax() == b.argmax())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_the_models_own_logits_need_no_temperature(dtype: torch.dtype) -> None:
    z = (4 * torch.randn(6, 900, generator=torch.Generator().manual_seed(0))).to(dtype)
    found = last_row(z, z.clone())
    assert found.temp_est.tolist() == pytest.approx([1.0] * 6, abs=1e-12)
    assert float(found.kl_to_final_bits.abs().max()) == 0.0
    assert float(found.kl_after_temp_bits.abs().max()) == 0.0
    assert bool(found.top1_agree.all())


def test_rounding_and_a_constant_leave_the_temperature_at_one() -> None:
    z = 4 * torch.randn(6, 900, generator=torch.Generator().manual_seed(0))
    found = last_row(z, z + 7 + 1e-6 * torch.randn(6, 900, generator=torch.Generator().manual_seed(1)))
    assert found.temp_est.tolist() == pytest.approx([1.0] * 6, abs=1e-3)
    assert float(found.kl_after_temp_bits.max()) < 1e-6


def test_of_equal_logits_the_lowest_id_is_first() -> None:
    z, model = torch.tensor([[0.0, 1.0, 1.0], [1.0, 1.0, 0.0]]), torch.tensor([[0.0, 2.0, 1.0], [1.0, 2.0, 0.0]])
    assert last_row(z, model).top1_agree.tolist() == [True, False]


def test_no_prompt_is_no_row() -> None:
    assert last_row(torch.empty(0, 9), torch.empty(0, 9)).temp_est.shape == (0,)
