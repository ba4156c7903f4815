"""Fitted temperatures against a dense search in float64."""

import math
from collections.abc import Sequence

import numpy as np
import pytest
import torch
from torch import Tensor

from logos_pl.errors import InputError, RunError
from logos_pl.lenses.calibration import INV_TAU_BOUNDS, TemperedLens, fit_temperatures
from logos_pl.lenses.head import Head
from logos_pl.lenses.norm import NormLens
from logos_pl.lm.frozen import FrozenLM
from logos_pl.lm.residuals import residuals as residual_stream
from tests.lenses.test_tuned import random_lens
from tests.lenses.toy_head import D_MODEL, residuals, toy_head


def mean_kl(logits: Tensor, teacher: Tensor, inv_tau: float) -> float:
    log_p, log_q = torch.log_softmax(teacher, -1), torch.log_softmax(logits * inv_tau, -1)
    return float((log_p.exp() * (log_p - log_q)).sum(-1).mean())


def searched(logits: Tensor, teacher: Tensor) -> float:
    """1/τ at the lowest mean KL: a grid over the whole range, then golden sections, in float64."""
    logits, teacher = logits.double(), teacher.double()
    grid = np.geomspace(*INV_TAU_BOUNDS, 60)
    best = int(np.argmin([mean_kl(logits, teacher, at) for at in grid]))
    low, high = math.log(grid[max(best - 1, 0)]), math.log(grid[min(best + 1, 59)])
    golden = (math.sqrt(5) - 1) / 2
    while high - low > 1e-7:
        a, b = high - golden * (high - low), low + golden * (high - low)
        if mean_kl(logits, teacher, math.exp(a)) < mean_kl(logits, teacher, math.exp(b)):
            high = b
        else:
            low = a
    return math.exp((low + high) / 2)


@pytest.mark.parametrize("block_bytes", [1, 1000, 2**28])
@pytest.mark.parametrize("spread", [0.2, 1.0, 5.0])
def test_every_rows_temperature_is_that_of_a_dense_search(block_bytes: int, spread: float) -> None:
    lens = NormLens(toy_head())
    h = residuals(5, num_pos=30)
    # Rows that look more and more like the last, so that the best temperatures differ and lie inside the range.
    h = h[-1:] + spread * torch.tensor([1.0, 0.8, 0.5, 0.2, 0.0])[:, None, None] * h
    found = fit_temperatures(lens, h, block_bytes=block_bytes)
    logits = lens.logits(h, range(5))
    wanted = [searched(logits[row], logits[-1]) for row in range(4)]
    assert found.tolist() == pytest.approx([*wanted, 1.0], rel=1e-4)
    assert float(found[-1]) == 1.0


def test_on_the_demo_the_temperatures_are_those_of_a_dense_search_and_help_at_every_row() -> None:
    lm = FrozenLM.load("demo", dtype="float32")
    assert lm.tokenizer is not None
    text = (
        "The capital of France is called Paris. A lion is an animal. The opposite of hot is cold. Two plus two is four."
    )
    ids = lm.tokenizer(text, return_tensors="pt").input_ids
    rows = list(range(lm.num_blocks + 1))
    h = residual_stream(lm, ids, None, rows).flatten(1, 2)
    lens = NormLens(Head(lm.anatomy))
    found = fit_temperatures(lens, h)
    logits = lens.logits(h, rows)
    assert found[:-1].tolist() == pytest.approx([searched(logits[row], logits[-1]) for row in rows[:-1]], rel=1e-4)
    tempered = TemperedLens(lens, found).logits(h, rows)
    for row in rows[:-1]:
        assert mean_kl(tempered[row], logits[-1], 1.0) < mean_kl(logits[row], logits[-1], 1.0)
    assert torch.equal(tempered[-1], logits[-1])


def test_a_lens_with_temperatures_of_its_own_gets_the_factor_that_is_missing() -> None:
    lens, h = random_lens(), residuals(5, num_pos=20)
    found = fit_temperatures(lens, h)
    logits = lens.logits(h, range(5))
    wanted = [searched(logits[row], logits[-1]) for row in range(4)]
    assert found[:-1].tolist() == pytest.approx(wanted, rel=1e-4)


