import math

import pytest
import torch

from logos_pl.gates.token_sums import TokenSums
from logos_pl.lenses.skipping import NextTokenSums


def sums(nats: list[float], num_tokens: int) -> NextTokenSums:
    return NextTokenSums(torch.tensor(nats, dtype=torch.float64), num_tokens)


def test_batches_add_up_in_fp64() -> None:
    metric = TokenSums(2)
    metric.update(sums([2.0**40, 1.0], 3))
    for _ in range(3):
        metric.update(sums([2.0**-12, 0.5], 1))
    assert metric.nats.tolist() == [2.0**40 + 3 * 2.0**-12, 2.5]
    assert metric.compute().num_tokens == 6
    assert metric.compute().by_row == [math.inf, pytest.approx(math.exp(2.5 / 6), rel=1e-15)]


def test_reset_forgets_everything() -> None:
    metric = TokenSums(1)
    metric.update(sums([5.0], 2))
    metric.reset()
    metric.update(sums([1.0], 1))
    assert metric.compute() == (1, [pytest.approx(math.e, rel=1e-15)])


def test_no_tokens_have_no_perplexity() -> None:
    metric = TokenSums(1)
    metric.update(sums([0.0], 0))
    with pytest.raises(ValueError, match="no token"):
        metric.compute()


def test_states_stay_in_fp64_when_the_module_around_them_is_cast() -> None:
    module = torch.nn.ModuleList([TokenSums(3)]).half()
    assert module[0].nats.dtype == torch.float64
