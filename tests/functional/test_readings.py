import math
from typing import NamedTuple

import numpy as np
import pytest
import torch
from torch import Tensor

from logos_pl.functional import blocks, final_distribution, unembedding
from logos_pl.functional.divergence import row_divergence
from logos_pl.functional.readings import RowReadings, row_readings
from logos_pl.functional.unembedding import Unembedding


def raw_logits(x: Tensor, head: Unembedding) -> np.ndarray:
    """Logits of one vector, in fp64."""
    z = head.weight.double().numpy() @ x.double().numpy()
    if head.bias is not None:
        z = z + head.bias.double().numpy()
    z = z * head.scale
    return z if head.softcap is None else head.softcap * np.tanh(z / head.softcap)


def log_softmax(z: np.ndarray) -> np.ndarray:
    return z - z.max() - math.log(np.exp(z - z.max()).sum())


def alone(z: np.ndarray, final: np.ndarray, inv_tau: float, target: int, contrast: int, k: int) -> dict[str, object]:
    """Every reading of one row at one position, by definition."""
    log_p, log_q = log_softmax(final), log_softmax(z * inv_tau)
    p, q = np.exp(log_p), np.exp(log_q)
    order = np.lexsort((np.arange(len(z)), -z)).tolist()
    a, b = z - z.mean(), final - final.mean()
    out: dict[str, object] = {
        "top_ids": order[:k],
        "top_p": [q[i] for i in order[:k]],
        "rest_mass": q[order[k:]].sum(),
        "entropy_bits": -(q * log_q).sum() / math.log(2),
        "kl_to_final_bits": (q * (log_q - log_p)).sum() / math.log(2),
        "kl_from_final_bits": (p * (log_p - log_q)).sum() / math.log(2),
        "cos_to_final": (a * b).sum() / math.sqrt((a * a).sum() * (b * b).sum()),
        "contrast_p": math.nan if contrast < 0 else q[contrast],
        "finite": True,
    }
    if target < 0:
        return out | {"target_rank": 0} | dict.fromkeys(["target_p", "target_nll_bits", "target_logit_gap"], math.nan)
    return out | {
        "target_rank": 1 + int((z > z[target]).sum()),
        "target_p": q[target],
        "target_nll_bits": -log_q[target] / math.log(2),
        "target_logit_gap": inv_tau * (z[target] - np.delete(z, target).max()),
    }


class Case(NamedTuple):
    x: Tensor
    final_x: Tensor
    inv_tau: Tensor
    head: Unembedding
    targets: Tensor
    contrasts: Tensor


def case(
    vocab: int,
    *,
    bias: bool = False,
    scale: float = 1.0,
    softcap: float | None = None,
    dtype: torch.dtype = torch.float32,
    head_dtype: torch.dtype = torch.float32,
    num_rows: int = 3,
    num_pos: int = 5,
) -> Case:
    generator = torch.Generator().manual_seed(vocab)
    d = 16
    x = torch.randn(num_rows, num_pos, d, generator=generator, dtype=torch.float64)
    weight = torch.randn(vocab, d, generator=generator, dtype=torch.float64)
    noise = torch.randn(vocab, generator=generator, dtype=torch.float64)
    if dtype == torch.float32 or head_dtype != torch.float64:
        # Multiples of 1/8: every logit is exact in any precision, so that ids and ranks must be, ties included.
        x, weight, noise = ((t * 8).round() / 8 for t in (x, weight, noise))
    targets = torch.randint(0, vocab, (num_pos,), generator=generator)
    contrasts = torch.randint(0, vocab, (num_pos,), generator=generator)
    head = Unembedding(weight.to(head_dtype), noise.to(head_dtype) if bias else None, scale, softcap)
    x = x.to(dtype)
    # One position asks for what the first row puts first.
    targets[0] = int(np.argmax(raw_logits(x[0, 0], head)))
    targets[1], contrasts[2] = -1, -1
    return Case(x, x[-1].flip(-1), torch.tensor([1.0, 0.37, 2.5])[:num_rows], head, targets, contrasts)


