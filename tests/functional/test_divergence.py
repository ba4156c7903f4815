import math

import numpy as np
import pytest
import torch
from torch import Tensor

from logos_pl.functional import blocks
from logos_pl.functional.divergence import NATS_TO_BITS, entropy_nats, kl_nats, row_divergence
from logos_pl.functional.lens_loss import lens_loss
from logos_pl.functional.unembedding import Unembedding


def log_softmax(z: np.ndarray) -> np.ndarray:
    z = z - z.max(-1, keepdims=True)
    return z - np.log(np.exp(z).sum(-1, keepdims=True))


def logits(x: Tensor, head: Unembedding) -> np.ndarray:
    z = x.double().numpy() @ head.weight.double().numpy().T
    if head.bias is not None:
        z = z + head.bias.double().numpy()
    z = z * head.scale
    return z if head.softcap is None else head.softcap * np.tanh(z / head.softcap)


def test_one_bit_is_the_logarithm_of_two() -> None:
    assert math.log(2) * NATS_TO_BITS == pytest.approx(1.0, abs=1e-15)


def test_a_fair_coin_and_a_biased_one_diverge_as_computed_by_hand() -> None:
    log_p, log_q = torch.tensor([0.5, 0.5]).double().log(), torch.tensor([0.25, 0.75]).double().log()
    assert float(kl_nats(log_p, log_q)) == pytest.approx(0.5 * math.log(2) + 0.5 * math.log(2 / 3), abs=1e-15)
    assert float(kl_nats(log_q, log_p)) == pytest.approx(0.25 * math.log(0.5) + 0.75 * math.log(1.5), abs=1e-15)
    assert float(entropy_nats(log_p)) == pytest.approx(math.log(2), abs=1e-15)


