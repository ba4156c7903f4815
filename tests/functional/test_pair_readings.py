import math

import numpy as np
import pytest
import torch
from torch import Tensor

from logos_pl.functional import blocks, unembedding
from logos_pl.functional.pair_readings import pair_readings
from logos_pl.functional.unembedding import Unembedding


def logits(x: Tensor, head: Unembedding) -> np.ndarray:
    z = head.weight.double().numpy() @ x.double().numpy()
    z = (z + (0 if head.bias is None else head.bias.double().numpy())) * head.scale
    return z if head.softcap is None else head.softcap * np.tanh(z / head.softcap)


def log_softmax(z: np.ndarray) -> np.ndarray:
    return z - z.max() - math.log(np.exp(z - z.max()).sum())


def first(z: np.ndarray, k: int) -> list[int]:
    return sorted(range(len(z)), key=lambda i: (-z[i], i))[:k]


@pytest.mark.parametrize("vocab", [2, 9, 10, 2001])
@pytest.mark.parametrize("block_bytes", [1, 2001 * 4 * 5, 2**28])
@pytest.mark.parametrize(("bias", "scale", "softcap"), [(False, 1.0, None), (True, 0.5, 16.0)])
@pytest.mark.parametrize("head_dtype", [torch.float32, torch.bfloat16])
def test_every_reading_equals_its_definition(
    vocab: int,
    block_bytes: int,
    bias: bool,
    scale: float,
    softcap: float | None,
    head_dtype: torch.dtype,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(blocks, "_CPU_SLICE_BYTES", 2001 * 4 * 2)
    generator = torch.Generator().manual_seed(vocab)
    # Multiples of 1/8: every logit is exact in any precision.
    x_a, weight, noise = (
        (torch.randn(*shape, generator=generator) * 8).round() / 8 for shape in [(3, 4, 12), (vocab, 12), (vocab,)]
    )
    x_b = x_a + (torch.randn(x_a.shape, generator=generator) * 2).round() / 8
    head = Unembedding(weight.to(head_dtype), noise.to(head_dtype) if bias else None, scale, softcap)
    targets = torch.randint(0, vocab, (4,), generator=generator)
    targets[2] = -1
    found = pair_readings(x_a, x_b, head, targets, block_bytes=block_bytes)
    for row, pos in np.ndindex(3, 4):
        a, b = logits(x_a[row, pos], head), logits(x_b[row, pos], head)
        log_p, log_q = log_softmax(a), log_softmax(b)
        kl_bits = (np.exp(log_p) * (log_p - log_q)).sum() / math.log(2)
        assert float(found.kl_bits[row, pos]) == pytest.approx(kl_bits, abs=1e-5)
        assert bool(found.top1_agree[row, pos]) == (first(a, 1) == first(b, 1))
        top_a, top_b = set(first(a, 10)), set(first(b, 10))
        assert float(found.top10_jaccard[row, pos]) == pytest.approx(len(top_a & top_b) / len(top_a | top_b), abs=1e-6)
        target = int(targets[pos])
        ranks = (0, 0) if target < 0 else (1 + int((a > a[target]).sum()), 1 + int((b > b[target]).sum()))
        assert (int(found.target_rank_a[row, pos]), int(found.target_rank_b[row, pos])) == ranks


def test_the_same_twice_does_not_differ() -> None:
    x = torch.randn(2, 3, 16)
    found = pair_readings(x, x, Unembedding(torch.randn(3000, 16)), torch.tensor([5, 6, 7]))
    assert float(found.kl_bits.abs().max()) < 1e-9
    assert bool(found.top1_agree.all())
    assert bool((found.top10_jaccard == 1).all())
    assert bool((found.target_rank_a == found.target_rank_b).all())


def test_a_value_that_is_not_finite_changes_its_own_place_only() -> None:
    x_a, x_b, head, targets = (
        torch.randn(2, 3, 8),
        torch.randn(2, 3, 8),
        Unembedding(torch.randn(900, 8)),
        torch.arange(3),
    )
    clean = pair_readings(x_a, x_b, head, targets)
    x_a[1, 2, 0] = math.nan
    found = pair_readings(x_a, x_b, head, targets)
    assert bool(found.kl_bits[1, 2].isnan())
    assert int(found.target_rank_a[1, 2]) == 0
    elsewhere = torch.ones(2, 3, dtype=torch.bool)
    elsewhere[1, 2] = False
    for before, after in zip(clean, found, strict=True):
        assert bool((before[elsewhere] == after[elsewhere]).all())
    assert int(found.target_rank_b[1, 2]) == int(clean.target_rank_b[1, 2])


def test_both_logits_count_towards_the_budget(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []

    def recorded(x: Tensor, head: unembedding.PreparedHead) -> Tensor:
        z = block_logits(x, head)
        sizes.append(z.nbytes)
        return z

    block_logits = unembedding.block_logits
    monkeypatch.setattr("logos_pl.functional.pair_readings.block_logits", recorded)
    x, head = torch.randn(3, 5, 8), Unembedding(torch.randn(900, 8))
    pair_readings(x, x, head, torch.zeros(5, dtype=torch.int64), block_bytes=900 * 4 * 13)
    # Two of five positions × three rows, twice, fit.
    assert [size // (900 * 4) for size in sizes] == [6, 6, 6, 6, 3, 3]