def assert_equals_brute_force(found: RowReadings, of: Case, k: int, tolerance: float) -> None:
    for row in range(of.x.shape[0]):
        for pos in range(of.x.shape[1]):
            z, final = raw_logits(of.x[row, pos], of.head), raw_logits(of.final_x[pos], of.head)
            asked = int(of.targets[pos]), int(of.contrasts[pos])
            for name, wanted in alone(z, final, float(of.inv_tau[row]), *asked, k).items():
                value = getattr(found, name)[row, pos].tolist()
                if name in ("top_ids", "target_rank", "finite"):
                    assert value == wanted, (name, row, pos)
                else:
                    assert value == pytest.approx(wanted, abs=tolerance, rel=tolerance, nan_ok=True), (name, row, pos)


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("scale", [1.0, 0.3])
@pytest.mark.parametrize("softcap", [None, 2.0, 30.0])
@pytest.mark.parametrize("vocab", [11, 3001])
def test_every_reading_equals_its_definition_for_every_kind_of_head(
    bias: bool, scale: float, softcap: float | None, vocab: int
) -> None:
    of = case(vocab, bias=bias, scale=scale, softcap=softcap, dtype=torch.float64, head_dtype=torch.float64)
    assert_equals_brute_force(row_readings(*of, top_k=10), of, 10, 1e-10)


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize(("scale", "softcap"), [(1.0, None), (0.5, None), (1.0, 32.0), (0.5, 16.0)])
@pytest.mark.parametrize("vocab", [11, 3001])
@pytest.mark.parametrize("head_dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_fp32_readings_are_good_to_a_hundred_thousandth_of_a_bit(
    bias: bool, scale: float, softcap: float | None, vocab: int, head_dtype: torch.dtype, dtype: torch.dtype
) -> None:
    of = case(vocab, bias=bias, scale=scale, softcap=softcap, dtype=dtype, head_dtype=head_dtype)
    found = row_readings(*of, top_k=10)
    # Only a full-precision head is widened for inputs in fp64.
    assert found.kl_to_final_bits.dtype == (dtype if head_dtype == torch.float32 else torch.float32)
    assert_equals_brute_force(found, of, 10, 1e-5)


@pytest.mark.parametrize("block_bytes", [1, 3001 * 4 * 2, 3001 * 4 * 7, 2**28])
@pytest.mark.parametrize("slice_bytes", [1, 3001 * 4 * 2, 2**20])
def test_the_blocks_do_not_matter(block_bytes: int, slice_bytes: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blocks, "_CPU_SLICE_BYTES", slice_bytes)
    of = case(3001, bias=True)
    assert_equals_brute_force(row_readings(*of, top_k=7, block_bytes=block_bytes), of, 7, 1e-5)


@pytest.mark.parametrize(("vocab", "k"), [(2, 1), (2, 2), (3, 3), (10, 10), (65, 1), (704, 10), (705, 10), (2048, 64)])
def test_small_vocabularies_and_any_k_up_to_all_of_them(vocab: int, k: int) -> None:
    of = case(vocab)
    found = row_readings(*of, top_k=k)
    assert_equals_brute_force(found, of, k, 1e-5)
    if k == vocab:
        assert bool((found.rest_mass == 0).all())


def test_divergences_and_entropy_are_those_of_row_divergence_to_the_last_bit() -> None:
    of = case(3001, bias=True, softcap=30.0)
    found, wanted = row_readings(*of, top_k=10), row_divergence(of.x, of.final_x, of.inv_tau, of.head)
    for name in ("kl_to_final_bits", "kl_from_final_bits", "entropy_bits"):
        torch.testing.assert_close(getattr(found, name), getattr(wanted, name), rtol=0, atol=0)


def test_the_last_row_does_not_diverge_from_itself() -> None:
    generator = torch.Generator().manual_seed(0)
    x, weight = torch.randn(9, 40, 64, generator=generator), torch.randn(8000, 64, generator=generator)
    found = row_readings(
        x, x[-1], torch.ones(9), Unembedding(weight), -torch.ones(40).long(), -torch.ones(40).long(), top_k=10
    )
    assert float(found.kl_to_final_bits[-1].abs().max()) < 1e-9
    assert float(found.kl_from_final_bits[-1].abs().max()) < 1e-9
    assert float((found.cos_to_final[-1] - 1).abs().max()) < 1e-6


