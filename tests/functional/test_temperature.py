import pytest
import torch

from logos_pl.functional import blocks
from logos_pl.functional.temperature import temperature_slope
from logos_pl.functional.unembedding import Unembedding, unembed


def divergence(inv_tau: torch.Tensor, x: torch.Tensor, final_x: torch.Tensor, head: Unembedding) -> torch.Tensor:
    """KL(P_final ‖ Q) in nats, dense: [rows, pos]."""
    log_p = torch.log_softmax(unembed(final_x, head), -1)
    log_q = torch.log_softmax(unembed(x, head) * inv_tau[:, None, None], -1)
    return (log_p.exp() * (log_p - log_q)).sum(-1)


@pytest.mark.parametrize(("scale", "softcap"), [(1.0, None), (0.3, 2.0)])
@pytest.mark.parametrize("block_bytes", [1, 5 * 320, 2**28])
@pytest.mark.parametrize("slice_bytes", [1, 700, 2**20])
def test_both_derivatives_equal_automatic_differentiation_in_fp64_whatever_the_blocks(
    scale: float, softcap: float | None, block_bytes: int, slice_bytes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(blocks, "_CPU_SLICE_BYTES", slice_bytes)
    generator = torch.Generator().manual_seed(5)
    x, final_x, weight, bias = (
        torch.randn(*shape, generator=generator, dtype=torch.float64) for shape in [(4, 9, 6), (9, 6), (40, 6), (40,)]
    )
    head = Unembedding(weight, bias, scale, softcap)
    inv_tau = torch.tensor([0.2, 1.0, 1.5, 3.0], dtype=torch.float64)
    found = temperature_slope(x, final_x, inv_tau, head, block_bytes=block_bytes)
    for at in range(9):
        free = inv_tau.clone().requires_grad_()
        values = divergence(free, x, final_x, head)[:, at]
        (first,) = torch.autograd.grad(values.sum(), free, create_graph=True)
        (second,) = torch.autograd.grad(first.sum(), free)
        torch.testing.assert_close(found.slope[:, at], first.detach(), rtol=1e-10, atol=1e-12)
        torch.testing.assert_close(found.curvature[:, at], second, rtol=1e-10, atol=1e-12)


def test_a_constant_shared_by_all_logits_does_not_drown_their_spread() -> None:
    generator = torch.Generator().manual_seed(0)
    x, weight = torch.randn(1, 8, 6, generator=generator), torch.randn(40, 6, generator=generator)
    plain = Unembedding(weight, torch.zeros(40))
    raised = Unembedding(weight, torch.full((40,), 512.0))
    final_x = torch.randn(8, 6, generator=generator)
    a, b = (temperature_slope(x, final_x, torch.ones(1), head) for head in (plain, raised))
    torch.testing.assert_close(a.slope, b.slope, rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(a.curvature, b.curvature, rtol=1e-3, atol=1e-3)
