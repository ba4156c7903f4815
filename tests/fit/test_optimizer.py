"""AdamW and its learning rate along a fit."""

import pytest
import torch

from logos_pl.fit.optimizer import optimizer_of
from logos_pl.lenses.translator import Translators
from tests.tiny import resolved


def rates(count: int, total_steps: int, **settings: object) -> list[float]:
    """The learning rate of each of `count` steps, and what it is after them."""
    made = optimizer_of(Translators(3, 16, 4).parameters(), resolved(model_id="tiny", **settings), total_steps)
    found = []
    for _ in range(count):
        found.append(made["optimizer"].param_groups[0]["lr"])
        made["optimizer"].step()
        made["lr_scheduler"]["scheduler"].step()  # type: ignore[index]
    return [*found, made["optimizer"].param_groups[0]["lr"]]


def test_the_learning_rate_warms_up_and_ends_at_zero() -> None:
    found = rates(100, 100, lr=1e-3, anneal="cosine")
    assert found[:10] == pytest.approx([1e-3 * (step + 1) / 10 for step in range(10)])
    assert max(found) == found[9] == pytest.approx(1e-3)
    assert found[9:] == sorted(found[9:], reverse=True)
    assert found[-1] == 0


def test_to_be_averaged_the_learning_rate_stays_after_its_warm_up() -> None:
    """Beyond its end, too: a fit that is given more text goes on."""
    assert rates(30, 20, lr=1e-3) == pytest.approx([5e-4, *[1e-3] * 30])


def test_factors_decay_and_biases_and_temperatures_do_not() -> None:
    lens = Translators(3, 16, 4)
    with torch.no_grad():
        for parameter in lens.parameters():
            parameter += torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1))
    before = {name: parameter.clone() for name, parameter in lens.named_parameters()}
    made = optimizer_of(lens.parameters(), resolved(model_id="tiny", weight_decay=0.5, lr=0.1), 1)
    for parameter in lens.parameters():
        parameter.grad = torch.zeros_like(parameter)
    made["optimizer"].step()
    for name, parameter in lens.named_parameters():
        kept = 1 - 0.1 * 0.5 if name in ("U", "V") else 1
        torch.testing.assert_close(parameter.detach(), before[name] * kept, rtol=1e-6, atol=0)


def test_what_is_frozen_is_left_out_and_the_moments_decay_as_asked() -> None:
    lens = Translators(3, 16, 4)
    lens.log_tau.requires_grad_(False)
    made = optimizer_of(lens.parameters(), resolved(model_id="tiny", betas=(0.8, 0.9)), 10)
    groups = made["optimizer"].param_groups
    assert [len(group["params"]) for group in groups] == [2, 1]
    assert {group["betas"] for group in groups} == {(0.8, 0.9)}