def test_a_constant_added_to_all_logits_changes_neither_cosine_nor_rank_nor_divergence() -> None:
    of = case(3001)
    # Logits that are multiples of 1/64 stay exact under the shift: what may change is only what is done with them.
    head = Unembedding((of.head.weight * 8).round() / 8, torch.zeros(3001))
    x, final_x = (of.x * 8).round() / 8, (of.final_x * 8).round() / 8
    shifted = head._replace(bias=torch.full((3001,), 4096.0))
    here = row_readings(x, final_x, of.inv_tau, head, of.targets, of.contrasts, top_k=10)
    there = row_readings(x, final_x, of.inv_tau, shifted, of.targets, of.contrasts, top_k=10)
    for name in ("target_rank", "top_ids", "finite"):
        assert bool((getattr(here, name) == getattr(there, name)).all())
    for name in ("cos_to_final", "target_logit_gap"):
        torch.testing.assert_close(getattr(here, name), getattr(there, name), rtol=0, atol=1e-6, equal_nan=True)
    # At τ ≠ 1 the product with 1/τ has to be rounded at the size of the constant.
    for name in ("kl_to_final_bits", "kl_from_final_bits", "entropy_bits"):
        torch.testing.assert_close(getattr(here, name)[0], getattr(there, name)[0], rtol=0, atol=1e-6)


@pytest.mark.parametrize("block_bytes", [1, 3001 * 4 * 7, 2**28])
def test_followed_tokens_have_their_rank_and_probability_by_definition(block_bytes: int) -> None:
    of = case(3001, bias=True)
    followed = torch.tensor([[0, 3000, 7], [5, -1, -1], [9, 8, 3], [1, 2, 3], [40, 40, 3]])
    found = row_readings(*of, top_k=3, followed=followed, block_bytes=block_bytes)
    assert found.followed_rank.shape == found.followed_p.shape == (3, 5, 3)
    for row in range(3):
        for pos in range(5):
            z = raw_logits(of.x[row, pos], of.head)
            q = np.exp(log_softmax(z * float(of.inv_tau[row])))
            for i, id_ in enumerate(followed[pos].tolist()):
                if id_ >= 0:
                    assert int(found.followed_rank[row, pos, i]) == 1 + int((z > z[id_]).sum())
                    assert float(found.followed_p[row, pos, i]) == pytest.approx(q[id_], rel=1e-5, abs=1e-7)


def test_a_row_that_is_not_finite_has_no_followed_rank() -> None:
    of = case(11)
    of.x[1, 2, 0] = torch.inf
    found = row_readings(*of, top_k=3, followed=torch.arange(10).reshape(5, 2))
    assert (found.followed_rank == 0).nonzero().tolist() == [[1, 2, 0], [1, 2, 1]]


def test_following_changes_no_other_reading() -> None:
    of = case(3001)
    plain, more = row_readings(*of, top_k=5), row_readings(*of, top_k=5, followed=torch.arange(10).reshape(5, 2))
    for name in RowReadings._fields:
        if not name.startswith("followed"):
            torch.testing.assert_close(getattr(more, name), getattr(plain, name), rtol=0, atol=0, equal_nan=True)
    assert plain.followed_rank.shape == (3, 5, 0)


def identity_readings(
    logits: list[list[float]],
    target: int = -1,
    inv_tau: float = 1.0,
    top_k: int = 2,
    dtype: torch.dtype = torch.float32,
) -> RowReadings:
    """Readings of one row whose logits at each position are given."""
    z = torch.tensor(logits, dtype=dtype)
    num_pos, vocab = z.shape
    head = Unembedding(torch.eye(vocab, dtype=dtype))
    targets = torch.full((num_pos,), target)
    return row_readings(
        z[None], torch.zeros_like(z), torch.tensor([inv_tau]), head, targets, torch.full((num_pos,), -1), top_k=top_k
    )


def test_of_equal_logits_the_lowest_id_is_listed_also_at_the_last_place() -> None:
    found = identity_readings([[0.0, 1.0, 1.0, 1.0], [1.0, 0.0, 2.0, 1.0], [5.0, 5.0, 5.0, 5.0]])
    assert found.top_ids[0].tolist() == [[1, 2], [2, 0], [0, 1]]


def test_equal_logits_share_a_rank_and_leave_no_gap() -> None:
    found = identity_readings([[0.0, 1.0, 3.0, 3.0], [0.0, 1.0, 3.0, 2.0], [4.0, 1.0, 3.0, 4.0]], target=2)
    assert found.target_rank[0].tolist() == [1, 1, 3]
    assert found.target_logit_gap[0].tolist() == [0.0, 1.0, -1.0]


