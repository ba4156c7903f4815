"""Hooks see the very tensors of a forward pass, act inside their ``with`` only, and leave nothing behind."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from logos_pl.lm.hooks import first_tensor, gathering, output_tensor, replacing, stopping_after


class Named(nn.Module):
    """Takes its input by keyword and returns a tuple."""

    def forward(self, *, hidden_states: Tensor) -> tuple[Tensor, str]:
        return 2.0 * hidden_states, "beside"


class Listed(nn.Module):
    def forward(self, x: Tensor) -> list[Tensor | None]:
        return [x + 1.0, None]


def chain() -> nn.Sequential:
    return nn.Sequential(nn.Linear(3, 3), nn.Tanh(), nn.Linear(3, 3))


def num_hooks(model: nn.Module) -> int:
    return sum(len(module._forward_hooks) + len(module._forward_pre_hooks) for module in model.modules())


def test_what_is_gathered_is_what_modules_read_and_write_and_no_copy() -> None:
    model, x = chain(), torch.randn(2, 3)
    read: list[Tensor | None] = []
    wrote: list[Tensor | None] = []
    with gathering([(model[0], read.append), (model[2], read.append)], [(model[1], wrote.append)]):
        y = model(x)
    assert read[0] is x
    assert read[1] is wrote[0]
    assert torch.equal(wrote[0], torch.tanh(model[0](x)))
    assert torch.equal(model[2](wrote[0]), y)


def test_inputs_by_keyword_and_outputs_in_tuples_are_gathered_too() -> None:
    module, x = Named(), torch.ones(2)
    seen: list[Tensor | None] = []
    with gathering([(module, seen.append)], [(module, seen.append)]):
        y, _ = module(hidden_states=x)
    assert seen[0] is x
    assert seen[1] is y


def test_a_module_without_a_tensor_gives_none() -> None:
    class Silent(nn.Module):
        def forward(self, count: int) -> dict[str, int]:
            return {"count": count}

    module = Silent()
    seen: list[Tensor | None] = []
    with gathering([(module, seen.append)], [(module, seen.append)]):
        module(3)
    assert seen == [None, None]


def test_gathering_changes_no_number_whatever_the_takers_return() -> None:
    model, x = chain(), torch.randn(2, 3)
    wanted = model(x)
    with gathering([(model[0], id)], [(model[1], lambda _: torch.zeros(2, 3))]):
        assert torch.equal(model(x), wanted)


def test_every_call_is_gathered_and_none_after_the_with() -> None:
    module = nn.Linear(3, 3)
    seen: list[Tensor | None] = []
    with gathering(writes=[(module, seen.append)]):
        module(torch.ones(3))
        module(torch.ones(3))
    module(torch.ones(3))
    assert len(seen) == 2


def test_a_replaced_output_is_what_later_modules_read_and_keeps_what_stands_beside_it() -> None:
    model, other = chain(), torch.randn(2, 3)
    with replacing(model[1], other):
        assert torch.equal(model(torch.randn(2, 3)), model[2](other))
    named, listed = Named(), Listed()
    with replacing(named, other), replacing(listed, other):
        assert named(hidden_states=torch.ones(2)) == (other, "beside")
        found = listed(torch.ones(2))
    assert isinstance(found, list)
    assert found[0] is other
    assert found[1] is None


def test_nothing_runs_after_the_module_that_a_forward_stops_at() -> None:
    model = chain()
    ran: list[str] = []
    takes = [(module, lambda _, name=name: ran.append(name)) for name, module in model.named_children()]
    with gathering(writes=takes), stopping_after(model[1]):
        model(torch.ones(3))
        pytest.fail("the forward has not been stopped")
    assert ran == ["0", "1"]


def test_of_two_stops_the_one_that_is_reached_ends_its_own_block() -> None:
    model = chain()
    after_inner = False
    with stopping_after(model[0]):
        with stopping_after(model[2]):
            model(torch.ones(3))
        after_inner = True
    assert not after_inner
    with stopping_after(model[2]):
        with stopping_after(model[0]):
            model(torch.ones(3))
        after_inner = True
    assert after_inner


def test_a_stop_that_is_never_reached_changes_nothing() -> None:
    model, x = chain(), torch.randn(3)
    with stopping_after(nn.Tanh()):
        y = model(x)
    assert torch.equal(y, model(x))


CONTEXTS: dict[str, Callable[[nn.Sequential], AbstractContextManager[None]]] = {
    "gathering": lambda model: gathering([(model[0], print)], [(model[0], id), (model[1], id)]),
    "replacing": lambda model: replacing(model[1], torch.ones(3)),
    "stopping": lambda model: stopping_after(model[2]),
}


@pytest.mark.parametrize("name", CONTEXTS)
def test_hooks_are_set_inside_and_removed_behind(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    model = chain()
    with CONTEXTS[name](model):
        assert num_hooks(model) > 0
        model(torch.ones(3))
    assert num_hooks(model) == 0


@pytest.mark.parametrize("name", CONTEXTS)
def test_hooks_are_removed_also_when_the_forward_fails(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    model = chain()
    with pytest.raises(RuntimeError, match="shape"), CONTEXTS[name](model):
        model(torch.ones(7))
    assert num_hooks(model) == 0


def test_hooks_are_removed_also_when_one_of_them_raises_or_cannot_be_set() -> None:
    model = chain()

    def refuse(_: Tensor | None) -> None:
        raise ValueError("not this one")

    with pytest.raises(ValueError, match="not this one"), gathering(writes=[(model[0], id), (model[1], refuse)]):
        model(torch.ones(3))
    assert num_hooks(model) == 0

    class Closed(nn.Module):
        def register_forward_hook(self, *_: Any, **__: Any) -> Any:
            raise AttributeError("no hooks here")

    with pytest.raises(AttributeError, match="no hooks"), gathering([(model[0], id)], [(model[1], id), (Closed(), id)]):
        pytest.fail("a hook on a module that takes none")
    assert num_hooks(model) == 0


def test_the_first_tensor_is_positional_then_hidden_states_then_any() -> None:
    a, b = torch.zeros(1), torch.ones(1)
    assert first_tensor((None, a), {"hidden_states": b}) is a
    assert first_tensor((), {"other": a, "hidden_states": b}) is b
    assert first_tensor((), {"other": a}) is a
    assert first_tensor((1,), {}) is None


def test_an_output_is_a_tensor_or_the_first_of_a_tuple() -> None:
    a = torch.zeros(1)
    assert output_tensor(a) is a
    assert output_tensor((a, None)) is a
    assert output_tensor({"a": a}) is None