def test_impossible_tokens_add_nothing_and_a_token_only_q_excludes_adds_infinity() -> None:
    inf = math.inf
    log_p = torch.tensor([[math.log(0.5), math.log(0.5), -inf], [0.0, -inf, -inf]], requires_grad=True)
    log_q = torch.tensor([[math.log(0.25), math.log(0.75), -inf], [math.log(0.5), math.log(0.5), -inf]])
    kl = kl_nats(log_p, log_q)
    torch.testing.assert_close(kl, torch.tensor([0.5 * math.log(2) + 0.5 * math.log(2 / 3), math.log(2)]))
    torch.testing.assert_close(entropy_nats(log_p), torch.tensor([math.log(2), 0.0]))
    kl.sum().backward()
    assert log_p.grad is not None
    assert bool(log_p.grad.isfinite().all())
    assert float(kl_nats(log_q[1], log_p.detach()[1])) == inf
    assert float(kl_nats(torch.tensor([0.0, -200.0]), torch.tensor([0.0, -inf]))) == 0.0


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize(("scale", "softcap"), [(1.0, None), (0.3, 2.0)])
@pytest.mark.parametrize("block_bytes", [1, 5 * 320, 2**28])
@pytest.mark.parametrize("slice_bytes", [1, 2**20])
def test_every_quantity_equals_numpy_in_fp64_whatever_the_blocks(
    bias: bool, scale: float, softcap: float | None, block_bytes: int, slice_bytes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(blocks, "_CPU_SLICE_BYTES", slice_bytes)
    generator = torch.Generator().manual_seed(5)
    x, final_x, weight, noise = (
        torch.randn(*shape, generator=generator, dtype=torch.float64) for shape in [(4, 9, 6), (9, 6), (40, 6), (40,)]
    )
    inv_tau = torch.tensor([0.5, 1.0, 1.5, 2.0], dtype=torch.float64)
    head = Unembedding(weight, noise if bias else None, scale, softcap)
    found = row_divergence(x, final_x, inv_tau, head, block_bytes=block_bytes)
    log_p = log_softmax(logits(final_x, head))
    log_q = log_softmax(logits(x, head) * inv_tau.numpy()[:, None, None])
    wanted = {
        "kl_to_final_bits": (np.exp(log_q) * (log_q - log_p)).sum(-1) / np.log(2),
        "kl_from_final_bits": (np.exp(log_p) * (log_p - log_q)).sum(-1) / np.log(2),
        "top1_agree": log_q.argmax(-1) == log_p.argmax(-1),
        "entropy_bits": -(np.exp(log_q) * log_q).sum(-1) / np.log(2),
    }
    for name, value in wanted.items():
        torch.testing.assert_close(getattr(found, name), torch.tensor(value), rtol=1e-11, atol=1e-13)


def test_the_forward_divergence_is_the_loss_in_bits() -> None:
    x, final_x, weight = torch.randn(3, 5, 6), torch.randn(5, 6), torch.randn(40, 6)
    inv_tau, head = torch.tensor([0.5, 1.0, 2.0]), Unembedding(weight)
    found = row_divergence(x, final_x, inv_tau, head).kl_from_final_bits
    torch.testing.assert_close(found, lens_loss(x, final_x, inv_tau, head).kl_nats * NATS_TO_BITS)


def test_both_divergences_are_accurate_near_zero_in_fp32() -> None:
    generator = torch.Generator().manual_seed(0)
    weight, final_x = torch.randn(4000, 64, generator=generator) / 4, torch.randn(16, 64, generator=generator)
    x = final_x[None] + 1e-3 * torch.randn(1, 16, 64, generator=generator)
    found = row_divergence(x, final_x, torch.ones(1), Unembedding(weight))
    exact = row_divergence(x.double(), final_x.double(), torch.ones(1), Unembedding(weight))
    assert exact.kl_to_final_bits.dtype == torch.float64
    assert float((found.kl_to_final_bits - exact.kl_to_final_bits).abs().max()) < 5e-8
    assert float((found.kl_from_final_bits - exact.kl_from_final_bits).abs().max()) < 5e-8


def test_of_equal_logits_the_lowest_id_is_first() -> None:
    weight = torch.eye(4)
    final_x = torch.tensor([[0.0, 2.0, 0.0, 2.0]])
    x = torch.tensor([[[0.0, 1.0, 0.0, 1.0]], [[0.0, 1.0, 0.0, 2.0]], [[3.0, 3.0, 0.0, 0.0]]])
    assert row_divergence(x, final_x, torch.ones(3), Unembedding(weight)).top1_agree[:, 0].tolist() == [
        True,
        False,
        False,
    ]


def test_a_temperature_that_merges_two_logits_does_not_change_which_is_first() -> None:
    lower = torch.linspace(1.9, 1.99, 9)
    upper = torch.nextafter(lower, torch.tensor(2.0))
    assert bool((lower * 0.55 == upper * 0.55).any())
    found = row_divergence(
        torch.stack([lower, upper], -1)[None],
        torch.tensor([[0.0, 1.0]]).expand(9, 2),
        torch.tensor([0.55]),
        Unembedding(torch.eye(2)),
    )
    assert bool(found.top1_agree.all())


def test_a_value_that_is_not_finite_reaches_the_caller_at_its_own_position_only() -> None:
    x = torch.randn(2, 3, 4)
    x[1, 2, 0] = math.nan
    found = row_divergence(x, torch.randn(3, 4), torch.ones(2), Unembedding(torch.randn(9, 4)))
    finite = found.kl_to_final_bits.isfinite() & found.kl_from_final_bits.isfinite() & found.entropy_bits.isfinite()
    assert finite.tolist() == [[True, True, True], [True, True, False]]


def test_nothing_is_kept_for_a_gradient() -> None:
    x = torch.randn(2, 3, 4, requires_grad=True)
    found = row_divergence(x, torch.randn(3, 4), torch.ones(2), Unembedding(torch.randn(9, 4)))
    assert not found.kl_to_final_bits.requires_grad
