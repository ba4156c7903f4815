"""What modules read and wrote, as it was at the time."""

import pytest
import torch
from torch import Tensor, nn

from logos_pl.lm.trace import arrives, record_calls, same_bits


class InPlace(nn.Module):
    def forward(self, *, hidden_states: Tensor) -> tuple[Tensor, None]:
        return hidden_states.add_(1.0), None


def test_what_was_read_is_kept_as_it_was_before_work_in_place() -> None:
    module = InPlace()
    x = torch.zeros(2)
    calls, result = record_calls(lambda: module(hidden_states=x), [module])
    assert torch.equal(calls[0].read, torch.zeros(2))
    assert torch.equal(calls[0].wrote, torch.ones(2))
    assert isinstance(result, tuple)
    x.add_(5.0)
    assert torch.equal(calls[0].wrote, torch.ones(2))


def test_calls_come_in_the_order_in_which_modules_finish() -> None:
    inner, outer = nn.Linear(2, 2), nn.Sequential()
    outer.append(inner)
    calls, _ = record_calls(lambda: outer(torch.ones(2)), [outer, inner])
    assert [call.module for call in calls] == [inner, outer]


def test_hooks_are_removed_also_after_a_failure() -> None:
    module = nn.Linear(2, 2)
    with pytest.raises(RuntimeError):
        record_calls(lambda: module(torch.ones(3)), [module])
    assert not module._forward_hooks
    assert not module._forward_pre_hooks


def test_same_bits_is_about_values_and_shapes() -> None:
    a = torch.randn(3)
    assert same_bits(a.bfloat16(), a.bfloat16().float())
    assert not same_bits(a, torch.nextafter(a, torch.tensor(9.0)))
    assert not same_bits(a, a[None])


def test_what_is_read_in_a_narrower_type_arrives_rounded_and_not_otherwise() -> None:
    a = torch.randn(3)
    assert arrives(a, a.bfloat16())
    assert arrives(a.bfloat16(), a.bfloat16().float())
    assert not arrives(a.bfloat16(), a)
    assert not arrives(a, a.bfloat16() * 2)
