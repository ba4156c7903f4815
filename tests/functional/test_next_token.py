import math

import numpy as np
import pytest
import torch

from logos_pl.functional import blocks
from logos_pl.functional.next_token import next_token_nats
from logos_pl.functional.unembedding import Unembedding


def logits(x: torch.Tensor, head: Unembedding) -> np.ndarray:
    z = x.double().numpy() @ head.weight.double().numpy().T * head.scale
    if head.bias is not None:
        z = z + head.bias.double().numpy() * head.scale
    return z if head.softcap is None else head.softcap * np.tanh(z / head.softcap)


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize(("scale", "softcap"), [(1.0, None), (0.3, 2.0)])
@pytest.mark.parametrize("block_bytes", [1, 5 * 320, 2**28])
@pytest.mark.parametrize("slice_bytes", [1, 700, 2**20])
def test_it_equals_numpy_in_fp64_whatever_the_blocks(
    bias: bool, scale: float, softcap: float | None, block_bytes: int, slice_bytes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(blocks, "_CPU_SLICE_BYTES", slice_bytes)
    generator = torch.Generator().manual_seed(5)
    x, weight, noise = (
        torch.randn(*shape, generator=generator, dtype=torch.float64) for shape in [(4, 9, 6), (40, 6), (40,)]
    )
    inv_tau = torch.tensor([0.5, 1.0, 1.5, 2.0], dtype=torch.float64)
    targets = torch.randint(40, (9,), generator=generator)
    head = Unembedding(weight, noise if bias else None, scale, softcap)
    z = logits(x, head) * inv_tau.numpy()[:, None, None]
    wanted = np.log(np.exp(z).sum(-1)) - z[:, np.arange(9), targets.numpy()]
    found = next_token_nats(x, inv_tau, targets, head, block_bytes=block_bytes)
    torch.testing.assert_close(found, torch.tensor(wanted), rtol=1e-11, atol=1e-12)


def test_a_token_the_lens_rules_out_costs_much_and_not_infinitely_much() -> None:
    head = Unembedding(torch.eye(3))
    found = next_token_nats(torch.tensor([[[300.0, 0.0, 0.0]]]), torch.ones(1), torch.tensor([1]), head)
    assert float(found) == 300.0


def test_what_is_not_finite_reaches_the_caller_at_its_own_position() -> None:
    x = torch.randn(2, 3, 4)
    x[1, 2, 0] = math.nan
    found = next_token_nats(x, torch.ones(2), torch.tensor([0, 1, 2]), Unembedding(torch.randn(9, 4)))
    assert found.isfinite().tolist() == [[True, True, True], [True, True, False]]


def test_a_target_outside_the_vocabulary_is_refused() -> None:
    with pytest.raises((IndexError, RuntimeError)):
        next_token_nats(torch.randn(1, 1, 4), torch.ones(1), torch.tensor([9]), Unembedding(torch.randn(9, 4)))


def test_no_tokens_have_no_values_and_nothing_is_kept_for_a_gradient() -> None:
    head = Unembedding(torch.randn(9, 4))
    assert next_token_nats(torch.randn(2, 0, 4), torch.ones(2), torch.empty(0, dtype=torch.long), head).shape == (2, 0)
    x = torch.randn(2, 3, 4, requires_grad=True)
    assert not next_token_nats(x, torch.ones(2), torch.tensor([0, 1, 2]), head).requires_grad
