"""What the modules of a model read and write during one forward: the evidence that discovery and proof rest on."""

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn


class Call(NamedTuple):
    """One call of a module: copies of the first tensor it read and of the first it returned."""

    module: nn.Module
    read: Tensor
    wrote: Tensor


def first_tensor(args: tuple[Any, ...], kwargs: dict[str, Any] | None = None) -> Tensor | None:
    """The first tensor among positional arguments, else ``hidden_states`` or the first among keywords."""
    named = kwargs or {}
    values = [*args, named.get("hidden_states"), *named.values()]
    return next((value for value in values if isinstance(value, Tensor)), None)


def output_tensor(output: object) -> Tensor | None:
    """A module's result: the tensor itself, or the first of a tuple."""
    if isinstance(output, tuple | list):
        return first_tensor(tuple(output))
    return output if isinstance(output, Tensor) else None


def record_calls(run: Callable[[], object], modules: Iterable[nn.Module]) -> tuple[list[Call], object]:
    """Runs ``run`` without gradient and returns the calls of ``modules`` in order, with what ``run`` returned.

    Tensors are copied when they are read or written, so that work in place later on is seen as a difference.
    """
    calls: list[Call] = []
    entered: list[tuple[nn.Module, Tensor | None]] = []

    def enter(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        tensor = first_tensor(args, kwargs)
        entered.append((module, None if tensor is None else tensor.clone()))

    def leave(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: object) -> None:
        _, read = entered.pop()
        wrote = output_tensor(output)
        if read is not None and wrote is not None:
            calls.append(Call(module, read, wrote.clone()))

    handles = []
    try:
        for module in modules:
            handles.append(module.register_forward_pre_hook(enter, with_kwargs=True))
            handles.append(module.register_forward_hook(leave, with_kwargs=True))
        with torch.no_grad():
            result = run()
    finally:
        for handle in handles:
            handle.remove()
    return calls, result


def same_bits(a: Tensor, b: Tensor) -> bool:
    """Equal shape and equal values; a cast to a wider type keeps the value and so counts as equal."""
    return a.shape == b.shape and torch.equal(a.float(), b.to(a.device).float())


def arrives(wrote: Tensor, read: Tensor) -> bool:
    """Whether ``read`` is ``wrote``, rounded on the way where it is read in a narrower type (a stream kept in fp32)."""
    return same_bits(wrote.to(read.dtype), read)
