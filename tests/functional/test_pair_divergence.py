"""How far two lenses differ against float64, whatever the blocks."""

import math

import pytest
import torch
from torch import Tensor

from logos_pl.functional.pair_divergence import Decoded, pair_divergence
from logos_pl.functional.unembedding import Unembedding

ROWS, POS, D, VOCAB = 3, 7, 6, 41


def make(seed: int) -> Decoded:
    generator = torch.Generator().manual_seed(seed)
    return Decoded(torch.randn(ROWS, POS, D, generator=generator), 0.5 + torch.rand(ROWS, generator=generator))


def log_p(of: Decoded, head: Unembedding) -> Tensor:
    z = of.x.double() @ head.weight.double().T
    z = (z if head.bias is None else z + head.bias.double()) * head.scale
    z = z if head.softcap is None else head.softcap * torch.tanh(z / head.softcap)
    return torch.log_softmax(z * of.inv_tau.double()[:, None, None], dim=-1)


@pytest.mark.parametrize("block_bytes", [1, 3 * VOCAB * 4, 2**28])
@pytest.mark.parametrize(("bias", "scale", "softcap"), [(False, 1.0, None), (True, 0.5, 4.0)])
def test_both_divergences_and_the_overlap_are_those_of_float64(
    block_bytes: int, bias: bool, scale: float, softcap: float | None
) -> None:
    generator = torch.Generator().manual_seed(9)
    weight, noise = torch.randn(VOCAB, D, generator=generator), torch.randn(VOCAB, generator=generator)
    head = Unembedding(weight, noise if bias else None, scale, softcap)
    a, b = make(1), make(2)
    found = pair_divergence(a, b, head, block_bytes=block_bytes)
    log_a, log_b = log_p(a, head), log_p(b, head)
    wanted_ab = (log_a.exp() * (log_a - log_b)).sum(-1) / math.log(2)
    wanted_ba = (log_b.exp() * (log_b - log_a)).sum(-1) / math.log(2)
    torch.testing.assert_close(found.kl_ab_bits.double(), wanted_ab, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(found.kl_ba_bits.double(), wanted_ba, atol=1e-5, rtol=1e-5)
    assert torch.equal(found.top1_agree, log_a.argmax(-1) == log_b.argmax(-1))
    assert bool(found.top1_agree.any())
    assert not bool(found.top1_agree.all())


def test_a_lens_does_not_differ_from_itself() -> None:
    head = Unembedding(torch.randn(VOCAB, D, generator=torch.Generator().manual_seed(9)))
    found = pair_divergence(make(1), make(1), head)
    assert float(found.kl_ab_bits.abs().max()) == 0
    assert bool(found.top1_agree.all())