def test_rank_order_and_gap_are_read_before_the_temperature_can_merge_two_logits() -> None:
    lower = torch.linspace(1.9, 1.99, 9)
    upper = torch.nextafter(lower, torch.tensor(2.0))
    assert bool((lower * 0.55 == upper * 0.55).any())
    found = identity_readings(torch.stack([lower, upper], -1).tolist(), target=0, inv_tau=0.55)
    assert found.top_ids[0, :, 0].tolist() == [1] * 9
    assert found.target_rank[0].tolist() == [2] * 9
    assert bool((found.target_logit_gap < 0).all())


def test_the_improbable_does_not_underflow() -> None:
    found = identity_readings([[0.0, -700.0, -300.0, -720.0]], target=1)
    assert float(found.target_p) == 0.0
    assert float(found.target_nll_bits) == pytest.approx(700 / math.log(2), rel=1e-6)
    assert int(found.target_rank) == 3


def test_the_rest_keeps_its_digits_however_small_it_is() -> None:
    found = identity_readings([[0.0, -1.0, -60.0, -61.0]])
    wanted = (math.exp(-60) + math.exp(-61)) / (1 + math.exp(-1) + math.exp(-60) + math.exp(-61))
    assert float(found.rest_mass) == pytest.approx(wanted, rel=1e-5)


def test_logits_that_are_all_equal_have_the_cosine_zero() -> None:
    assert identity_readings([[3.0, 3.0, 3.0]]).cos_to_final.tolist() == [[0.0]]


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("vocab", [20, 3001])
def test_a_value_that_is_not_finite_is_flagged_at_its_own_place_and_changes_no_other(bad: float, vocab: int) -> None:
    of = case(vocab)
    clean = row_readings(*of, top_k=10)
    of.x[1, 3, 0] = bad
    found = row_readings(*of, top_k=10)
    expected = torch.ones(3, 5, dtype=torch.bool)
    expected[1, 3] = False
    assert bool((found.finite == expected).all())
    assert int(found.target_rank[1, 3]) == 0
    for before, after in zip(clean, found, strict=True):
        torch.testing.assert_close(before[expected], after[expected], rtol=0, atol=0, equal_nan=True)
    assert all(len(set(ids.tolist())) == 10 for ids in found.top_ids.flatten(0, 1))
    assert bool(((found.top_ids >= 0) & (found.top_ids < vocab)).all())


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_single_logit_that_is_not_finite_is_enough(bad: float) -> None:
    of = case(300)
    bias = torch.zeros(300)
    bias[299] = bad
    found = row_readings(of.x, of.final_x, of.inv_tau, of.head._replace(bias=bias), of.targets, of.contrasts, top_k=3)
    assert not bool(found.finite.any())
    assert not bool(found.target_rank.any())


def test_no_position_and_no_row_is_no_reading() -> None:
    of = case(30)
    none = torch.empty(0, dtype=torch.int64)
    found = row_readings(of.x[:, :0], of.final_x[:0], of.inv_tau, of.head, none, none, top_k=4)
    assert found.top_ids.shape == (3, 0, 4)
    found = row_readings(of.x[:0], of.final_x, of.inv_tau[:0], of.head, of.targets, of.contrasts, top_k=4)
    assert found.top_p.shape == (0, 5, 4)


def test_nothing_is_kept_for_a_gradient() -> None:
    of = case(30)
    assert not row_readings(of.x.requires_grad_(), *of[1:], top_k=4).entropy_bits.requires_grad


def test_no_logits_beyond_the_budget_are_ever_held(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []

    def recorded(x: Tensor, head: unembedding.PreparedHead) -> Tensor:
        z = unscaled_logits(x, head)
        sizes.append(z.nbytes)
        return z

    unscaled_logits = unembedding.unscaled_logits
    for module in (unembedding, final_distribution):
        monkeypatch.setattr(module, "unscaled_logits", recorded)
    row_readings(*case(3001), top_k=10, block_bytes=3001 * 4 * 7)
    # Two of five positions × three rows fit; each block comes with the final distribution at its positions.
    assert [size // (3001 * 4) for size in sizes] == [2, 6, 2, 6, 1, 3]
