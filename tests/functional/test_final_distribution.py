import math

import numpy as np
import pytest
import torch

from logos_pl.functional.final_distribution import distribution, final_distribution, final_logits
from logos_pl.functional.unembedding import Unembedding, prepare

POS, D, VOCAB = 5, 6, 33


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize(("scale", "softcap"), [(1.0, None), (0.3, 2.0)])
def test_it_is_the_softmax_of_the_heads_logits_and_its_logarithm(
    bias: bool, scale: float, softcap: float | None
) -> None:
    generator = torch.Generator().manual_seed(3)
    final_x, weight, noise = (
        torch.randn(*shape, generator=generator, dtype=torch.float64) for shape in [(POS, D), (VOCAB, D), (VOCAB,)]
    )
    head = prepare(Unembedding(weight, noise if bias else None, scale, softcap), torch.float64)
    z = (final_x.numpy() @ weight.numpy().T + (noise.numpy() if bias else 0.0)) * scale
    z = z if softcap is None else softcap * np.tanh(z / softcap)
    p = np.exp(z) / np.exp(z).sum(-1, keepdims=True)
    torch.testing.assert_close(final_logits(final_x, head)[:, 0] * head.amplitude, torch.tensor(z))
    found = final_distribution(final_x, head)
    torch.testing.assert_close(found.p[:, 0], torch.tensor(p))
    torch.testing.assert_close(found.log_p[:, 0], torch.tensor(np.log(p)))


def test_logits_without_a_soft_cap_are_left_alone_and_others_get_no_second_copy() -> None:
    z = torch.randn(POS, 1, VOCAB, generator=torch.Generator().manual_seed(0))
    plain, capped = (prepare(Unembedding(torch.zeros(VOCAB, D), softcap=cap), torch.float32) for cap in (None, 3.0))
    kept, scaled = z.clone(), z.clone()
    distribution(kept, plain)
    distribution(scaled, capped)
    assert torch.equal(kept, z)
    torch.testing.assert_close(scaled, 3.0 * z, rtol=0, atol=0)


def test_some_of_the_positions_share_the_memory_of_all() -> None:
    head = prepare(Unembedding(torch.randn(VOCAB, D)), torch.float32)
    whole = final_distribution(torch.randn(POS, D), head)
    part = whole.at(slice(1, 3))
    assert part.p.shape == (2, 1, VOCAB)
    assert part.p.data_ptr() == whole.p[1:].data_ptr()
    assert part.log_p.data_ptr() == whole.log_p[1:].data_ptr()


def test_what_is_impossible_keeps_a_finite_logarithm() -> None:
    head = prepare(Unembedding(torch.eye(2)), torch.float32)
    found = final_distribution(torch.tensor([[0.0, -300.0]]), head)
    assert float(found.p[0, 0, 1]) == 0.0
    assert math.isclose(float(found.log_p[0, 0, 1]), -300.0)