def test_the_fit_takes_few_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    from logos_pl.lenses import calibration

    calls: list[int] = []
    inner = calibration._slopes

    def counted(*args: object) -> object:
        calls.append(1)
        return inner(*args)

    monkeypatch.setattr(calibration, "_slopes", counted)
    h = residuals(5, num_pos=30)
    fit_temperatures(NormLens(toy_head()), h[-1:] + h * torch.tensor([0.9, 0.8, 0.5, 0.2, 0.0])[:, None, None])
    assert len(calls) <= 12


def test_logits_that_speak_against_the_model_get_the_flattest_temperature() -> None:
    lens = NormLens(toy_head(num_blocks=1))
    h = residuals(1, num_pos=10)
    logits = lens.logits(h, [1])
    low = mean_kl(-logits[0].double(), logits[0].double(), INV_TAU_BOUNDS[0])
    assert low < mean_kl(-logits[0].double(), logits[0].double(), 0.1)

    class Reversed(NormLens):
        def decode_inputs(self, h: Tensor, rows: Sequence[int]) -> tuple[Tensor, Tensor]:
            x, inv_tau = super().decode_inputs(h, rows)
            inv_tau[[row == 0 for row in rows]] *= -1
            return x, inv_tau

    found = fit_temperatures(Reversed(toy_head(num_blocks=1)), h.expand(2, -1, -1))
    assert found.tolist() == pytest.approx([INV_TAU_BOUNDS[0], 1.0], rel=1e-4)


def test_a_row_whose_logits_are_all_alike_keeps_its_temperature() -> None:
    head = toy_head(num_blocks=2)
    assert head.projection is not None
    for bias in (head.unembedding.bias, head.projection[1], head._norms.beta):
        assert bias is not None
        bias.detach().zero_()
    h = torch.cat([torch.zeros(1, 6, D_MODEL), residuals(2, num_pos=6)])
    found = fit_temperatures(NormLens(head), h)
    assert float(found[0]) == 1.0
    assert float(found[1]) != 1.0


def test_values_that_are_not_finite_are_refused_by_row() -> None:
    h = residuals(5)
    h[2, 3, 0] = math.nan
    with pytest.raises(RunError, match=r"rows \[2\]"):
        fit_temperatures(NormLens(toy_head()), h)


@pytest.mark.parametrize("shape", [(5, 0), (4, 3)])
def test_too_few_rows_or_positions_are_refused(shape: tuple[int, int]) -> None:
    with pytest.raises(InputError, match=r"all 5 rows of at least one position"):
        fit_temperatures(NormLens(toy_head()), torch.randn(*shape, D_MODEL))


def test_a_tempered_lens_divides_each_rows_logits_and_keeps_the_inner_lens_own_temperature() -> None:
    inner, h = random_lens(), residuals(4)
    inv_tau = torch.tensor([0.5, 2.0, 0.25, 3.0, 1.0])
    lens, rows = TemperedLens(inner, inv_tau), [3, 0, 4, 1]
    torch.testing.assert_close(lens.logits(h, rows), inner.logits(h, rows) * inv_tau[rows][:, None, None])
    assert lens.head is inner.head
    assert torch.equal(lens.logits(h, rows)[2], inner.logits(h, rows)[2])


def test_rows_the_model_does_not_have_are_refused_by_the_tempered_lens() -> None:
    with pytest.raises(InputError, match="0 to 4"):
        TemperedLens(NormLens(toy_head()), torch.ones(5)).decode_inputs(residuals(1), [-1])


@pytest.mark.parametrize(
    "inv_tau",
    [[1.0, 1.0, 1.0, 1.0, 0.5], [1.0, 0.0, 1.0, 1.0, 1.0], [1.0, -2.0, 1.0, 1.0, 1.0], [1.0, math.nan, 1.0, 1.0, 1.0]],
)
def test_temperatures_that_are_none_are_refused(inv_tau: list[float]) -> None:
    with pytest.raises(InputError, match="1 for the last row"):
        TemperedLens(NormLens(toy_head()), torch.tensor(inv_tau))


def test_temperatures_for_another_number_of_rows_are_refused() -> None:
    with pytest.raises(InputError, match="each of the 5 rows"):
        TemperedLens(NormLens(toy_head()), torch.ones(4))
